"""Learning rates and batches, against those of torch and transformers."""

from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import strategies as st

from features.store import batches as store_batches
from training import schedule
from training.settings import TrainingSettings


def settings_of(**changes) -> TrainingSettings:
    base = {"lr": 0.02, "epochs": 3, "seed": 1, "batch_size": 4}
    return settings_with(**base | changes)


@pytest.mark.parametrize("epochs", [3, 4, 5, 6, 7, 10, 50, 100])
@pytest.mark.parametrize("decay", [0.7, 0.5, 1.0])
def test_the_learning_rate_follows_torch(epochs, decay):
    settings = settings_of(lr_decay=decay, epochs=epochs)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    oracle = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 3, epochs // 2], decay)
    for epoch in range(1, epochs + 1):
        [wanted] = oracle.get_last_lr()
        assert schedule.learning_rate(settings, epoch) == pytest.approx(wanted, rel=1e-12)
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_first_epoch_has_the_learning_rate_that_was_asked_for(epochs):
    assert schedule.learning_rate(settings_of(epochs=epochs), 1) == 0.02


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("epochs, steps", [(1, 7), (3, 11), (16, 2)])
def test_a_rise_and_fall_is_that_of_transformers(kind, warmup, epochs, steps):
    settings, total = settings_of(schedule=kind, warmup=warmup, epochs=epochs), epochs * steps
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    make = getattr(transformers, f"get_{kind}_schedule_with_warmup")
    oracle = make(optimizer, int(warmup * total), total)
    for epoch in range(1, epochs + 1):
        for step in range(steps):
            [wanted] = oracle.get_last_lr()
            found = schedule.learning_rate(settings, epoch, step, steps)
            assert found == pytest.approx(wanted, rel=1e-9, abs=1e-15)
            optimizer.step()
            oracle.step()


@pytest.mark.parametrize("n", [2, 7, 8, 9, 16, 17, 33])
def test_every_window_is_trained_on_once_an_epoch_but_a_last_one_alone(n):
    settings = settings_with(batch_size=8, seed=1)
    batches = list(schedule.training_batches(n, settings, 1))
    assert all(1 < len(batch) <= 8 for batch in batches)
    drawn = np.concatenate(batches).tolist()
    assert len(set(drawn)) == len(drawn) == (n - 1 if n % 8 == 1 else n)
    other = np.concatenate(list(schedule.training_batches(n, settings, 2))).tolist()
    assert other != drawn or n == 2


@given(st.lists(st.integers(1, 500), min_size=2, max_size=400), st.integers(2, 9))
def test_batches_of_like_lengths_hold_each_window_once(lengths, size):
    settings = settings_of(batch_size=size)
    batches = list(schedule.training_batches(len(lengths), settings, 1, 1, np.array(lengths)))
    found = Counter(np.concatenate(batches).tolist()) if batches else Counter()
    assert set(found.values()) <= {1}
    assert len(lengths) - sum(found.values()) <= 1 + (len(lengths) - 1) // (schedule.POOL * size)
    assert all(2 <= len(batch) <= size for batch in batches)


def test_batches_of_like_lengths_are_padded_less_and_drawn_anew_each_epoch():
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 2000).astype(int)
    settings = settings_of(batch_size=16)
    like = list(schedule.training_batches(2000, settings, 1, 1, lengths))
    free = list(schedule.training_batches(2000, settings, 1))

    def padded(batches):
        return sum(len(b) * lengths[b].max() - lengths[b].sum() for b in batches)

    assert padded(like) < padded(free) / 5
    again = list(schedule.training_batches(2000, settings, 1, 1, lengths))
    other = list(schedule.training_batches(2000, settings, 2, 1, lengths))
    assert all((a == b).all() for a, b in zip(like, again, strict=True))
    assert not all((a == b).all() for a, b in zip(like, other, strict=True))


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=99), st.integers(1, 9), st.integers(0, 300)
)
def test_a_batch_keeps_to_its_size_and_to_its_steps(lengths, size, budget):
    lengths = np.sort(lengths)
    batches = store_batches.cut(np.arange(len(lengths)), lengths, size, budget)
    assert np.concatenate(batches).tolist() == list(range(len(lengths)))
    for batch in batches:
        cost = len(batch) * lengths[batch].max()
        assert len(batch) <= size and (not budget or cost <= budget or len(batch) == 1)
    for batch, after in zip(batches, batches[1:], strict=False):  # none is cut too early
        grown = len(batch) + 1
        assert grown > size or (budget and grown * lengths[after[0]] > budget)


def test_long_windows_stand_alone_where_the_steps_are_limited():
    settings = settings_of(batch_size=4, max_tokens=100)
    lengths = np.array([10, 90, 20, 300, 40])
    batches = schedule.training_batches(5, settings, 1, 1, lengths, least=1)
    assert sorted(sorted(batch.tolist()) for batch in batches) == [[0, 2], [1], [3], [4]]


def test_windows_too_long_for_the_limit_are_learnt_from_nevertheless():
    settings = settings_of(batch_size=4, max_tokens=100)
    lengths = np.array([10, 90, 20, 300, 40, 310])
    for processes, least in ((1, 2), (2, 1)):  # BatchNorm; a window for each process
        batches = schedule.training_batches(6, settings, 1, processes, lengths, least)
        found = sorted(sorted(batch.tolist()) for batch in batches)
        assert found == [[0, 2], [1, 4], [3, 5]]
