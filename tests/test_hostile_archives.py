"""Archives and pickles that are small and become large, or never end."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.hostile import SMALL, within

import model
from features.signal import vectors_2022
from utils import UserError


@pytest.fixture
def saved(tmp_path) -> Path:
    model.save(tmp_path / "run", model.build("mate", SMALL, seed=1), SMALL)
    (tmp_path / "run/model.pth.b2sum").unlink(missing_ok=True)
    return tmp_path / "run"


def archive(folder: Path, change, pack: int = zipfile.ZIP_STORED) -> None:
    """Write model.pth again, with its pickle changed."""
    with zipfile.ZipFile(folder / "model.pth") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(folder / "model.pth", "w", pack) as new:
        for name, data in parts.items():
            new.writestr(name, change(data) if name.endswith("/data.pkl") else data)


def same_tuples(depth: int) -> bytes:
    """A dict with a key that is a tuple of a tuple twice, of a tuple twice, ...: 2**depth steps."""
    steps = b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(depth))
    return b"\x80\x02})q\x00" + steps + b"K\x01s."


def test_the_key_is_a_tuple_that_names_one_tuple_twice():
    [key] = pickle.loads(same_tuples(3))
    assert key == ((((), ()), ((), ())), (((), ()), ((), ())))


BOMBS = {
    "a key that takes for ever to hash": same_tuples(60),
    "a bytearray of 64 GB": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "a name of another module": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R.",
    "a tensor of a terabyte": b"\x80\x02ctorch\nTensor\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_weights_that_would_take_for_ever_are_refused(bomb, saved):
    archive(saved, lambda _: BOMBS[bomb])
    with within(5), pytest.raises(UserError, match="model.pth should hold a state dict of torch"):
        model.load(saved)


def test_weights_that_are_packed_are_refused(saved):
    archive(saved, lambda data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="should hold a state dict of torch; .*ValueError"):
        model.load(saved)


def test_an_archive_written_anew_can_be_read(saved):
    archive(saved, lambda data: data)
    model.load(saved)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: torch.zeros(()).expand(t.shape), r"bytes, its tensors should have \d+"),
        (lambda t: t.to("meta"), "should hold a state dict"),
        (lambda t: t.to_sparse() if t.ndim else t, "should hold a state dict"),
        (lambda t: t.to(torch.int64), "is torch.int64, should be torch.float32"),
        (lambda t: t.to(torch.complex64), "is torch.complex64, should be torch.float32"),
    ],
    ids=["repeated", "meta", "sparse", "integers", "complex"],
)
def test_weights_of_another_kind_are_refused(change, match, saved):
    state = model.build("mate", SMALL, seed=1).state_dict()
    torch.save({name: change(tensor) for name, tensor in state.items()}, saved / "model.pth")
    with pytest.raises(UserError, match=f"model.pth.*{match}"):
        model.load(saved)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", '"\\ud800"'])
def test_a_configuration_that_cannot_be_written_again_is_refused(value, saved):
    (saved / "configuration.json").write_text(json.dumps(SMALL)[:-1] + f', "x": [{value}]}}')
    with pytest.raises(UserError, match="configuration.json (holds what|as JSON)[^\n]*$"):
        model.load(saved)


def test_weights_without_names_are_refused(saved):
    torch.save({1: torch.zeros(3)}, saved / "model.pth")
    with pytest.raises(UserError, match="model.pth should hold a dict of tensors"):
        model.load(saved)


@pytest.mark.parametrize("size", [10**9, 10**18, 10**30])
@pytest.mark.parametrize("name", ["hidden_size", "ws", "text_dim"])
def test_a_configuration_that_asks_for_terabytes_is_refused(name, size, saved):
    written = json.dumps(SMALL | {name: size})
    (saved / "configuration.json").write_text(written)
    with within(5), pytest.raises(UserError, match="configuration.json") as caught:
        model.load(saved)
    assert "\n" not in str(caught.value)


def vectors(pickled: bytes) -> bytes:
    """A .npy file of one object, with this pickle in it."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    return buffer.getvalue() + pickled


def dtype_of_lists(depth: int) -> bytes:
    """numpy.dtype(a list of a list twice, of ...): 2**depth as text."""
    steps = b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(depth))
    return b"\x80\x02]q\x00" + steps + b"cnumpy\ndtype\nh%c\x85R." % depth


VECTORS = [
    (same_tuples(60), "a tuple twice"),
    (dtype_of_lists(60), "part of a dtype is a list"),
    (b"\x80\x02}r\xff\xff\xff\xff.", "LONG_BINPUT 4294967295 in 9 bytes"),
    (b"\x80\x05\x96" + (1 << 62).to_bytes(8, "little") + b".", "expected .* bytes"),
    (b"\x80\x05\x96" + (1).to_bytes(8, "little") + b"x.", "BYTEARRAY8 is refused"),
    (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".", "expected .* bytes"),
    (b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.", "DUP is refused"),
    (b"\x80\x02\x82\x01.", "EXT1 is refused"),
]


@pytest.mark.parametrize(("pickled", "reason"), VECTORS, ids=[reason for _, reason in VECTORS])
def test_vectors_that_would_take_for_ever_are_refused(pickled, reason, tmp_path):
    (tmp_path / "e.npy").write_bytes(vectors(pickled))
    with within(5), pytest.raises(UserError, match=f"should hold a dict of vectors.*{reason}"):
        vectors_2022.read_vectors(tmp_path / "e.npy")


def test_a_header_that_is_deeper_than_the_stack_is_refused(tmp_path):
    header = b"1+" * 4000 + b"1"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "e.npy").write_bytes(data)
    with pytest.raises(UserError, match="should hold a dict of vectors"):
        vectors_2022.read_vectors(tmp_path / "e.npy")


@pytest.mark.parametrize("protocol", [3, 4])
def test_vectors_in_the_protocols_that_numpy_writes_are_read(protocol, tmp_path):
    held = {f"Sess01_script01_F{i:03d}.txt": np.full(4, i, np.float32) for i in range(300)}
    array = np.array(held, dtype=object)
    (tmp_path / "e.npy").write_bytes(vectors(pickle.dumps(array, protocol)))
    found = vectors_2022.read_vectors(tmp_path / "e.npy")
    assert list(found) == list(held)
    assert all((found[name] == value).all() for name, value in held.items())
