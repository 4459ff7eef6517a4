"""Several processes train one model as one would alone. Two gloo processes on the CPU."""

import argparse
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import main
from training.devices import GlobalBatchNorm, Processes, pick_device, use_bf16
from utils import UserError, leaf

ROOT = Path(__file__).resolve().parents[2]
TWO = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nproc_per_node",
    "2",
    "--rdzv_backend",
    "c10d",
    "--rdzv_endpoint",
    "127.0.0.1:0",
]
FLAGS = [
    "--data",
    "corpus",
    "--test_split",
    "[2]",
    "--text_encoder",
    "char-ngram",
    "--hidden_size",
    "8",
    "--gpu_id",
    "-1",
    "--precision",
    "float32",
]
# 3 kHz: a fifth of the frames; batches of 7 are shared as 3 and 4
STEPS = ["--sr", "3000", "--ws", "2", "--batch_size", "7", "--modality_dropout", "0.5"]


def start(command: list[str], place: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run it in `place` with one thread a process."""
    known = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        command, cwd=place, env=known, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A corpus of 2 sessions, 36 utterances each, prepared."""
    folder = tmp_path_factory.mktemp("two")
    leaf("corpora", "sample").write(folder / "corpus", sessions=2, dialogues=3, utterances=12)
    with contextlib.chdir(folder):
        words = [*FLAGS, "--epochs", "1", "--modality", "text", "--save_name", "alone"]
        assert main.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def found(place) -> tuple[dict, dict]:
    """What one process and what two processes found in the same five steps."""
    worker = [str(ROOT / "tests/doubles/two_processes.py"), *FLAGS, *STEPS]
    alone = start([sys.executable, *worker], place, OUT="alone.pt")
    assert alone.returncode == 0, alone.stderr
    both = start([*TWO, *worker], place, OUT="both.pt", FROM="alone.pt")
    assert both.returncode == 0, both.stderr
    return tuple(torch.load(place / name, weights_only=True) for name in ("alone.pt", "both.pt"))


def test_two_processes_make_the_losses_of_one(found):
    alone, both = found
    assert (alone["count"], both["count"]) == (1, 2)
    assert (alone["shared"], both["shared"]) == (0, 15)  # BatchNorms over the whole batch
    for one, two in zip(alone["losses"], both["losses"], strict=True):
        assert torch.allclose(one, two, rtol=0, atol=1e-6)
    assert len(alone["losses"]) == 5


def test_two_processes_make_the_gradients_of_one(found):
    alone, both = found
    for step, (one, two) in enumerate(zip(alone["gradients"], both["gradients"], strict=True)):
        for name in one:
            assert torch.allclose(one[name], two[name], rtol=0, atol=1e-6), (step, name)


def test_two_processes_keep_the_batchnorm_averages_of_one(found):
    alone, both = found
    for kind in ("running", "recomputed"):
        for name in alone[kind]:
            assert torch.allclose(alone[kind][name], both[kind][name], rtol=1e-6, atol=1e-6), name


def test_two_processes_predict_what_one_predicts(found):
    alone, both = found
    for head, values in alone["predictions"].items():
        assert len(values) == 36
        assert torch.allclose(values, both["predictions"][head], rtol=0, atol=1e-6), head


def test_a_run_by_two_processes_is_written_once_and_tested_alike_by_one(place):
    words = [
        str(ROOT / "main.py"),
        *FLAGS,
        "--modality",
        "text",
        "--epochs",
        "2",
        "--batch_size",
        "7",
        "--save_name",
        "two",
    ]
    done = start([*TWO, *words], place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: exp/two/report.html") == 1
    assert "10 steps of 7 windows on 2 x cpu" in done.stdout
    rows = pd.read_csv(place / "exp/two/predictions.csv")
    assert len(rows) == 36 and rows["segment"].is_unique
    assert len((place / "exp/two/train_loss.log").read_text().splitlines()) == 2
    assert not list((place / "exp/two").glob("*.ckpt*"))
    again = [str(ROOT / "main.py"), "--test_only", "two", "--data", "corpus"]
    assert start([*TWO, *again], place).returncode == 0
    with contextlib.chdir(place):
        assert main.main(again[1:]) == 0
    numbers = [*[f"p_{i}" for i in range(7)], "arousal", "valence"]
    tested = list(place.glob("exp/two/test_*/predictions.csv"))
    assert len(tested) == 2
    for path in tested:
        np.testing.assert_allclose(pd.read_csv(path)[numbers], rows[numbers], atol=1e-6)


def test_an_error_in_one_process_ends_all_with_its_message(place):
    worker = [str(ROOT / "tests/doubles/two_processes.py"), *FLAGS, *STEPS]
    done = start([*TWO, *worker], place, OUT="failed.pt", FAIL="1")
    assert done.returncode != 0
    assert "error: the second process has had enough (process 1)" in done.stderr
    assert "]: Traceback" not in done.stderr  # of a process; the launcher has one of its own
    assert not (place / "failed.pt").exists()


def test_more_processes_than_windows_in_a_batch_are_refused(place):
    words = [str(ROOT / "main.py"), *FLAGS, "--batch_size", "2"]
    three = [word if word != "2" else "3" for word in TWO]
    done = start([*three, *words], place)
    assert "error: --batch_size 2 is shared by 3 processes: each needs a window" in done.stderr
    assert not [p for p in (place / "exp").iterdir() if p.name not in ("alone", "two")]


def test_processes_that_do_not_find_each_other_are_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="3 processes were launched, 1 found each other"):
        Processes(-1)


def test_a_process_alone_shares_with_nobody():
    alone = Processes(-1)
    assert (alone.rank, alone.count, alone.is_main, alone.device.type) == (0, 1, True, "cpu")
    assert alone.share(5) == slice(0, 5)
    assert alone.of_main("실행") == "실행"
    alone.agree("a", "name")
    value = torch.tensor([1.0])
    assert alone.total(value) is value
    model = torch.nn.Linear(2, 2)
    assert alone.wrap(model) is model
    alone.leave()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("rows", [8, 9, 23])
def test_shares_are_even_and_whole(count, rows):
    processes = argparse.Namespace(count=count)
    shares = []
    for processes.rank in range(count):
        shares.append(np.arange(rows)[Processes.share(processes, rows)])
    assert np.concatenate(shares).tolist() == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def alone_in_a_group(function):
    """Run it in a process group of one."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        return function()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 2)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_global_batchnorm_is_torchs_when_alone(shape, momentum):
    kind = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    torch.manual_seed(0)
    plain, ours = (kind(3, momentum=momentum).double() for _ in range(2))
    ours.__class__ = GlobalBatchNorm
    for module in (plain, ours):
        torch.nn.init.uniform_(module.weight, generator=torch.Generator().manual_seed(1))
    inputs = [torch.randn(shape, dtype=torch.float64) * 3 + 7 for _ in range(3)]

    def passed(module):
        seen = [x.clone().requires_grad_() for x in inputs]
        outputs = [module(x) for x in seen]
        sum((y**3).sum() for y in outputs).backward()
        return [
            *outputs,
            *(x.grad for x in seen),
            module.weight.grad,
            module.bias.grad,
            module.running_mean,
            module.running_var,
            module.eval()(inputs[0]),
        ]

    pairs = zip(passed(plain), alone_in_a_group(lambda: passed(ours)), strict=True)
    assert all(torch.allclose(one, two, atol=1e-9) for one, two in pairs)
    assert plain.num_batches_tracked == ours.num_batches_tracked == 3


def test_global_batchnorm_holds_where_a_channel_is_nearly_constant():
    """Sums of plain squares would lose all digits of a variance of 1e-6 around 100."""
    x = 100 + 1e-3 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    ours = torch.nn.BatchNorm1d(2)
    ours.__class__ = GlobalBatchNorm
    wanted = torch.nn.BatchNorm1d(2).double()(x.double())
    assert torch.allclose(alone_in_a_group(lambda: ours(x)).double(), wanted, atol=0.05)


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="--gpu_id 3 does not exist; this machine has no GPU"):
        pick_device(3)
    assert pick_device(-1) == pick_device(None) == torch.device("cpu")


def test_the_number_format_is_the_one_asked_for():
    cpu = torch.device("cpu")
    assert use_bf16("bf16", cpu) and not use_bf16("float32", cpu)
