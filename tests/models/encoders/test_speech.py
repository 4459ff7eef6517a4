"""Speech encoders: that each is transformers' own, and that padding reaches nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from benchmarks import tiny_wav2vec2
from models.encoders import speech
from models.encoders import text as text_encoders
from utils import UserError

KINDS = {
    "group": ("wav2vec2", "group", {}),
    "layer": ("wav2vec2", "layer", {}),
    "mixed": ("wav2vec2", "group", {"do_stable_layer_norm": True}),
    "hubert": ("hubert", "group", {}),
    "hubert-layer": ("hubert", "layer", {"feat_proj_layer_norm": False}),
    "hubert-batch-norm": ("hubert", "group", {"conv_pos_batch_norm": True}),
    "wavlm": ("wavlm", "group", {}),
    "wavlm-layer": ("wavlm", "layer", {}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
LENGTHS = [9000, 4003, 6400, 400, 9000, 1234]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """A tiny checkpoint of each kind, whose numbers are large enough to matter."""
    folders = {}
    for name, (kind, norm, more) in KINDS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        tiny_wav2vec2.write(folders[name], kind, norm, **more)
        rewrite(folders[name], lively)
    return folders


def lively(tensors: dict) -> dict:
    """Other numbers for biases and LayerNorms, which start as 0 and 1 everywhere."""
    generator = torch.Generator().manual_seed(3)

    def drawn(name: str, old: torch.Tensor) -> torch.Tensor:
        if not old.is_floating_point() or name.endswith("running_var"):
            return old
        if old.ndim == 1:
            return old + 0.3 * torch.randn(old.shape, generator=generator)
        return old * (2 if "proj" in name or "dense" in name else 1)

    return {name: drawn(name, old) for name, old in tensors.items()}


def rewrite(folder: Path, change) -> None:
    """Change the dict of tensors in model.safetensors."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.fixture
def own(places, tmp_path) -> Path:
    """A copy of the one with layer norm, to be changed."""
    return Path(shutil.copytree(places["layer"], tmp_path / "own"))


def loaded(folder: Path, **more) -> torch.nn.Module:
    module = speech.encoder(speech.config(folder) | more)
    speech.load(module, folder)
    return module.eval()


def clips(lengths: list[int], padding: int = 0, filler: float = 0.0, seed: int = 0) -> tuple:
    """Noise of these lengths, each drawn by itself, around another mean and loudness -> a batch."""
    wave = torch.full((len(lengths), max(lengths) + padding), filler)
    mask = torch.zeros(wave.shape, dtype=torch.bool)
    for i, n in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + n)
        wave[i, :n] = 0.1 + 0.02 * (1 + n % 7) * torch.randn(n, generator=generator)
        mask[i, :n] = True
    return wave, mask


