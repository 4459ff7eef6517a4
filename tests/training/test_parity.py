"""The fast path against the plain one (`benchmarks/reference.py`), on the same tensors and wavs.

Speed is measured in benchmarks/speed.py; here both must say the same.
"""

import contextlib

import numpy as np
import pytest
import torch
from doubles.settings import settings_with
from torch import nn

import constants
import dataset
from benchmarks import parity, reference
from training import devices
from utils import leaf

CPU = torch.device("cpu")
SR, BANDS = 2600, 45  # Hz (51 frames of 10 s): a thirtieth of the work of 313 x 229
BLOCK_ERROR = 5e-3
"""Our cache rounds dB to float16: by 0.03 at most, between -64 and -128 dB. Blocks are divided by
their standard deviation, here at least 10 dB: 0.003, and some for a mean of rounded values."""


@pytest.fixture
def few_bands(monkeypatch) -> None:
    """Spectrograms of few bands."""
    monkeypatch.setattr(constants, "N_MELS", BANDS)


@pytest.fixture(scope="module")
def both(workplace) -> tuple[dataset.Windows, reference.PlainWindows]:
    """The training windows of the synthetic corpus, from our cache and from the wavs."""
    settings = settings_with(data="corpus", test_split=(4,), text_encoder="char-ngram")
    with contextlib.chdir(workplace):
        material = dataset.open_material(settings, ("log_mel", "sentence"))
        windows = dataset.Windows(material, "train")
        plain = reference.plain_windows(material, windows)
        plain.folder = plain.folder.resolve()  # read when the folder is another again
    return windows, plain


def test_five_steps_of_training_in_float64_have_the_losses_of_the_plain_model(few_bands):
    plain, fast = (model.double() for model in parity.twins(seed=0, sr=SR, hidden=64))
    batch = parity.noise(8, seed=1, sr=SR, dtype=torch.float64)
    expected = parity.plain_losses(plain, [batch] * 5)
    assert expected[0, 0] - expected[-1, 0] > 0.1  # it learns: else any two would agree
    found = parity.fast_losses(fast, [parity.as_ours(batch)] * 5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_probabilities_in_float32_are_the_plain_models():
    plain, fast = parity.twins(seed=0)
    batch = parity.noise(3, seed=1)
    scatter(plain)
    fast.load_state_dict(parity.upgraded(plain)[0])
    with torch.no_grad():
        emotion, arousal, valence = plain.eval()(batch["audio"], batch["text"])
        found = fast.eval()(parity.as_ours(batch))
    # windows differ by far more than what is allowed below: else anything would agree
    assert emotion.std(0).max() > 5e-3 and min(arousal.std(), valence.std()) > 5e-3
    torch.testing.assert_close(found["emotion"].exp(), emotion, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["arousal"], arousal, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["valence"], valence, rtol=0, atol=1e-4)


def scatter(model: nn.Module) -> None:
    """Averages, scales and shifts of normalisations far from 0 and 1, as after training; larger
    weights, since torch's small ones make the outputs of four LSTM layers nearly constant."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.3 + noise.abs())
            elif name.endswith(("running_mean", "bias")):
                tensor.copy_(0.3 * noise)
            elif name.endswith((".bn.weight", ".fc.2.weight")):
                tensor.copy_(1 + 0.2 * noise)
            elif tensor.ndim > 1:
                fan_in = tensor[0].numel()
                gain = 0.3 if len(tensor) == 1 else 2  # the sigmoid should not saturate
                tensor.copy_(gain * noise / fan_in**0.5)


def test_batches_from_the_cache_are_those_of_the_plain_loader(both):
    windows, plain = both
    assert windows.utterances["duration"].max() <= constants.CLIP_SECONDS  # longer: see below
    seen, first = windows.index[windows.index >= 0], 0
    assert (windows.index < 0).any() and windows.utterances["silent"].iloc[seen].any()
    for batch in reference.loader(plain, batch_size=8):
        indices = np.arange(first, first + len(batch["audio"]))
        ours = windows.batch(indices)
        torch.testing.assert_close(ours["log_mel"], batch["audio"], rtol=0, atol=BLOCK_ERROR)
        assert torch.equal(ours["sentence"], batch["text"])
        for head in constants.HEADS:
            assert torch.equal(ours[head], batch[head])
        first += len(indices)
    assert first == len(windows)


def test_padding_is_zeros_on_both_sides_and_speech_is_not(both):
    windows, plain = both
    at = int(np.flatnonzero((windows.index < 0).any(1))[0])
    empty = windows.index[at] < 0
    for audio, text in (
        (windows[at]["log_mel"], windows[at]["sentence"]),
        (plain[at]["audio"], plain[at]["text"]),
    ):
        assert not audio[empty].any() and not text[empty].any()
        assert audio[~empty].any() and text[~empty].any()


def test_a_long_clip_is_cut_at_the_same_place_but_for_its_edges(both):
    wave = np.random.default_rng(0).standard_normal(12 * 16_000).astype(np.float32) / 10
    log_mel = leaf("features", "log_mel")
    whole = log_mel.Extractor(log_mel.parameters(settings_with(sr=16_000))).decibels(wave)
    start = (whole.shape[1] - reference.FRAMES) // 2
    ours = whole[:, start : start + reference.FRAMES]
    plain = both[1].transform(torch.from_numpy(reference.ten_seconds(wave))).numpy()
    edge = constants.N_FFT // 2 // constants.HOP + 1  # frames that hear what was cut away
    np.testing.assert_allclose(ours[:, edge:-edge], plain[:, edge:-edge], rtol=0, atol=0.01)


@pytest.mark.skipif(not devices.use_bf16("auto", CPU), reason="no bf16 instructions: minutes")
def test_bf16_trains_to_a_mean_loss_at_most_5_percent_above_float32(few_bands):
    batches = [parity.as_ours(parity.noise(4, seed, SR)) for seed in range(10)] * 5
    means = {}
    for precision in ("float32", "bf16"):
        _, fast = parity.twins(seed=0, sr=SR, hidden=32)
        means[precision] = parity.fast_losses(fast, batches, precision)[:, 0].mean().item()
    assert means["bf16"] != means["float32"]
    assert means["bf16"] <= 1.05 * means["float32"]
