"""models/layers/attention.py against the formulas of the paper in NumPy, an utterance at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from models.layers import attention

VARIANTS = pytest.mark.parametrize("legacy", [False, True], ids=["ours", "legacy"])


# --- sound to words --------------------------------------------------------------------------


def averages(sound, words, **more):
    """The mean sound of each of `words` words at equal rate, as the model computes it."""
    mask = torch.ones(1, len(sound)).bool()
    spans = attention.equal_rate(torch.ones(1, words).bool(), mask.sum(-1))
    return attention.average(torch.as_tensor(sound)[None], mask, spans)[0].numpy()


@examples(max_examples=60, deadline=None)
@given(words=st.integers(1, 40), frames=st.integers(1, 120), seed=st.integers(0, 2**32 - 1))
def test_frames_are_divided_evenly_over_the_words_fractions_and_all(words, frames, seed):
    sound = np.random.default_rng(seed).standard_normal((frames, 3))
    # each frame cut in as many equal parts as there are words: then every word gets whole parts
    parts = np.repeat(sound, words, axis=0).reshape(words, frames, 3)
    np.testing.assert_allclose(averages(sound, words), parts.mean(1), rtol=0, atol=1e-4)


@examples(max_examples=30, deadline=None)
@given(words=st.integers(1, 40), frames=st.integers(1, 120), seed=st.integers(0, 2**32 - 1))
def test_the_words_together_sound_like_the_utterance(words, frames, seed):
    sound = np.random.default_rng(seed).standard_normal((frames, 3))
    np.testing.assert_allclose(averages(sound, words).mean(0), sound.mean(0), rtol=0, atol=1e-4)


def test_boundaries_fall_within_frames():
    words = torch.tensor([[False, True, True, True, False]])
    spans = attention.equal_rate(words, torch.tensor([4]))
    third = 4 / 3
    expected = [[0, 0], [0, third], [third, 2 * third], [2 * third, 4], [0, 0]]
    torch.testing.assert_close(spans[0], torch.tensor(expected))


def test_no_words_and_no_frames_give_zeros():
    none, two = torch.zeros(1, 3).bool(), torch.ones(1, 3).bool()
    sound, mask = torch.randn(1, 4, 2), torch.ones(1, 4).bool()
    nothing = attention.average(sound, mask, attention.equal_rate(none, mask.sum(-1)))
    assert not nothing.any()
    silent = attention.equal_rate(two, torch.tensor([0]))
    assert not attention.average(sound, ~mask, silent).any()


@examples(max_examples=40, deadline=None)
@given(
    start=st.integers(-40, 200),
    length=st.integers(1, 80),
    frames=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_a_timed_word_hears_the_frames_that_are_centred_around_it(start, length, frames, seed):
    # frame i lasts from 10 i - 5 ms to 10 i + 5 ms; the word, whole milliseconds
    sound = np.random.default_rng(seed).standard_normal((frames, 2))
    at = np.repeat(np.arange(frames), 10)  # the frame of each millisecond from -5 ms on
    heard = [at[ms + 5] for ms in range(start, start + length) if 0 <= ms + 5 < len(at)]
    expected = sound[heard].mean(0) if heard else np.zeros(2)
    seconds = torch.tensor([[[start, start + length]]]) / 1000
    spans = attention.timed(torch.ones(1, 1).bool(), seconds, 100.0)
    padded = torch.tensor(np.concatenate([sound, 99 * np.ones((7, 2))]))
    ours = attention.average(padded[None], torch.arange(frames + 7)[None] < frames, spans)
    np.testing.assert_allclose(ours[0, 0], expected, rtol=0, atol=1e-3)


def test_a_word_of_unknown_time_hears_nothing():
    spans = attention.timed(
        torch.tensor([[True, True, False]]), torch.tensor([[[torch.nan, 1], [0, 1], [0, 1]]]), 100.0
    )
    assert spans[0].tolist() == [[0, 0], [0.5, 100.5], [0, 0]]


def test_the_layout_of_2022_puts_a_coefficient_beside_each_word_piece():
    frames = torch.arange(12.0).reshape(1, 4, 3)  # 4 frames, 3 coefficients
    mask = torch.tensor([[True, True, True, False]])
    laid = attention.transposed(frames, mask, 5, 4)
    expected = [[0, 3, 6, 0, 0], [1, 4, 7, 0, 0], [2, 5, 8, 0, 0], [0, 0, 0, 0, 0]]
    assert laid[0].tolist() == expected
    assert attention.transposed(frames, mask, 2, 2)[0].tolist() == [[0, 3], [1, 4]]


# --- attention -------------------------------------------------------------------------------


def written_out(block, states, sound, heard, legacy):
    """The formulas of the paper on one utterance without padding, in NumPy: (T, width)."""
    p = {name: value.double().numpy() for name, value in block.state_dict().items()}
    text = states @ p["text.weight"].T
    text = text / np.sqrt(np.sqrt((text**2).sum()))
    sound = sound @ p["sound.weight"].T + (0 if legacy else p["sound.bias"])
    sound = sound if legacy else sound / np.sqrt(np.sqrt((sound**2).sum()))
    length = len(states)
    weights = np.zeros((length, length))
    for i in range(length):
        for j in range(length):
            alpha = max(0, text[i] @ text[j])
            beta = max(0, sound[i] @ sound[j]) if heard else 0
            weights[i, j] = p["text_weight"] * alpha + p["sound_weight"] * beta
    weights = np.exp(weights) / np.exp(weights).sum(1, keepdims=True)
    x = (weights @ states + states) @ p["dense.weight"].T + p["dense.bias"]
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
    return x * p["norm.weight"] + p["norm.bias"]


def block_of(legacy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    block = attention.MultimodalAttention(8, 5, 4, (0.3, 0.1), legacy).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        block.text_weight.fill_(0.7)
        block.sound_weight.fill_(1.9)
    return block


@VARIANTS
@pytest.mark.parametrize("heard", [True, False])
@torch.no_grad()
def test_the_attention_is_the_papers(legacy, heard):
    rng, block = np.random.default_rng(3), block_of(legacy)
    lengths = (3, 6, 1)
    states, sound = rng.standard_normal((3, 6, 8)), rng.standard_normal((3, 6, 5))
    mask = torch.arange(6) < torch.tensor(lengths).unsqueeze(1)
    tensors = torch.tensor(states), mask, torch.tensor(sound), torch.full((3,), heard)
    mixed = block(*tensors).numpy()
    for i, n in enumerate(lengths):
        expected = written_out(block, states[i, :n], sound[i, :n], heard, legacy)
        np.testing.assert_allclose(mixed[i, :n], expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_padding_gets_no_attention_whatever_stands_there():
    block, rng = block_of(False), torch.Generator().manual_seed(4)
    states, sound = torch.randn(1, 5, 8, generator=rng), torch.randn(1, 5, 5, generator=rng)
    mask = torch.tensor([[True, True, True, False, False]])
    inputs = states.double(), mask, sound.double(), torch.ones(1).bool()
    weights = block.weights(*inputs).softmax(-1)
    assert not weights[..., 3:].any()
    states[:, 3:], sound[:, 3:] = torch.inf, torch.nan
    after = block(states.double(), mask, sound.double(), torch.ones(1).bool())
    assert torch.equal(after[:, :3], block(*inputs)[:, :3])


@torch.no_grad()
def test_the_published_constant_is_invisible_to_softmax():
    block, states = block_of(True), torch.randn(2, 4, 8).double()
    inputs = states, torch.ones(2, 4).bool(), torch.randn(2, 4, 5).double(), torch.ones(2).bool()
    before = block(*inputs)
    block.constant.fill_(50.0)
    torch.testing.assert_close(block(*inputs), before)
    assert "constant" not in block_of(False).state_dict()


def test_scaling_knows_no_other_utterance():
    one, other = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    scaled = attention.scaled(torch.cat([one, 100 * other]))
    torch.testing.assert_close(scaled[:1], attention.scaled(one))
    torch.testing.assert_close(scaled[:1], one / one.norm() ** 0.5)
    assert not attention.scaled(torch.zeros(1, 4, 3)).any()


def test_the_norm_that_scales_is_no_variable():
    x = torch.randn(2, 4, 3, requires_grad=True)
    attention.scaled(x).sum().backward()
    norm = x.detach().flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(x.grad, (norm**-0.5).expand_as(x))
