"""Loading of encoders: tiny ones written by the test, in every way that a checkpoint is saved."""

import copy
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from doubles.encoders import rewrite
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from benchmarks import tiny_bert
from models.encoders import loading
from models.encoders import text as text_encoders
from utils import UserError

IDS = torch.tensor([[2, 9, 7, 12, 5, 3]])


def loaded(folder: Path, pooler: bool = True) -> torch.nn.Module:
    module = text_encoders.encoder(text_encoders.config(folder), pooler)
    text_encoders.load(module, folder)
    return module.eval()


def states(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        out = module(input_ids=IDS, attention_mask=torch.ones_like(IDS))
    return out.last_hidden_state, out.pooler_output


# --- weights -------------------------------------------------------------------------------------


KINDS = {
    "bare": transformers.BertModel,
    "classifier": transformers.BertForSequenceClassification,
    "pretraining": transformers.BertForPreTraining,
}


@pytest.mark.parametrize("file", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_with_or_without_the_prefix_bert_loads_completely(kobert, own, kind, file):
    torch.manual_seed(5)
    saved = KINDS[kind](transformers.AutoConfig.from_pretrained(kobert)).eval()
    for parameter in saved.parameters():  # biases and LayerNorm start at 0 and 1 everywhere
        torch.nn.init.normal_(parameter, std=0.3)
    saved.save_pretrained(own)
    written = load_file(own / "model.safetensors")
    assert all(
        name.startswith(("bert.", "cls", "classifier")) == (kind != "bare") for name in written
    )
    if file == "bin":
        torch.save(written, own / "pytorch_model.bin")
        (own / "model.safetensors").unlink()
    module = loaded(own)
    bare = getattr(saved, "bert", saved)
    ours, theirs = dict(module.named_parameters()), dict(bare.named_parameters())
    assert ours.keys() == theirs.keys() and len(ours) == 39
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    for mine, other in zip(states(module), states(bare), strict=True):
        assert torch.equal(mine, other)


def test_each_tensor_that_is_missing_is_an_error_that_names_it(own):
    module = text_encoders.encoder(text_encoders.config(own), pooler=True)
    whole = load_file(own / "model.safetensors")
    for name in dict(module.named_parameters()):
        rewrite(own, lambda _, name=name: {k: v for k, v in whole.items() if k != name})
        with pytest.raises(UserError, match=f"lack 1 of the encoder's tensors: {name}$"):
            text_encoders.load(module, own)


def test_an_error_leaves_the_module_as_it_was(own):
    module = text_encoders.encoder(text_encoders.config(own), pooler=True)
    before = copy.deepcopy(module.state_dict())
    rewrite(own, lambda t: {k: v for k, v in t.items() if "pooler" not in k})
    with pytest.raises(UserError, match=r"lack 2 .*: pooler\.dense\.bias, pooler\.dense\.weight$"):
        text_encoders.load(module, own)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    loaded(own, pooler=False)  # which needs none


def test_a_tensor_of_another_shape_is_an_error_with_both_shapes(own):
    rewrite(own, lambda t: t | {"pooler.dense.bias": torch.zeros(1)})  # would broadcast
    with pytest.raises(UserError, match=r"pooler\.dense\.bias is \(1,\), should be \(64,\)"):
        loaded(own)


def test_half_precision_is_read_as_float32(own):
    before = load_file(own / "model.safetensors")
    rewrite(own, lambda t: {k: v.half() for k, v in t.items()})
    config = json.loads((own / "config.json").read_text()) | {"dtype": "float16"}
    (own / "config.json").write_text(json.dumps(config))
    for name, tensor in loaded(own).named_parameters():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name].half().float()), name


def test_the_names_of_tensorflow_are_understood(own):
    before = states(loaded(own))
    names = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))

    def old(tensors: dict) -> dict:
        for new, name in names:
            tensors = {
                k.replace(new, name): v + 0.5 * (k.endswith(new)) for k, v in tensors.items()
            }
        return {f"bert.{k}": v for k, v in tensors.items()}

    rewrite(own, old)
    module = loaded(own)
    assert (module.encoder.layer[1].output.LayerNorm.weight == 1.5).all()
    assert not torch.equal(states(module)[0], before[0])