def theirs(folder: Path, wave: torch.Tensor) -> list[torch.Tensor]:
    """What transformers makes of one clip (T,) by itself: the states of each layer, (F, D)."""
    prepared = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    values = prepared(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    module = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = module(values, output_hidden_states=True)
    return [state[0] for state in (*out.hidden_states[:-1], out.last_hidden_state)]


# --- padding, partners and transformers ----------------------------------------------------------


@every_kind
def test_every_layer_is_that_of_transformers_on_the_clip_alone(places, kind):
    module = loaded(places[kind])
    wave, mask = clips(LENGTHS, padding=555, filler=7.0)
    with torch.no_grad():
        states, there = speech.hidden(module, wave, mask, all_layers=True)
        last, also = speech.hidden(module, wave, mask)
    assert torch.equal(last, states[-1]) and torch.equal(there, also)
    for i, n in enumerate(LENGTHS):
        expected = theirs(places[kind], wave[i, :n])
        assert len(expected) == len(states) == 3
        count = len(expected[0])
        assert there[i].tolist() == [j < count for j in range(there.shape[1])]
        for mine, other in zip(states[:, i], expected, strict=True):
            assert other.std() > 0.1  # else anything would be near it
            np.testing.assert_allclose(mine[:count], other, rtol=0, atol=1e-4)
            assert not mine[count:].any()


@every_kind
def test_a_clip_alone_is_the_same_in_any_batch(places, kind):
    module = loaded(places[kind])

    @examples(max_examples=12, deadline=None)
    @given(
        st.integers(400, 5000),
        st.lists(st.integers(0, 5000), max_size=4),
        st.integers(0, 900),
        st.integers(0, 99),
        st.integers(0, 4),
    )
    def holds(length, partners, padding, seed, place):
        place = min(place, len(partners))
        alone = speech.hidden(module, *clips([length], seed=seed), all_layers=True)
        batch = clips([*partners[:place], length, *partners[place:]], padding, 5.0, seed)
        among = speech.hidden(module, *batch, all_layers=True)
        count = alone[0].shape[2]
        assert among[1][place].sum() == alone[1].sum() == count
        np.testing.assert_allclose(among[0][:, place, :count], alone[0][:, 0], rtol=0, atol=1e-4)
        pooled = speech.means(module, *batch)[0][:, place]
        np.testing.assert_allclose(pooled, alone[0][:, 0].mean(1), rtol=0, atol=1e-4)

    with torch.no_grad():
        holds()


@every_kind
def test_clips_too_short_for_a_frame_are_masked_and_change_no_other(places, kind):
    module = loaded(places[kind])
    with torch.no_grad():
        states, there = speech.hidden(module, *clips([399, 3000, 0, 1]), all_layers=True)
        alone, _ = speech.hidden(module, *clips([3000]), all_layers=True)
        means, heard = speech.means(module, *clips([399, 3000, 0, 1]))
        nothing, none = speech.hidden(module, *clips([399, 0]))
    assert there.any(1).tolist() == heard.tolist() == [False, True, False, False]
    assert not states[:, [0, 2, 3]].any() and not means[:, [0, 2, 3]].any()
    np.testing.assert_allclose(states[:, 1], alone[:, 0], rtol=0, atol=1e-4)
    assert nothing.shape == (2, 1, 64) and not none.any() and not nothing.any()


def test_silence_stays_finite_forwards_and_backwards(places):
    for kind in KINDS:
        module = loaded(places[kind]).train()
        states, there = speech.hidden(module, torch.zeros(2, 2000), torch.ones(2, 2000).bool())
        assert torch.isfinite(states).all() and there.all()
        speech.pooled(states, there).square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.requires_grad)


@examples(max_examples=60, deadline=None)
@given(st.integers(0, 40_000))
def test_frames_are_counted_as_the_convolutions_make_them(samples):
    config = tiny_wav2vec2.encoder().config.to_dict()
    counted = speech.frames(config, torch.tensor([samples, 400, 399, 720, 719]))
    assert counted[1:].tolist() == [1, 0, 2, 1]
    if samples >= 400:
        made = COUNTER.feature_extractor(torch.zeros(1, samples)).shape[2]
        assert counted[0] == made


COUNTER = tiny_wav2vec2.encoder()


def test_a_mean_is_that_of_the_frames_that_are_there():
    states = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, False, False], [False] * 5])
    states[:, :, 2:] = torch.nan  # what is not there may be anything
    states[:, 1] = torch.nan
    got = speech.pooled(states, mask)
    np.testing.assert_allclose(got[:, 0], states[:, 0, :2].mean(1), rtol=0, atol=1e-6)
    assert got.shape == (3, 2, 4) and not got[:, 1].any()
    assert speech.pooled(states.bfloat16(), mask).dtype == torch.float32


def test_loudness_and_offset_count_only_where_the_checkpoint_does_not_normalise(places):
    wave, mask = clips([3000, 2000])
    for normalised in (True, False):
        module = loaded(places["layer"], do_normalize=normalised)
        with torch.no_grad():
            one = speech.hidden(module, wave, mask)[0]
            other = speech.hidden(module, (3 * wave + 0.5).where(mask, 0), mask)[0]
        assert (abs(one - other).max() < 1e-3) == normalised
    module = transformers.AutoModel.from_pretrained(places["layer"]).eval()
    with torch.no_grad():
        expected = module(wave[:1]).last_hidden_state
    np.testing.assert_allclose(
        speech.hidden(loaded(places["layer"], do_normalize=False), wave[:1], mask[:1])[0].detach(),
        expected,
        rtol=0,
        atol=1e-4,
    )


@every_kind
def test_half_precision_is_near_float32(places, kind):
    module, batch = loaded(places[kind]), clips([3000, 2000])
    with torch.no_grad():
        exact, _ = speech.means(module, *batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = speech.means(module, *batch)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()


# --- training ------------------------------------------------------------------------------------


QUIET = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
) | {"apply_spec_augment": False}


