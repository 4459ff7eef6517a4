"""Checkpoints: whole or not taken for one, and never the only one while the next is written."""

import os
import signal
import threading

import pytest
import torch

import model
from training import checkpoints
from utils import UserError


def state(value: float) -> dict:
    weights = torch.full((50,), value)
    return {
        "model": {"w": weights},
        "progress": {"epoch": 2, "history": [{"loss": value}], "kept": None, "best": -float("inf")},
    }


def write(folder, epochs: int, steps: int, value: float) -> None:
    checkpoints.write(folder, epochs, steps, model.serialise(state(value)))


def value_of(folder) -> float:
    return checkpoints.read(folder)[0]["model"]["w"][0].item()


def test_a_state_comes_back_as_it_was(tmp_path):
    write(tmp_path, 1, 0, 3.5)
    found, damaged = checkpoints.read(tmp_path)
    assert damaged == []
    assert torch.equal(found["model"]["w"], torch.full((50,), 3.5))
    assert found["progress"] == state(3.5)["progress"]


def test_without_checkpoints_there_is_nothing_to_go_on_from(tmp_path):
    assert checkpoints.read(tmp_path) == (None, [])


def test_the_newest_two_are_kept_by_epochs_and_steps_not_by_spelling(tmp_path):
    for value, (epochs, steps) in enumerate([(0, 5), (9, 999), (10, 0), (10, 20), (10, 100)]):
        write(tmp_path, epochs, steps, value)
        assert value_of(tmp_path) == value
    names = [path.name for path in checkpoints.found(tmp_path)]
    assert names == ["last-0010-000100.ckpt", "last-0010-000020.ckpt"]
    beside = {p.name for p in tmp_path.iterdir()} - set(names)
    assert beside == {f"{name}.b2sum" for name in names}


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:-1], lambda d: b"", lambda d: d[:100] + bytes([d[100] ^ 4]) + d[101:]],
    ids=["cut", "emptied", "a bit flipped"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, damage):
    write(tmp_path, 1, 0, 1)
    write(tmp_path, 2, 0, 2)
    newest = checkpoints.found(tmp_path)[0]
    newest.write_bytes(damage(newest.read_bytes()))
    assert value_of(tmp_path) == 1
    [line] = checkpoints.read(tmp_path)[1]
    assert line.startswith(f"{newest} is damaged: last-0002-000000.ckpt.b2sum holds")
    write(tmp_path, 2, 0, 3)  # reached again
    assert value_of(tmp_path) == 3


def test_without_a_whole_checkpoint_nothing_is_guessed(tmp_path):
    for epochs in (1, 2):
        write(tmp_path, epochs, 0, epochs)
    for path in checkpoints.found(tmp_path):
        path.write_bytes(b"PK")
    with pytest.raises(UserError, match="no whole checkpoint is left in .*0002.*; .*0001"):
        checkpoints.read(tmp_path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    checkpoints.write(tmp_path, 1, 0, model.serialise({"model": Code()}))
    with pytest.raises(UserError, match="is no checkpoint"):
        checkpoints.read(tmp_path)
    assert not (tmp_path / "made").exists()


def test_a_kill_at_any_write_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    """Every step that touches the disk fails once, as if the power had gone there."""
    for count in range(1, 40):
        folder = tmp_path / str(count)
        folder.mkdir()
        write(folder, 1, 0, 1)
        write(folder, 2, 0, 2)
        calls = []

        def touch(what, *words, count=count, calls=calls, **named):
            calls.append(what)
            if len(calls) == count:
                raise KeyboardInterrupt
            return what(*words, **named)

        with monkeypatch.context() as patch:
            for name in ("replace", "fsync", "unlink", "chmod"):
                real = getattr(os, name)
                patch.setattr(os, name, lambda *w, real=real, **n: touch(real, *w, **n))
            try:
                write(folder, 3, 0, 3)
            except KeyboardInterrupt:
                assert value_of(folder) in (2, 3)
            else:
                break
        write(folder, 3, 0, 3)
        assert value_of(folder) == 3 and len(checkpoints.found(folder)) == 2
    assert count > 8, "the writes were not counted"


def test_a_full_disk_leaves_the_last_checkpoint_and_is_told(tmp_path, monkeypatch):
    write(tmp_path, 1, 0, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write .*last-0002.*: No space left"):
        with checkpoints.Keeper(tmp_path) as keeper:
            monkeypatch.setattr(os, "fsync", full)
            keeper.save(2, 0, state(2))
    assert value_of(tmp_path) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_keeper_copies_what_it_keeps_and_has_it_on_disk_when_it_is_left(tmp_path):
    kept = state(5)
    with checkpoints.Keeper(tmp_path) as keeper:
        keeper.save(1, 0, kept)
        kept["model"]["w"].zero_()
    assert value_of(tmp_path) == 5


def test_removed_means_no_checkpoint_and_nothing_else(tmp_path):
    write(tmp_path, 1, 0, 1)
    for name in ("model.pth", "last-x.ckpt", "last-1-2.ckpt.txt"):
        (tmp_path / name).write_text("mine")
    checkpoints.remove(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.pth", "last-x.ckpt", "last-1-2.ckpt.txt"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number):
    before = signal.getsignal(number)
    with checkpoints.Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_a_thread_that_gets_no_signals_is_not_in_the_way():
    failed = []

    def inside():
        try:
            with checkpoints.Stop() as stop:
                assert not stop.asked
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert not failed