@pytest.mark.parametrize("safe", [True, False])
def test_a_checkpoint_in_parts_is_read(own, safe):
    before = states(loaded(own))
    whole = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    names, ending = sorted(whole), ".safetensors" if safe else ".bin"
    stem, place = ("model", {}) if safe else ("pytorch_model", {})
    for i, part in enumerate([names[::2], names[1::2]]):
        file = f"{stem}-{i}{ending}"
        tensors = {name: whole[name] for name in part}
        save_file(tensors, own / file) if safe else torch.save(tensors, own / file)
        place |= dict.fromkeys(part, file)
    (own / f"{stem}{ending}.index.json").write_text(json.dumps({"weight_map": place}))
    for mine, other in zip(states(loaded(own)), before, strict=True):
        assert torch.equal(mine, other)
    (own / f"{stem}-1{ending}").unlink()
    with pytest.raises(UserError, match="cannot load the encoder in"):
        loaded(own)


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "x"]
)
def test_a_damaged_index_of_parts_is_an_error(own, index):
    (own / "model.safetensors").unlink()
    (own / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError):
        loaded(own)


def test_parts_outside_the_folder_are_not_read(own):
    shutil.move(own / "model.safetensors", own.parent / "elsewhere.safetensors")
    place = {"pooler.dense.bias": "../elsewhere.safetensors"}
    (own / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    with pytest.raises(UserError, match="cannot load the encoder in"):
        loaded(own)


class Trap:
    """Runs code when unpickled by a reader that lets it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_code_in_a_checkpoint_is_refused_and_not_run(own, tmp_path):
    torch.save({"x": Trap(tmp_path / "ran")}, own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the encoder in"):
        loaded(own)
    assert not (tmp_path / "ran").exists()
    torch.load(own / "pytorch_model.bin", weights_only=False)  # the trap does spring
    assert (tmp_path / "ran").exists()


def test_a_folder_without_weights_says_what_was_looked_for(own):
    (own / "model.safetensors").unlink()
    with pytest.raises(UserError, match="neither model.safetensors nor pytorch_model.bin"):
        loaded(own)


# --- shape ---------------------------------------------------------------------------------------


def test_an_encoder_is_built_again_from_its_config_alone(kobert):
    config = json.loads(json.dumps(text_encoders.config(kobert)))
    first = loaded(kobert)
    second = text_encoders.encoder(config, pooler=True).eval()
    assert not torch.equal(states(first)[0], states(second)[0])  # other random weights
    second.load_state_dict(first.state_dict())
    for one, other in zip(states(first), states(second), strict=True):
        assert torch.equal(one, other)


def test_a_config_tells_the_sizes_and_no_machine(kobert):
    config = text_encoders.config(kobert)
    wanted = {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "pad_token_id": 1,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-12,
    }
    assert config.items() >= wanted.items()
    assert str(kobert) not in json.dumps(config)
    assert text_encoders.positions(config) == 512
    assert text_encoders.positions(config | {"max_position_embeddings": 40}) == 40


def test_no_code_named_in_a_config_is_kept_or_run(own):
    named = {
        "auto_map": {"AutoModel": "own.Own"},
        "attn_implementation": "a/kernel",
        "_attn_implementation": "a/kernel",
    }
    path = own / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    assert not named.keys() & text_encoders.config(own).keys()
    module = text_encoders.encoder(text_encoders.config(own) | named, pooler=True)
    assert module.config._attn_implementation == "sdpa"


def test_without_the_pooler_none_is_built(kobert):
    config = text_encoders.config(kobert)
    with_one = {n for n, _ in text_encoders.encoder(config, pooler=True).named_parameters()}
    without = {n for n, _ in text_encoders.encoder(config, pooler=False).named_parameters()}
    assert with_one - without == {"pooler.dense.weight", "pooler.dense.bias"}
    assert states(loaded(kobert, pooler=False))[1] is None


def test_electra_has_no_pooler_and_loads(kobert, tmp_path):
    config = transformers.ElectraConfig(
        vocab_size=60,
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
    )
    saved = transformers.ElectraForPreTraining(config).eval()
    saved.save_pretrained(tmp_path)
    module = loaded(tmp_path)
    assert not hasattr(module, "pooler")
    with torch.no_grad():
        assert torch.equal(module(IDS).last_hidden_state, saved.electra(IDS).last_hidden_state)


BAD = st.sampled_from([None, -1, 0, "x", [], {}, 1e9, True, 10**12])


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@examples(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(tiny_bert.bert(40).config.to_diff_dict())), value=BAD)
def test_a_config_that_is_changed_builds_or_is_an_error(name, value):
    config = tiny_bert.bert(40).config.to_diff_dict() | {name: value}
    try:
        with torch.device("meta"):
            assert isinstance(text_encoders.encoder(config, pooler=True), torch.nn.Module)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["hidden_size", "vocab_size", "max_position_embeddings"])
@pytest.mark.parametrize("value", [None, 0, "64"])
def test_a_folder_whose_config_has_no_sizes_is_an_error(own, name, value):
    path = own / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(UserError, match="no BERT-like encoder in"):
        text_encoders.config(own)


# --- which one -----------------------------------------------------------------------------------


def test_a_folder_is_identified_by_what_is_in_it(own):
    both = text_encoders.identify(str(own)), text_encoders.identify(str(own), weights=False)
    assert both[0]["encoder"] == both[1]["encoder"] == str(own.resolve())
    assert both[0]["content"] != both[1]["content"]
    rewrite(own, lambda t: {k: v + 1 for k, v in t.items()})
    assert text_encoders.identify(str(own)) != both[0]
    assert text_encoders.identify(str(own), weights=False) == both[1]
    (own / tiny_bert.FILE).write_bytes(b"another")
    assert text_encoders.identify(str(own), weights=False) != both[1]
    assert text_encoders.identify("skt/kobert-base-v1") == {"encoder": "skt/kobert-base-v1"}


@pytest.mark.parametrize("encoder", ["char-ngram", "data/embedding_768.npy"])
def test_what_is_no_encoder_is_refused_by_name(encoder):
    with pytest.raises(UserError, match=f"folder of a BERT-like encoder.* it is '{encoder}'"):
        text_encoders.find(encoder)


def test_an_encoder_that_is_not_there_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="`hf download a/b --local-dir FOLDER`.*FOLDER, or else$"):
        text_encoders.find("a/b", ", or else")


OTHER = loading.Kind(
    "sound encoder", "sound-like", "--sound", ("sound.json",), ("hidden_size",), spare=("spare",)
)


def test_of_another_kind_its_own_flag_is_named_and_its_own_files_are_fetched(own, monkeypatch):
    asked = []

    def download(encoder: str, allow_patterns: list[str], **_) -> str:
        asked.append(allow_patterns)
        return str(own)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert loading.find("a/b", kind=OTHER) == text_encoders.find("a/b") == own
    assert asked[0] == ["config.json", "sound.json", "*.safetensors*"]
    assert {"config.json", "tokenizer*", "*.safetensors*"} <= set(asked[1])
    (own / "model.safetensors").unlink()
    with pytest.raises(UserError, match="^the sound encoder 'a/b' has no weights"):
        loading.find("a/b", kind=OTHER)
    for encoder, message in (
        ("char-ngram", " should be the hub id or the folder of a sound-like"),
        ("/no/where", ": no file or folder"),
        ("a" * 300, ": 'a.*too long"),
    ):
        with pytest.raises(UserError, match=f"^--sound{message}"):
            loading.find(loading.identify(encoder, kind=OTHER)["encoder"], kind=OTHER)


def test_of_another_kind_its_own_files_tell_it_from_others(own):
    before = loading.identify(str(own), kind=OTHER), text_encoders.identify(str(own))
    (own / "sound.json").write_text("{}")
    assert loading.identify(str(own), kind=OTHER) != before[0]
    assert text_encoders.identify(str(own)) == before[1]
    (own / tiny_bert.FILE).write_bytes(b"another")
    after = loading.identify(str(own), kind=OTHER)
    (own / tiny_bert.FILE).unlink()
    assert loading.identify(str(own), kind=OTHER) == after


def test_what_a_checkpoint_may_lack_stays_as_it_was(own):
    module = text_encoders.encoder(text_encoders.config(own), pooler=True)
    module.spare = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(UserError, match="lack 1 of the encoder's tensors: spare$"):
        text_encoders.load(module, own)
    loading.load(module, own, kind=OTHER)
    assert (module.spare == 1).all()
    rewrite(own, lambda t: t | {"spare": torch.zeros(3)})
    loading.load(module, own, kind=OTHER)
    assert (module.spare == 0).all()


def test_buffers_are_loaded_and_the_names_of_an_older_weight_norm_understood(own):
    module = text_encoders.encoder(text_encoders.config(own), pooler=True)
    module.norm = torch.nn.BatchNorm1d(4)
    module.conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(2, 3, 5), dim=2)
    old = torch.nn.utils.weight_norm(torch.nn.Conv1d(2, 3, 5), dim=2)
    old.weight_g.data += 1
    extra = {f"conv.{name}": tensor for name, tensor in old.state_dict().items()}
    extra |= {f"norm.{name}": tensor + 2 for name, tensor in module.norm.state_dict().items()}
    rewrite(own, lambda t: t | extra)
    text_encoders.load(module, own)
    assert (module.norm.running_mean == 2).all() and module.norm.num_batches_tracked == 2
    x = torch.randn(1, 2, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module.conv(x), old(x))