@every_kind
def test_partners_change_nothing_in_training_but_by_what_is_drawn(places, kind):
    module = loaded(places[kind], **QUIET)
    with torch.no_grad():
        quiet, _ = speech.means(module, *clips([3000]))
        among, _ = speech.means(module.train(), *clips([5000, 3000, 900]))
    np.testing.assert_allclose(among[:, 1], quiet[:, 0], rtol=0, atol=1e-4)


@every_kind
def test_the_gradient_reaches_the_transformer_and_not_the_convolutions(places, kind):
    module = loaded(places[kind], hidden_dropout=0.0, mask_time_prob=0.5).train()
    seen = []
    module.feature_extractor.register_forward_hook(lambda m, *_: seen.append(m.training))
    means, _ = speech.means(module, *clips([6400, 3200]))
    (means**2).sum().backward()
    assert seen and not any(seen)
    for name, parameter in module.named_parameters():
        if name.startswith("feature_extractor"):
            assert not parameter.requires_grad and parameter.grad is None
        elif not name.endswith("k_proj.bias"):  # the same to all keys: softmax does not see it
            assert parameter.grad.abs().max() > 1e-9, name


def test_spec_augment_hides_spans_in_training_alone_and_as_torch_is_seeded(places):
    module = loaded(
        places["layer"],
        mask_time_prob=0.3,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    wave, mask = clips([9000, 7000])
    with torch.no_grad():
        plain = speech.hidden(module, wave, mask)[0]
        assert torch.equal(plain, speech.hidden(module, wave, mask)[0])
        module.train()
        torch.manual_seed(1)
        one = speech.hidden(module, wave, mask)[0]
        assert not torch.equal(one, speech.hidden(module, wave, mask)[0])
        torch.manual_seed(1)
        assert torch.equal(one, speech.hidden(module, wave, mask)[0])
        module.config.apply_spec_augment = False
        assert torch.equal(plain, speech.hidden(module, wave, mask)[0])


def test_spec_augment_hides_the_learned_vector_and_channels(places):
    module = loaded(
        places["layer"],
        mask_time_prob=0.6,
        mask_feature_prob=0.6,
        mask_time_length=4,
        mask_feature_length=5,
    ).train()
    torch.manual_seed(0)
    states = torch.full((2, 30, 64), 7.0)
    got = speech._augmented(module, states, torch.ones(2, 30).bool()).detach()
    for row in got:
        channels = (row == 0).all(0)
        hidden = (row != 7)[:, ~channels].all(1)
        assert 5 <= channels.sum() < 64 and 4 <= hidden.sum() < 30
        assert (row[~hidden][:, ~channels] == 7).all()
        expected = module.masked_spec_embed.detach()[~channels].expand(int(hidden.sum()), -1)
        assert torch.equal(row[hidden][:, ~channels], expected)


@pytest.mark.parametrize(
    ("lengths", "share", "span", "least"),
    [
        ([200, 90, 40], 0.05, 10, 2),
        ([200, 90, 40], 0.5, 10, 0),
        ([200, 90, 40], 0.2, 3, 1),
        ([60, 60, 60], 0.05, 10, 30),
    ],
)
def test_as_much_is_hidden_as_by_transformers(lengths, share, span, least):
    width = max(lengths)
    there = torch.arange(width) < torch.tensor(lengths)[:, None]
    torch.manual_seed(0)
    np.random.seed(0)
    mine = sum(speech._spans(lengths, width, share, span, least).sum(1) for _ in range(1500))
    others = sum(
        _compute_mask_indices((3, width), share, span, there.long(), least).sum(1)
        for _ in range(1500)
    )
    np.testing.assert_allclose(mine / 1500, others / 1500, rtol=0.06, atol=0.1)


@examples(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(0, 4),
)
def test_spans_lie_within_each_clip_and_are_whole(lengths, share, span, least):
    mask = speech._spans(lengths, 45, share, span, least)
    for row, length in zip(mask.tolist(), lengths, strict=True):
        runs = [len(run) for run in "".join("x" if v else " " for v in row).split()]
        assert not any(row[length:]) and all(run >= span for run in runs)
        assert bool(runs) <= (length >= span)
        assert not least or bool(runs) == (length >= span)


def test_clips_shorter_than_a_span_are_trained_on(places):
    for kind in KINDS:
        module = loaded(places[kind]).train()  # spans of 10 frames, 2 at least
        states, _ = speech.hidden(module, *clips([2000, 400, 100]))
        assert torch.isfinite(states).all()


def test_a_dropped_layer_passes_on_what_it_was_given_and_has_a_gradient_of_zeros(places):
    module = loaded(places["group"], layerdrop=1.0, apply_spec_augment=False, hidden_dropout=0.0)
    states, _ = speech.hidden(module.train(), *clips([3000]), all_layers=True)
    assert torch.equal(states[0], states[1]) and torch.equal(states[1], states[2])
    (states[-1] ** 2).sum().backward()
    for layer in module.encoder.layers:
        assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())
    states, _ = speech.hidden(module.eval(), *clips([3000]), all_layers=True)
    assert not torch.equal(states[0], states[1])


