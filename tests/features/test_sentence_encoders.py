"""Sentence vectors by an encoder, and how encoders are found."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from doubles.sentences import DIM, TEXTS, Trap, settings, store, table, vectors

from features import sentence
from utils import Unusable, UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# --- encoders ------------------------------------------------------------------------------------


def write_pieces(folder: Path, name: str, special: list[str]) -> int:
    """A SentencePiece file trained on TEXTS; `special` have the ids 2, 3, 4. How many pieces."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_prefix=str(folder / name),
        vocab_size=100,
        hard_vocab_limit=False,
        unk_id=0,
        unk_piece="[UNK]",
        pad_id=1,
        pad_piece="[PAD]",
        bos_id=-1,
        eos_id=-1,
        user_defined_symbols=special,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(
        model_file=str(folder / f"{name}.model")
    ).vocab_size()


def write_bert(folder: Path, pieces: int, dim: int = DIM, pad: int = 1, **more) -> None:
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=pieces,
        hidden_size=dim,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        pad_token_id=pad,
        **more,
    )
    model = transformers.BertModel(config)
    for parameter in model.parameters():  # BERT begins so small that all states look alike
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def kobert(tmp_path_factory) -> Path:
    """A small encoder whose files are those of KoBERT."""
    folder = tmp_path_factory.mktemp("kobert")
    pieces = write_pieces(folder, "tokenizer_78b3253a26", ["[CLS]", "[SEP]", "[MASK]"])
    write_bert(folder, pieces)
    return folder


@pytest.fixture
def copy(kobert, tmp_path) -> Path:
    return Path(shutil.copytree(kobert, tmp_path / "copy"))


def alone(folder: Path, text: str) -> np.ndarray:
    """The mean last state of the word pieces, one text at a time, as transformers gives it."""
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(folder / "tokenizer_78b3253a26.model")
    )
    ids = torch.tensor([[2, *pieces.encode(text), 3]])
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state[0, 1:-1].mean(0).numpy()


def test_a_sentence_is_the_mean_state_of_its_word_pieces(kobert):
    got = vectors(kobert, TEXTS)
    for text, vector in zip(TEXTS, got, strict=True):
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, alone(kobert, text), rtol=0, atol=1e-5)
    assert np.std(got, axis=0).min() > 1e-2  # and not one vector for all


