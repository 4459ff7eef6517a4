"""A run that is stopped, killed or spoilt on the way: nothing that was learnt is lost."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from doubles.small_runs import TEXT, files, trained

import main
import model
from reporting import page
from training import checkpoints, loop
from training.modality_dropout import drop_modality
from utils import UserError, leaf, rng

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("model.pth", "predictions.csv", "train_loss.log", "training.csv")
LONG = ["--epochs", "3", "--batch_size", "3", "--val_split", "[2]"]  # 2 steps an epoch


@pytest.fixture
def whole(place) -> dict[str, bytes]:
    """The results of a run that nothing befell."""
    return results(trained(*LONG))


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def stopped(monkeypatch, at: int, how) -> None:
    """Let `how(training)` happen before step `at` of the whole run."""
    real, steps = loop.Training.one_step, []

    def one_step(self, indices):
        steps.append(indices)
        if len(steps) == at:
            how(self)
        return real(self, indices)

    monkeypatch.setattr(loop.Training, "one_step", one_step)


def interrupt(_) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_ctrl_c_saves_says_how_to_go_on_and_costs_nothing(at, whole, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stopped(patch, at, interrupt)
        assert main.main([*TEXT, *LONG, "--save_name", "mine"]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    epoch, step = (at + 1) // 2, (at - 1) % 2 + 1
    assert last.endswith(
        f"interrupted in epoch {epoch}, step {step} of 2; saved; go on with: "
        f"python main.py --resume mine"
    )
    assert not Path("exp/mine/model.pth").exists()
    assert main.main(["--resume", "mine"]) == 0
    assert f"going on in epoch {epoch}, after {step} steps" in capsys.readouterr().out
    assert results(Path("exp/mine")) == whole
    assert not checkpoints.found(Path("exp/mine"))


def test_a_run_with_sound_is_gone_on_with_too(place, monkeypatch):
    """Convolutions lie in memory as channels last, a checkpoint holds them in plain order."""
    words = ["--modality", "audio", "--ws", "2", "--epochs", "2", "--optim", "adam"]
    whole = results(trained(*words))
    with monkeypatch.context() as patch:
        stopped(patch, 2, interrupt)
        assert main.main([*TEXT, *words, "--save_name", "mine"]) == 130
    assert main.main(["--resume", "mine"]) == 0
    assert results(Path("exp/mine")) == whole


def test_a_place_that_is_not_the_usual_one_is_told_too(place, monkeypatch, capsys):
    stopped(monkeypatch, 2, interrupt)
    assert main.main([*TEXT, *LONG, "--save_path", "runs"]) == 130
    [folder] = Path("runs").iterdir()
    advice = f"python main.py --resume {folder.name} --save_path runs"
    assert capsys.readouterr().err.splitlines()[-1].endswith(advice)
    assert main.main(advice.split()[2:]) == 0


def test_the_same_command_goes_on_and_once_more_does_nothing(whole, monkeypatch, capsys):
    command = [*TEXT, *LONG, "--save_name", "mine"]
    with monkeypatch.context() as patch:
        stopped(patch, 4, interrupt)
        assert main.main(command) == 130
    assert main.main(command) == 0
    assert results(Path("exp/mine")) == whole
    before = files(Path("exp/mine"))
    capsys.readouterr()
    assert main.main(command) == 0
    assert "exp/mine is finished; its report: exp/mine/report.html" in capsys.readouterr().out
    assert files(Path("exp/mine")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_run_that_ended_while_it_was_scored_is_only_scored(error, whole, monkeypatch):
    def fail(_):
        raise error

    command = [*TEXT, *LONG, "--save_name", "mine"]
    with monkeypatch.context() as patch:
        patch.setattr(page, "write", fail)
        with contextlib.suppress(MemoryError):
            assert main.main(command) == 130
    weights = Path("exp/mine/model.pth").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        stopped(patch, 1, lambda _: pytest.fail("it was trained again"))
        assert main.main(["--resume", "exp/mine"]) == 0
    assert Path("exp/mine/model.pth").stat().st_mtime_ns >= weights
    assert results(Path("exp/mine")) == whole


def test_a_checkpoint_is_due_after_the_minutes_asked_for(place, monkeypatch):
    saved = []
    monkeypatch.setattr(
        checkpoints.Keeper, "save", lambda self, epochs, steps, _: saved.append((epochs, steps))
    )
    trained(*LONG, "--epochs", "2", "--batch_size", "2")  # 3 steps an epoch
    assert saved == [(1, 0), (2, 0)]
    saved.clear()
    trained(*LONG, "--epochs", "2", "--batch_size", "2", "--save_minutes", "0")
    assert saved == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_a_damaged_last_checkpoint_costs_an_epoch_and_is_named(whole, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stopped(patch, 6, interrupt)
        assert main.main([*TEXT, *LONG, "--save_name", "mine"]) == 130
    newest = checkpoints.found(Path("exp/mine"))[0]
    newest.write_bytes(newest.read_bytes()[:-20])
    assert main.main(["--resume", "mine"]) == 0
    captured = capsys.readouterr()
    assert f"warning: {newest} is damaged" in captured.err
    assert "going on in epoch 3, after 0 steps" in captured.out
    assert results(Path("exp/mine")) == whole


def test_a_run_killed_again_and_again_ends_with_the_bytes_of_one_never_killed():
    command = [sys.executable, "benchmarks/kill.py", "--kills", "6", "--epochs", "2"]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("6 kills") and "all equal byte for byte" in done.stdout


# --- what cannot be gone on with -----------------------------------------------------------------


@pytest.fixture
def begun(place, monkeypatch) -> Path:
    """A run that was stopped in its second epoch."""
    with monkeypatch.context() as patch:
        stopped(patch, 3, interrupt)
        assert main.main([*TEXT, *LONG, "--save_name", "mine"]) == 130
    return Path("exp/mine")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--lr", "0.01"], "exp/mine was begun with lr 0.001, now it is 0.01; take another"),
        (["--test_split", "[4]"], r"was begun with test_split \[3, 4\], now it is \[4\]"),
        (["--hidden_size", "9"], "was begun with hidden_size 8, now it is 9"),
        (["--save_name", "../mine"], r"--save_name needs letters, digits and -_\.\+, got '\.\./"),
        (["--save_name", ""], "--save_name needs letters"),
    ],
)
def test_another_command_does_not_go_on_with_a_run(words, match, begun, capsys):
    before = files(begun)
    assert main.main([*TEXT, *LONG, "--save_name", "mine", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(match, error), error
    assert files(begun) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "x"),
        ("epochs", -1),
        ("lr", None),
        ("lr", [1]),
        ("bidirectional", 1),
        ("batch_size", 2.5),
        ("optim", "lion"),
        ("test_split", [3, "a"]),
        ("seed", "1"),
        ("ws", 0),
        ("modality", ["both"]),
        ("data", 5),
        ("model", "mat"),
        ("select", {"a": 1}),
        ("corpus", 1),
    ],
)
def test_a_configuration_that_was_edited_is_not_gone_on_with(name, value, begun, capsys):
    path = begun / "configuration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    assert main.main(["--resume", "mine"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and name.split("_")[0] in error, error


def test_a_folder_that_is_no_run_is_not_written_into(place, capsys):
    Path("exp/thesis").mkdir(parents=True)
    Path("exp/thesis/chapter.txt").write_text("1")
    assert main.main([*TEXT, "--save_name", "thesis"]) == 2
    assert "exp/thesis is no run, it holds chapter.txt" in capsys.readouterr().err
    assert len(files(Path("exp"))) == 1


def test_flags_cannot_be_changed_while_going_on(begun, capsys):
    assert main.main(["--resume", "mine", "--lr", "1"]) == 2
    assert "--lr was settled when that run was begun; with --resume" in capsys.readouterr().err


def test_a_corpus_that_changed_is_not_gone_on_with(begun, capsys):
    os.unlink("corpus")
    leaf("corpora", "sample").write(Path("corpus"), sessions=4, dialogues=2, utterances=3, seed=8)
    assert main.main(["--resume", "mine"]) == 2
    assert "corpus has changed since exp/mine was begun" in capsys.readouterr().err


def test_a_run_that_did_not_end_is_not_tested(begun, capsys):
    assert main.main(["--test_only", "mine", "--data", "corpus"]) == 2
    error = capsys.readouterr().err
    assert "exp/mine has no model.pth: its training did not end; go on with --resume mine" in error


def test_an_unknown_run_names_those_there_are(begun, capsys):
    assert main.main(["--resume", "yours"]) == 2
    assert "no run 'yours' in ./exp; there are: mine" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused(begun, capsys):
    state, _ = checkpoints.read(begun)
    state["model"]["emotion.0.0.weight"] = torch.zeros(3)
    checkpoints.write(begun, 9, 0, model.serialise(state))
    assert main.main(["--resume", "mine"]) == 2
    assert "the checkpoint in exp/mine is another model's" in capsys.readouterr().err


# --- what stops a run ----------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_the_step_and_keeps_the_epoch_before(
    place, monkeypatch, capsys
):
    def spoil(self):
        with torch.no_grad():
            next(self.model.parameters()).fill_(float("nan"))

    with monkeypatch.context() as patch:
        stopped(patch, 4, spoil)
        assert main.main([*TEXT, *LONG, "--save_name", "mine"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    kept = "exp/mine/last-0001-000000.ckpt"
    assert "the loss became nan in epoch 2, step 2 (segments Sess01" in error
    assert error.endswith(f"what was learnt before is kept in {kept}")
    state, damaged = checkpoints.read(Path("exp/mine"))
    assert not damaged and all(w.isfinite().all() for w in state["model"].values())


def test_weights_that_are_no_numbers_are_never_saved(place, monkeypatch, capsys):
    real = torch.optim.Adam.step

    def step(self, *words):
        real(self, *words)
        self.param_groups[0]["params"][0].data.fill_(float("inf"))

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    assert main.main([*TEXT, "--batch_size", "12", "--save_name", "mine"]) == 2
    assert "weights are infinite or NaN after 1 epochs" in capsys.readouterr().err
    assert not checkpoints.found(Path("exp/mine"))


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_last_one(place, monkeypatch, capsys):
    real = checkpoints.write_sealed

    def full(path, data):
        if "last-0002" in path.name:
            raise UserError(f"cannot write {path}: No space left on device")
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_sealed", full)
        assert main.main([*TEXT, *LONG, "--save_name", "mine"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "last-0002-000000.ckpt: No space left on device; what was learnt before" in error
    assert main.main(["--resume", "mine"]) == 0


def test_a_disk_that_is_full_when_ctrl_c_saves_is_not_called_saved(place, monkeypatch, capsys):
    def full(path, data):
        raise UserError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(checkpoints, "write_sealed", full)
    stopped(monkeypatch, 1, interrupt)
    assert main.main([*TEXT, *LONG, "--save_name", "mine"]) == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("scores", [[float("nan")] * 3])
def test_a_selection_that_is_never_defined_is_told(scores, place, monkeypatch, capsys):
    others = {"macro_f1": 0.0, "uar": 0.0, "ccc": 0.0, "loss": 0.0}
    given = iter(scores)
    monkeypatch.setattr(loop, "validate", lambda *_: others | {"macro_f1": next(given)})
    folder = trained(*LONG)
    assert "warning: --select macro_f1 was undefined in every epoch" in capsys.readouterr().err
    assert json.loads((folder / "configuration.json").read_text())["select"] == "macro_f1"


# --- randomness ----------------------------------------------------------------------------------


def test_a_share_of_a_batch_loses_what_it_loses_in_the_whole():
    mask = torch.ones(10, 4, dtype=torch.bool)
    batch = {"mask": mask, "log_mel_mask": mask, "sentence_mask": mask}
    names = ("log_mel", "sentence")
    whole = drop_modality(batch, names, 0.5, rng(0, "modality"))
    share = slice(3, 7)
    part = {name: value[share] for name, value in batch.items()}
    lost = drop_modality(part, names, 0.5, rng(0, "modality"), 10, share)
    assert any((~whole[f"{name}_mask"][share]).any() for name in names)
    for name, value in lost.items():
        assert torch.equal(value, whole[name][share])


def test_what_a_model_draws_depends_on_the_step_alone(place, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        loop,
        "losses_of",
        lambda *words, real=loop.losses_of: drawn.append(torch.rand(1).item()) or real(*words),
    )
    trained(*LONG, "--epochs", "2")
    first = drawn.copy()
    assert len(set(first)) == 4
    drawn.clear()
    torch.manual_seed(99)
    trained(*LONG, "--epochs", "2")
    assert drawn == first
