"""A tiny KoBERT, untrained, for tests and trials without a network:

    PYTHONPATH=. python benchmarks/tiny_bert.py FOLDER --data sample

The SentencePiece model is trained on the corpus's text and begins with KoBERT's special pieces; the
BERT has 2 layers of 64 numbers, drawn from a seed. `--text_encoder FOLDER` then takes the same way
as the real one.
"""

import argparse
import io
import logging
import sys
from pathlib import Path

import torch
import transformers
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

import constants
from corpora.preparation import corpus
from models.encoders.text import KOBERT_PIECES
from utils import UserError, make_folder, write_atomic

PIECES = 2000  # at most
LAYERS, HIDDEN, HEADS = 2, 64, 4
POSITIONS = 512
FILE = "tokenizer.model"


def write(folder: Path, texts: list[str], seed: int = 0) -> None:
    """Lay tokenizer and encoder into `folder`, as KoBERT's files lie."""
    folder = make_folder(folder)
    bert(write_pieces(folder, texts), seed).save_pretrained(folder)


def write_pieces(folder: Path, texts: list[str]) -> int:
    """Train the SentencePiece model. How many pieces it has."""
    unknown, pad, *others = KOBERT_PIECES
    written = io.BytesIO()  # with a prefix, the path would be in the file
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        unk_id=0,
        unk_piece=unknown,
        pad_id=1,
        pad_piece=pad,
        bos_id=-1,
        eos_id=-1,
        user_defined_symbols=others,
        num_threads=1,
        minloglevel=2,
    )
    write_atomic(folder / FILE, written.getvalue())
    return SentencePieceProcessor(model_file=str(folder / FILE)).get_piece_size()


def bert(pieces: int, seed: int = 0) -> transformers.BertModel:
    """A BertModel with random weights; torch's own generator stays as it was."""
    config = transformers.BertConfig(
        vocab_size=pieces,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        pad_token_id=1,
        max_position_embeddings=POSITIONS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transformers.BertModel(config)


def main() -> int:
    """Exit code 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default=constants.DATA, help="DIR, CORPUS:DIR or sample")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    transformers.utils.logging.disable_progress_bar()
    try:
        texts = corpus.open_corpus(options.data).utterances["text"]
        write(options.folder, sorted({text for text in texts if text}), options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"--text_encoder {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