def test_the_company_of_a_text_does_not_change_its_vector(kobert):
    extractor = sentence.Extractor(sentence.Feature.parameters(settings(kobert)))
    together = extractor.many(TEXTS * 3)
    backwards = extractor.many(TEXTS[::-1])[::-1]
    for i, text in enumerate(TEXTS):
        [single] = extractor(text, ["a row"])
        np.testing.assert_allclose(together[i], single, rtol=0, atol=1e-5)
        np.testing.assert_allclose(backwards[i], single, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(extractor.many([text])[0], single)


def test_many_tokens_are_taken_in_parts(kobert, monkeypatch):
    whole = vectors(kobert, TEXTS * 5)
    monkeypatch.setattr(sentence, "TOKENS_AT_ONCE", 20)
    np.testing.assert_allclose(vectors(kobert, TEXTS * 5), whole, rtol=0, atol=1e-5)


def test_a_long_text_is_cut_to_what_the_encoder_has_positions_for(kobert):
    long = " ".join(TEXTS * 30)
    encoder = sentence.Bert(kobert, DIM)
    pieces = encoder.pieces(long)
    assert len(pieces) > 600
    states = encoder.model(torch.tensor([[2, *pieces[:510], 3]])).last_hidden_state
    [got] = vectors(kobert, [long])
    np.testing.assert_allclose(got, states[0, 1:-1].mean(0).detach(), rtol=0, atol=1e-5)


def test_a_text_without_word_pieces_is_unusable(kobert):
    [nothing] = vectors(kobert, [" "])
    assert isinstance(nothing, Unusable) and str(nothing) == "no word pieces"
    with pytest.raises(Unusable, match="no word pieces"):
        sentence.Extractor(sentence.Feature.parameters(settings(kobert)))(" ", ["a row"])


def test_spaces_quotes_accents_and_split_hangul_are_evened_out(kobert):
    pieces = sentence.Bert(kobert, DIM).pieces
    assert pieces(f"  {unicodedata.normalize('NFD', TEXTS[0])}\t ") == pieces(TEXTS[0])
    assert pieces("ÁBC ``응''") == pieces('ABC "응"')
    assert pieces("ABC") != pieces("BC")


def test_weights_as_pytorch_model_bin_are_the_same(copy):
    model = transformers.AutoModel.from_pretrained(copy)
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    before = vectors(copy, TEXTS)
    (copy / "model.safetensors").unlink()
    np.testing.assert_array_equal(vectors(copy, TEXTS), before)


def test_code_in_pytorch_model_bin_is_refused_and_not_run(copy, tmp_path):
    mark = tmp_path / "ran"
    torch.save({"x": Trap(os.system, f"touch {mark}")}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the encoder in"):
        vectors(copy, TEXTS)
    assert not mark.exists()


def test_code_in_the_folder_is_refused_and_not_run(copy, tmp_path):
    mark = tmp_path / "ran"
    (copy / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no BERT-like encoder in"):
        vectors(copy, TEXTS)
    assert not mark.exists()


def test_weights_that_are_missing_are_named(copy):
    model = transformers.AutoModel.from_pretrained(copy)
    state = {k: v for k, v in model.state_dict().items() if "layer.1.attention" not in k}
    torch.save({k: v for k, v in state.items() if "pooler" not in k}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"lack 10 .*encoder\.layer\.1\.attention\.[^,]*(, \S+){2}$"
    ):
        vectors(copy, TEXTS)


def test_a_pooler_that_is_missing_is_no_matter(copy):
    before = vectors(copy, TEXTS)
    state = transformers.AutoModel.from_pretrained(copy).state_dict()
    torch.save({k: v for k, v in state.items() if "pooler" not in k}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    np.testing.assert_array_equal(vectors(copy, TEXTS), before)


def test_damaged_weights_are_an_error(copy):
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot load the encoder in"):
        vectors(copy, TEXTS)


def test_a_width_other_than_text_dim_says_both(kobert):
    with pytest.raises(UserError, match=rf"needed .* of 768 .*--text_dim.* makes {DIM}"):
        vectors(kobert, TEXTS, 768)


def test_changed_weights_are_another_cache(copy):
    before = sentence.Feature.parameters(settings(copy))
    assert sentence.Feature.parameters(settings(copy)) == before
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(copy / "tokenizer_78b3253a26.model")
    )
    write_bert(copy, pieces.vocab_size(), layer_norm_eps=1e-3)
    assert sentence.Feature.parameters(settings(copy)) != before


def test_pieces_in_another_order_are_not_taken_for_kobert(tmp_path):
    write_bert(tmp_path, write_pieces(tmp_path, "spiece", ["[SEP]", "[CLS]", "[MASK]"]))
    with pytest.raises(UserError, match="tokenizer"):
        vectors(tmp_path, TEXTS)


def test_a_tokenizer_that_is_not_the_encoders_is_refused(tmp_path):
    write_bert(tmp_path, write_word_pieces(tmp_path), pad=1)
    with pytest.raises(UserError, match="not its encoder's: pad 0, not 1"):
        vectors(tmp_path, TEXTS)


def test_a_folder_without_a_tokenizer_or_an_encoder_is_an_error(copy, tmp_path):
    (copy / "tokenizer_78b3253a26.model").unlink()
    with pytest.raises(UserError, match="tokenizer"):
        vectors(copy, TEXTS)
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=f"no BERT-like encoder in {copy}"):
        vectors(copy, TEXTS)


def write_word_pieces(folder: Path) -> int:
    """A BERT vocabulary of single characters. How many pieces."""
    characters = sorted({c for text in TEXTS for c in text if not c.isspace()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    words += [f"##{c}" for c in characters]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(
        folder
    )
    return len(words)


def test_any_other_bert_is_read_with_its_own_tokenizer(tmp_path):
    write_bert(tmp_path, write_word_pieces(tmp_path), pad=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt", return_special_tokens_mask=True)
    inner = (1 - batch.pop("special_tokens_mask"))[..., None]
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    expected = (states * inner).sum(1) / inner.sum(1)
    np.testing.assert_allclose(vectors(tmp_path, TEXTS), expected, rtol=0, atol=1e-5)


# --- finding them --------------------------------------------------------------------------------


def test_an_encoder_that_is_not_there_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        vectors("skt/kobert-base-v1", TEXTS)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "'skt/kobert-base-v1'",
        "hf download skt/kobert-base-v1 --local-dir FOLDER",
        "--text_encoder FOLDER",
        "--text_encoder char-ngram",
    ):
        assert part in message


def test_an_encoder_in_the_hubs_cache_is_used_offline(kobert, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--skt--kobert-base-v1"
    shutil.copytree(kobert, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    got = vectors("skt/kobert-base-v1", TEXTS)
    np.testing.assert_array_equal(got, vectors(kobert, TEXTS))


def test_a_cache_without_weights_is_an_error(kobert, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--skt--kobert-base-v1"
    shutil.copytree(kobert, repository / "snapshots" / ("a" * 40))
    (repository / "snapshots" / ("a" * 40) / "model.safetensors").unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    with pytest.raises(UserError, match="'skt/kobert-base-v1'"):
        vectors("skt/kobert-base-v1", TEXTS)


@pytest.mark.parametrize(
    "encoder", ["./kobert", "/no/such/folder", "a/b/c", "e.npy", "~/kobert", ""]
)
def test_a_path_that_does_not_exist_is_an_error(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if encoder:
        with pytest.raises(UserError, match=f"--text_encoder: no file or folder '{encoder}'"):
            sentence.Feature.parameters(settings(encoder))
    else:
        assert sentence.Feature.parameters(settings(""))["encoder"] == "skt/kobert-base-v1"


def test_a_finished_cache_needs_neither_torch_nor_the_encoder(kobert, tmp_path):
    utterances = table(TEXTS)
    before = store(kobert, utterances, tmp_path).gather(np.arange(len(TEXTS)))
    code = f"""
import sys
import numpy as np, pandas as pd
from features import store as kept
from types import SimpleNamespace
utterances = pd.DataFrame({utterances.to_dict("list")!r})
store = kept.extract("sentence", utterances, {str(tmp_path)!r}, {str(tmp_path)!r},
                     SimpleNamespace(text_encoder={str(kobert)!r}, text_dim={DIM}))
sys.stdout.buffer.write(store.gather(np.arange({len(TEXTS)})).tobytes())
sys.exit(bool({{"torch", "transformers"}} & set(sys.modules)))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=root, capture_output=True)
    assert done.stdout == before.tobytes()
