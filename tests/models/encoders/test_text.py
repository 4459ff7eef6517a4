"""Word pieces of text encoders, and how many a text may have."""

import json

import pytest
import sentencepiece
import torch
import transformers
from doubles.encoders import TEXTS

from benchmarks import tiny_bert
from models.encoders import text as text_encoders
from utils import UserError

IDS = torch.tensor([[2, 9, 7, 12, 5, 3]])


def test_the_pieces_are_those_of_sentencepiece_itself(kobert):
    tokenizer = text_encoders.tokenizer(kobert, text_encoders.config(kobert))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(kobert / tiny_bert.FILE))
    assert [reference.id_to_piece(i) for i in range(5)] == "[UNK] [PAD] [CLS] [SEP] [MASK]".split()
    for text in TEXTS:
        assert tokenizer.pieces(text) == reference.encode(text)
    assert (tokenizer.cls, tokenizer.sep, tokenizer.pad) == (2, 3, 1)
    assert tokenizer.pieces("뷁") == [reference.piece_to_id("▁"), 0]  # [UNK]


def test_kobert_with_another_padding_than_1_is_refused(own):
    path = own / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 0}))
    with pytest.raises(UserError, match="not its encoder's: pad 1, not 0"):
        text_encoders.tokenizer(own, text_encoders.config(own))


def test_special_pieces_in_another_order_are_not_taken_for_kobert(tmp_path, monkeypatch):
    other = ("[UNK]", "[PAD]", "[SEP]", "[CLS]", "[MASK]")
    monkeypatch.setattr(tiny_bert, "KOBERT_PIECES", other)
    tiny_bert.write(tmp_path, TEXTS)
    with pytest.raises(UserError, match=r"the tokenizer|no tokenizer"):
        text_encoders.tokenizer(tmp_path, text_encoders.config(tmp_path))


def test_the_pieces_of_any_other_encoder_are_its_own(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(TEXTS)) - {" "})]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    own = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False)
    own.save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        pad_token_id=0,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=8,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer = text_encoders.tokenizer(tmp_path, text_encoders.config(tmp_path))
    assert tokenizer[1:] == (2, 3, 0)
    for text in TEXTS:
        assert [2, *tokenizer.pieces(text), 3] == own(text)["input_ids"]


@pytest.mark.parametrize("kind, places", [("bert", 64), ("roberta", 62), ("xlm-roberta", 62)])
def test_encoders_that_number_places_from_the_padding_have_fewer(kind, places):
    config = {"model_type": kind, "max_position_embeddings": 64, "pad_token_id": 1}
    assert text_encoders.positions(config) == places
