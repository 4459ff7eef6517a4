"""What is not published, and hostile folders that are not read."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
from doubles.published import FILES, TINY, another, published, rewrite
from doubles.small_models import DAMAGES, Touch, torch_bytes

import main
import model
import utils
from commands import publish
from utils import UserError, read_json, write_json


def refused(run: Path, out: Path, capsys) -> str:
    """The one line of the subcommand's refusal."""
    capsys.readouterr()
    assert main.main(["publish", run.name, "--save_path", str(run.parent), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


@pytest.fixture
def run(run_folder, tmp_path) -> Path:
    """A run to be changed, in a folder of runs."""
    return another(run_folder, tmp_path / "exp/run", TINY)


# --- refused, or interrupted ---------------------------------------------------------------------


def test_a_run_without_weights_is_refused(run, tmp_path, capsys):
    (run / "model.pth").unlink()
    said = refused(run, tmp_path / "out", capsys)
    assert "has no model.pth: its training did not end; go on with --resume run" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


def test_an_ensemble_is_refused_and_its_members_are_named(run, tmp_path, capsys):
    rewrite(run / "configuration.json", members=[{"name": "text"}, {"name": "audio"}])
    assert "publish its members, each by itself: text, audio" in refused(
        run, tmp_path / "o", capsys
    )


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    said = refused(run, tmp_path / "out", capsys)
    assert "should be a new or empty folder, it holds mine.txt" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert "it is a file" in refused(run, tmp_path / "out/mine.txt", capsys)


def test_an_empty_folder_is_filled(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert sorted(p.name for p in published(run, tmp_path / "out").iterdir()) == FILES


def test_an_unknown_run_is_refused(tmp_path, capsys):
    assert main.main(["publish", "none", "--save_path", str(tmp_path), "--out", "x"]) == 2
    assert "no run 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("result.json", {"scores": 5}),
        ("result.json", {"scores": {"accuracy": {"value": "x"}}}),
        ("result.json", {"calibration": []}),
        ("configuration.json", {"corpus": {"folder": "x", "fingerprint": "y"}}),
        ("configuration.json", {"split": 5}),
        ("configuration.json", {"text_encoder": 5}),
        ("protocol.json", {"sets": {"train": {"x": "\ud800"}}}),
    ],
)
def test_files_that_no_run_wrote_are_refused_in_one_line(name, changed, run, tmp_path, capsys):
    (run / name).write_text(json.dumps(read_json(run / name) | changed))
    assert refused(run, tmp_path / "out", capsys).startswith(f"error: {run}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


@pytest.mark.parametrize("count", range(5))
def test_an_interruption_leaves_nothing(count, run, tmp_path, monkeypatch):
    left, write = [count], utils.write_atomic

    def stopping(path: Path, data: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(path, data)

    for module in (utils, publish):
        monkeypatch.setattr(module, "write_atomic", stopping)
    assert (
        main.main(
            ["publish", "run", "--save_path", str(run.parent), "--out", str(tmp_path / "out")]
        )
        == 130
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


def test_a_full_disk_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(run, tmp_path / "out", capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


def test_weights_that_read_back_otherwise_are_not_published(run, tmp_path, monkeypatch, capsys):
    write = utils.write_atomic

    def flipping(path: Path, data: object) -> None:
        if Path(path).name == "model.safetensors":
            data = bytearray(data)
            data[-1] ^= 1
        write(path, data)

    monkeypatch.setattr(utils, "write_atomic", flipping)
    assert "reads back differently" in refused(run, tmp_path / "out", capsys)
    assert not (tmp_path / "out").exists()


# --- hostile folders -----------------------------------------------------------------------------


@pytest.fixture
def small_folder(tmp_path) -> Path:
    """A published model of little weight."""
    model.publish(tmp_path / "small", model.build("lstm_audio", TINY, seed=1), TINY)
    return tmp_path / "small"


def unloadable(folder: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        model.load(folder)
    assert "\n" not in str(caught.value)


SHOULD = "model.safetensors should hold tensors as safetensors; it is damaged or something else"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_tensors_are_refused_in_one_line(damage, small_folder):
    path = small_folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    unloadable(small_folder, SHOULD)


def test_code_in_a_renamed_pickle_is_not_run(small_folder):
    path = small_folder / "model.safetensors"
    for data in (
        torch_bytes({"weight": Touch(small_folder / "made")}),
        pickle.dumps(Touch(small_folder / "made")),
    ):
        path.write_bytes(data)
        unloadable(small_folder, SHOULD)
    state = model.build("lstm_audio", TINY, seed=1).state_dict()
    path.write_bytes(torch_bytes(state))  # a good one is none here, either
    unloadable(small_folder, SHOULD)
    assert not (small_folder / "made").exists()


def with_header(path: Path, change, body: bytes | None = None) -> None:
    """Write tensors again with another header: a dict, or the bytes themselves."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = change(json.loads(data[8:end]))
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    rest = data[end:] if body is None else body
    path.write_bytes(struct.pack("<Q", len(header)) + header + rest)


def each(header: dict, **entry: object) -> dict:
    return {
        name: value if name == "__metadata__" else value | entry for name, value in header.items()
    }


HEADERS = {
    "terabytes": lambda h: each(h, shape=[2**40], data_offsets=[0, 2**42]),
    "a shape of terabytes": lambda h: each(h, shape=[2**62, 2**3]),
    "a shape below 0": lambda h: each(h, shape=[-1, 4]),
    "one place for all": lambda h: each(h, shape=[1], dtype="F32", data_offsets=[0, 4]),
    "an unknown type": lambda h: each(h, dtype="F1024"),
    "no dict": lambda h: [],
    "nested too deep": lambda h: b"[" * 100_000,
    "no JSON": lambda h: b"{" * 40,
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_lies_is_refused(change, small_folder):
    with_header(small_folder / "model.safetensors", change)
    unloadable(small_folder, SHOULD)


@pytest.mark.parametrize("length", [0, 2**31, 2**42, 2**64 - 1])
def test_a_header_of_terabytes_is_refused(length, small_folder):
    path = small_folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    unloadable(small_folder, SHOULD)


def test_tensors_of_other_shapes_names_and_kinds_are_named(small_folder):
    path, good = small_folder / "model.safetensors", (small_folder / "model.safetensors")
    whole = good.read_bytes()
    with_header(path, lambda h: each(h, shape=[0, 7], data_offsets=[0, 0]), b"")
    unloadable(small_folder, r"safetensors does not fit .*config.json: .* is 0x7, should be ")
    path.write_bytes(whole)
    with_header(
        path,
        lambda h: {f"{name}\n" if name[0] != "_" else name: value for name, value in h.items()},
    )
    unloadable(small_folder, "standardised.count is missing; ")
    path.write_bytes(whole)
    with_header(
        path,
        lambda h: (
            each(h, **{})
            | {
                name: value | {"dtype": "I32"}
                for name, value in h.items()
                if value.get("dtype") == "F32"
            }
        ),
    )
    unloadable(small_folder, "is torch.int32, should be torch.float32")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"hidden_size": 10**12}, "no model can be built from .*config.json"),
        ({"hidden_size": 16}, r"model.safetensors does not fit .*config.json: .* and \d+ more$"),
        ({"model": "mat"}, "no 'mat' in models/"),
        ({"x": "\ud800"}, "config.json holds what is no JSON"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changed, match, small_folder):
    (small_folder / "config.json").write_text(json.dumps(TINY | changed))
    unloadable(small_folder, match)


def test_a_config_that_names_no_model_is_none_of_2022(small_folder):
    write_json(small_folder / "config.json", {"model_type": "bert", "hidden_size": 4})
    unloadable(small_folder, "config.json names no model; .* one of: .*mate")


def test_a_missing_half_is_named(small_folder):
    (small_folder / "model.safetensors").unlink()
    unloadable(small_folder, "cannot read .*model.safetensors: No such file")


def test_a_folder_of_both_kinds_or_neither_is_refused(small_folder, tmp_path):
    unloadable(
        tmp_path,
        "cannot read .*configuration.json, of a run, or config.json, of a "
        "published model: neither is there",
    )
    model.save(small_folder, model.build("lstm_audio", TINY, seed=2), TINY)
    unloadable(small_folder, "both are there, it should be one")
    (small_folder / "configuration.json").unlink()  # the configuration decides, not the weights
    loaded, _ = model.load(small_folder)
    wanted = model.build("lstm_audio", TINY, seed=1).state_dict()
    assert model.serialise(loaded.state_dict()) == model.serialise(wanted)