def test_without_spec_augment_its_vector_is_not_learned(places):
    for more, learned in (
        ({}, True),
        ({"apply_spec_augment": False}, False),
        ({"mask_time_prob": 0.0, "mask_feature_prob": 0.1}, False),
    ):
        module = speech.encoder(speech.config(places["layer"]) | more)
        assert module.masked_spec_embed.requires_grad == learned


# --- weights -------------------------------------------------------------------------------------


TASKS = {
    "wav2vec2": transformers.Wav2Vec2ForCTC,
    "hubert": transformers.HubertForSequenceClassification,
    "wavlm": transformers.WavLMForCTC,
}
NORM = "encoder.pos_conv_embed.conv."
NEW, OLD = (
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ("weight_g", "weight_v"),
)


@pytest.mark.parametrize("file", ["safetensors", "bin"])
@pytest.mark.parametrize("names", ["new", "old"])
@pytest.mark.parametrize("task", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_a_checkpoint_of_any_age_with_or_without_a_task_loads_completely(
    places, tmp_path, kind, task, names, file
):
    place = places["layer" if kind == "wav2vec2" else kind]
    bare = transformers.AutoModel.from_pretrained(place).eval()
    folder = Path(shutil.copytree(place, tmp_path / "own"))
    if task:
        whole = TASKS[kind](bare.config)
        getattr(whole, kind).load_state_dict(bare.state_dict())
        whole.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    assert all(
        name.startswith((f"{kind}.", "lm_head", "classifier", "projector")) == task
        for name in tensors
    )
    for new, old in zip(NEW, OLD, strict=True):  # whichever transformers has written
        for there, wanted in ((new, old), (old, new)):
            if wanted in (NEW if names == "new" else OLD):
                tensors = {k.replace(NORM + there, NORM + wanted): v for k, v in tensors.items()}
    assert sum(k.endswith(NEW if names == "new" else OLD) for k in tensors) == 2
    (folder / "model.safetensors").unlink()
    if file == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")
    module, state = loaded(folder), bare.state_dict()
    assert module.state_dict().keys() == state.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    wave, mask = clips([2000])
    with torch.no_grad():
        got = speech.hidden(module, wave, mask)[0][0]
    np.testing.assert_allclose(got, theirs(place, wave[0])[-1], rtol=0, atol=1e-4)


def test_each_tensor_that_is_missing_is_an_error_but_that_of_spec_augment(own):
    module = speech.encoder(speech.config(own))
    whole = load_file(own / "model.safetensors")
    for name in module.state_dict():
        stored = name if name in whole else name.replace(NEW[0], OLD[0]).replace(NEW[1], OLD[1])
        rewrite(own, lambda _, stored=stored: {k: v for k, v in whole.items() if k != stored})
        if name == "masked_spec_embed":  # as facebook/wav2vec2-base-960h
            before = module.masked_spec_embed.clone()
            speech.load(module, own)
            assert torch.equal(module.masked_spec_embed, before)
            continue
        with pytest.raises(UserError, match="lack 1 of the encoder's tensors"):
            speech.load(module, own)


def test_averages_of_a_batch_norm_are_loaded_too(places, tmp_path):
    folder = Path(shutil.copytree(places["hubert-batch-norm"], tmp_path / "own"))
    name = "encoder.pos_conv_embed.batch_norm.running_mean"
    rewrite(folder, lambda t: t | {name: t[name] + 2})
    before = loaded(places["hubert-batch-norm"]).state_dict()[name]
    assert torch.equal(loaded(folder).state_dict()[name], before + 2)


# --- which one -----------------------------------------------------------------------------------


def test_an_encoder_is_built_again_from_what_is_written_of_it(own):
    about = json.loads(json.dumps(speech.described(str(own))))
    assert about.keys() == {"speech", "speech_files"} and about["speech_files"]
    assert str(own) not in json.dumps(about)
    first, second = loaded(own), speech.encoder(about["speech"]).eval()
    second.load_state_dict(first.state_dict())
    batch = clips([2000, 900])
    with torch.no_grad():
        assert torch.equal(speech.hidden(first, *batch)[0], speech.hidden(second, *batch)[0])
    with torch.device("meta"):
        assert speech.encoder(about["speech"]).encoder.layers[0].attention.k_proj.weight.is_meta


@pytest.mark.parametrize(
    ("file", "said", "expected"),
    [
        ("preprocessor_config.json", {"do_normalize": False}, False),
        ("preprocessor_config.json", {}, True),
        ("processor_config.json", {"feature_extractor": {"do_normalize": False}}, False),
        ("processor_config.json", {"feature_extractor": {}}, True),
        (None, None, True),  # the default of Wav2Vec2FeatureExtractor
    ],
)
def test_whether_clips_are_normalised_is_what_the_checkpoint_says(own, file, said, expected):
    before = speech.described(str(own))
    (own / "preprocessor_config.json").unlink()
    if file:
        (own / file).write_text(json.dumps(said))
    after = speech.described(str(own))
    assert after["speech"]["do_normalize"] is expected
    assert after["speech_files"] != before["speech_files"]
    assert transformers.Wav2Vec2FeatureExtractor().do_normalize is True


def test_a_preprocessor_that_says_nonsense_is_an_error(own):
    for said in ({"do_normalize": "yes"}, {"feature_extractor": 3}):
        (own / "preprocessor_config.json").write_text(json.dumps(said))
        with pytest.raises(UserError, match="do_normalize should be true or false"):
            speech.config(own)


def test_an_encoder_that_is_not_there_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    expected = (
        r"^the speech encoder 'a/b' .*`hf download a/b --local-dir FOLDER`.*"
        r"give --speech_encoder FOLDER$"
    )
    with pytest.raises(UserError, match=expected):
        speech.described("a/b")
    with pytest.raises(UserError, match="^--speech_encoder: no file or folder"):
        speech.identify("/no/where")
    with pytest.raises(UserError, match="^--speech_encoder: 'aaa.*too long"):
        speech.identify("a" * 300)
    with pytest.raises(UserError, match="^--speech_encoder should be .* wav2vec2-like encoder"):
        speech.find("char-ngram")


def test_a_text_encoder_is_no_speech_encoder(tmp_path):
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=8,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no wav2vec2-like encoder in .*'bert'; those there are"):
        speech.described(str(tmp_path))
    with pytest.raises(UserError, match="no speech encoder can be built .*'bert'"):
        speech.encoder(text_encoders.config(tmp_path))


def test_weights_count_for_a_feature_and_not_for_a_model(own):
    both = speech.identify(str(own)), speech.identify(str(own), weights=False)
    rewrite(own, lambda t: {k: v + 1 for k, v in t.items()})
    assert speech.identify(str(own)) != both[0]
    assert speech.identify(str(own), weights=False) == both[1]


BAD = st.sampled_from([None, -1, 0, "x", [], {}, 1e9, True, [0], [1, "x"]])


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@examples(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(COUNTER.config.to_diff_dict())), value=BAD)
def test_a_config_that_is_changed_builds_or_is_an_error(name, value):
    try:
        with torch.device("meta"):
            module = speech.encoder(COUNTER.config.to_diff_dict() | {name: value})
        assert isinstance(module, torch.nn.Module)
    except UserError as error:
        assert "\n" not in str(error)


def test_the_tiny_encoder_is_the_same_of_the_same_seed(tmp_path, monkeypatch, capsys):
    written = []
    for name, *more in (
        ("a",),
        ("b",),
        ("c", "--seed", "1"),
        ("d", "--kind", "wavlm"),
        ("e", "--norm", "group"),
    ):
        monkeypatch.setattr("sys.argv", ["tiny_wav2vec2.py", str(tmp_path / name), *more])
        assert tiny_wav2vec2.main() == 0
        assert f"--speech_encoder {tmp_path / name}" in capsys.readouterr().out
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
        loaded(tmp_path / name)
    assert written[0].keys() == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert written[0] == written[1]
    assert len({files["model.safetensors"] for files in written}) == 4
    config = speech.config(tmp_path / "a")
    assert (config["hidden_size"], config["num_hidden_layers"]) == (64, 2)
    assert speech.frames(config, torch.tensor(400 + 320 * 9)) == 10
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["tiny_wav2vec2.py", str(tmp_path / "file")])
    assert tiny_wav2vec2.main() == 2 and "file" in capsys.readouterr().err
