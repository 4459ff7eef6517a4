"""Speech encoders found, identified, built and loaded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from doubles.encoders import COUNTER, clips, loaded, rewrite, theirs
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from benchmarks import tiny_wav2vec2
from models.encoders import speech
from models.encoders import text as text_encoders
from utils import UserError

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
    folder = Path(shutil.copytree(place, tmp_path / "own_speech"))
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


def test_each_tensor_that_is_missing_is_an_error_but_that_of_spec_augment(own_speech):
    module = speech.encoder(speech.config(own_speech))
    whole = load_file(own_speech / "model.safetensors")
    for name in module.state_dict():
        stored = name if name in whole else name.replace(NEW[0], OLD[0]).replace(NEW[1], OLD[1])
        rewrite(
            own_speech, lambda _, stored=stored: {k: v for k, v in whole.items() if k != stored}
        )
        if name == "masked_spec_embed":  # as facebook/wav2vec2-base-960h
            before = module.masked_spec_embed.clone()
            speech.load(module, own_speech)
            assert torch.equal(module.masked_spec_embed, before)
            continue
        with pytest.raises(UserError, match="lack 1 of the encoder's tensors"):
            speech.load(module, own_speech)


def test_averages_of_a_batch_norm_are_loaded_too(places, tmp_path):
    folder = Path(shutil.copytree(places["hubert-batch-norm"], tmp_path / "own_speech"))
    name = "encoder.pos_conv_embed.batch_norm.running_mean"
    rewrite(folder, lambda t: t | {name: t[name] + 2})
    before = loaded(places["hubert-batch-norm"]).state_dict()[name]
    assert torch.equal(loaded(folder).state_dict()[name], before + 2)


# --- which one -----------------------------------------------------------------------------------


def test_an_encoder_is_built_again_from_what_is_written_of_it(own_speech):
    about = json.loads(json.dumps(speech.described(str(own_speech))))
    assert about.keys() == {"speech", "speech_files"} and about["speech_files"]
    assert str(own_speech) not in json.dumps(about)
    first, second = loaded(own_speech), speech.encoder(about["speech"]).eval()
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
def test_whether_clips_are_normalised_is_what_the_checkpoint_says(own_speech, file, said, expected):
    before = speech.described(str(own_speech))
    (own_speech / "preprocessor_config.json").unlink()
    if file:
        (own_speech / file).write_text(json.dumps(said))
    after = speech.described(str(own_speech))
    assert after["speech"]["do_normalize"] is expected
    assert after["speech_files"] != before["speech_files"]
    assert transformers.Wav2Vec2FeatureExtractor().do_normalize is True


def test_a_preprocessor_that_says_nonsense_is_an_error(own_speech):
    for said in ({"do_normalize": "yes"}, {"feature_extractor": 3}):
        (own_speech / "preprocessor_config.json").write_text(json.dumps(said))
        with pytest.raises(UserError, match="do_normalize should be true or false"):
            speech.config(own_speech)


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


def test_weights_count_for_a_feature_and_not_for_a_model(own_speech):
    both = speech.identify(str(own_speech)), speech.identify(str(own_speech), weights=False)
    rewrite(own_speech, lambda t: {k: v + 1 for k, v in t.items()})
    assert speech.identify(str(own_speech)) != both[0]
    assert speech.identify(str(own_speech), weights=False) == both[1]


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
