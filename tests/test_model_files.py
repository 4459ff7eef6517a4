"""Models are saved and loaded: the same numbers, or one line."""

import errno
import os

import pytest
from doubles.small_models import DAMAGES, SMALL, Touch, torch_bytes

import model
import utils
from utils import UserError


@pytest.fixture
def saved(tmp_path):
    """A folder with a small model in it."""
    model.save(tmp_path, model.build("mate", SMALL, seed=1), SMALL | {"model": "mate"})
    return tmp_path


def test_the_same_weights_give_the_same_bytes(saved):
    before = (saved / "model.pth").read_bytes()
    loaded, configuration = model.load(saved)
    model.save(saved / "another", loaded, configuration)
    assert (saved / "another" / "model.pth").read_bytes() == before


def test_a_full_disk_leaves_the_old_weights(saved, monkeypatch):
    before = (saved / "model.pth").read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot write .*: No space left on device"):
        model.save(saved, model.build("mate", SMALL, seed=2), SMALL | {"model": "mate"})
    assert (saved / "model.pth").read_bytes() == before
    assert model.load(saved)
    names = sorted(p.name for p in saved.iterdir())
    assert names == ["configuration.json", "model.pth", "model.pth.b2sum"]


@pytest.mark.parametrize("missing", ["configuration.json", "model.pth"])
def test_a_missing_file_is_named(saved, missing):
    (saved / missing).unlink()
    with pytest.raises(UserError, match=f"cannot read .*{missing}"):
        model.load(saved)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_weights_are_refused_in_one_line(saved, damage):
    path = saved / "model.pth"
    path.write_bytes(damage(path.read_bytes()))
    (saved / "model.pth.b2sum").unlink()  # what it says is tested below
    with pytest.raises(UserError, match="model.pth should hold a .*dict") as caught:
        model.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bit", [0, 12345, -1])
def test_one_flipped_bit_in_the_weights_is_noticed(saved, bit):
    data = bytearray((saved / "model.pth").read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    (saved / "model.pth").write_bytes(data)
    with pytest.raises(UserError, match="model.pth is damaged: model.pth.b2sum holds the checksum"):
        model.load(saved)


def test_code_in_the_weights_is_not_run(saved):
    (saved / "model.pth").write_bytes(torch_bytes({"weight": Touch(saved / "made")}))
    (saved / "model.pth.b2sum").unlink()
    with pytest.raises(UserError, match="model.pth should hold a state dict"):
        model.load(saved)
    assert not (saved / "made").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"hidden_size": 16},
            r"recurrent.weight_ih_l0 is 32x828, should be 64x828; recurrent.weight_hh_l0 is 32x8, "
            r"should be 64x16; recurrent.bias_ih_l0 is 32, should be 64 and \d+ more$",
        ),
        ({"bidirectional": True}, "recurrent.weight_ih_l0_reverse is missing; "),
        ({"modality": "text"}, "audio.0.0.weight is unknown; "),
        ({"hidden_size": 10**6}, "recurrent.weight_ih_l0 is 32x828, should be 4000000x828; "),
        ({"hidden_size": 10**12}, "no model can be built from .*configuration.json"),
        ({"hidden_size": "8"}, "hidden_size should be int, it is '8'"),
        ({"model": "mat"}, "no 'mat' in models/; there are: "),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_named(saved, changed, message):
    utils.write_json(saved / "configuration.json", SMALL | {"model": "mate"} | changed)
    with pytest.raises(UserError, match=message) as caught:
        model.load(saved)
    assert "\n" not in str(caught.value)
