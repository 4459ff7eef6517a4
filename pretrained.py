"""BERT-like text encoders: found, checked and loaded from a folder or the hub. No feature itself.

transformers and torch are imported when an encoder is loaded, not before: reading a cache needs
neither.
"""

import os
import pickle
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from utils import UserError

MAX_PIECES = 512  # [CLS] and [SEP] included: what BERT has positions for
TOKENS_AT_ONCE = 4096  # in one forward pass
# KoBERT's tokenizer is a SentencePiece file without a class in transformers: known by these, in
# the order of their ids
KOBERT_PIECES = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
SPECIAL = ("pad", "cls", "sep", "bos", "eos")
FILES = ("config.json", "*.model", "tokenizer*", "vocab*", "special_tokens_map.json", "merges.txt")
WEIGHTS = ("*.safetensors*", "pytorch_model*.bin*")  # the first kind that is there

# what transformers and the readers of its files raise for a file that is absent or damaged
DAMAGE = (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, EOFError)


def find(encoder: str) -> Path:
    """The folder of an encoder: itself, or the hub's copy, downloaded unless HF_HUB_OFFLINE."""
    if Path(encoder).is_dir():
        return Path(encoder)
    from huggingface_hub import snapshot_download

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    try:
        for weights in WEIGHTS:
            folder = Path(
                snapshot_download(
                    encoder, allow_patterns=[*FILES, weights], local_files_only=offline
                )
            )
            if any(folder.glob(weights)):
                return folder
    except (OSError, ValueError) as error:
        raise UserError(
            f"the text encoder {encoder!r} is not on this machine and cannot be downloaded: get "
            f"it with `hf download {encoder} --local-dir FOLDER` where there is a network and "
            f"give --text_encoder FOLDER, or do without it: --text_encoder char-ngram"
        ) from error
    raise UserError(f"the text encoder {encoder!r} has no weights: no {' or '.join(WEIGHTS)}")


class Encoder:
    """An encoder in a folder. `dim`: numbers in a state; `pieces(text)`: ids of its word pieces."""

    def __init__(self, folder: Path):
        import torch

        self.torch = torch
        config = _config(folder)
        self.dim = config.hidden_size
        self.room = min(MAX_PIECES, config.max_position_embeddings) - 2
        self.pieces, self.first, self.last = tokenizer(folder, config)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = _model(folder, config).to(self.device).eval()

    def averages(self, texts: list[str]) -> list[np.ndarray | None]:
        """Mean last state over the word pieces of each text, (dim,); None where it has none.

        Texts of equal length go together: nothing is padded, so nothing has to be masked.
        """
        vectors: list[np.ndarray | None] = [None] * len(texts)
        by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for row, text in enumerate(texts):
            pieces = self.pieces(text)[: self.room]
            if pieces:
                by_length[len(pieces)].append((row, [self.first, *pieces, self.last]))
        for length, items in by_length.items():
            step = max(1, TOKENS_AT_ONCE // (length + 2))
            for start in range(0, len(items), step):
                rows, tokens = zip(*items[start : start + step], strict=True)
                for row, vector in zip(rows, self._average(tokens), strict=True):
                    vectors[row] = vector
        return vectors

    def _average(self, tokens: tuple[list[int], ...]) -> np.ndarray:
        """(B, T) ids, [CLS] first and [SEP] last -> (B, dim) mean state of the others."""
        ids = self.torch.tensor(tokens, device=self.device)
        with self.torch.inference_mode():
            states = self.model(ids, attention_mask=self.torch.ones_like(ids)).last_hidden_state
        return states[:, 1:-1].mean(1).cpu().numpy()


def tokenizer(folder: Path, config: Any) -> tuple[Callable[[str], list[int]], int, int]:
    """(text -> ids of its word pieces, id of [CLS], id of [SEP]) of the encoder in a folder."""
    from sentencepiece import SentencePieceProcessor

    for path in sorted(folder.glob("*.model")):
        try:
            model = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot read {path} as SentencePiece: {_line(error)}") from error
        known = [model.id_to_piece(i) for i in range(min(5, model.get_piece_size()))]
        if tuple(known) == KOBERT_PIECES and model.get_piece_size() <= config.vocab_size:
            return lambda text, model=model: model.encode(_plain(text)), 2, 3
    return _auto_tokenizer(folder, config)


def _plain(text: str) -> str:
    """As KoBERT's tokenizer does before SentencePiece: single spaces, plain quotes, no accents."""
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare)


def _auto_tokenizer(folder: Path, config: Any) -> tuple[Callable[[str], list[int]], int, int]:
    from transformers import AutoTokenizer

    try:
        with _quiet():
            own = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except DAMAGE as error:
        raise UserError(
            f"no tokenizer in {folder}: neither a SentencePiece file that begins with "
            f"{' '.join(KOBERT_PIECES)}, nor one that transformers reads ({_line(error)})"
        ) from error
    pairs = {name: (getattr(config, f"{name}_token_id", None), getattr(own, f"{name}_token_id"))
             for name in SPECIAL}  # fmt: skip
    wrong = [f"{name} {came}, not {needed}" for name, (needed, came) in pairs.items()
             if needed is not None and came is not None and needed != came]  # fmt: skip
    if None in (own.cls_token_id, own.sep_token_id):
        wrong.append("no [CLS] or [SEP]")
    if not len(KOBERT_PIECES) < len(own) <= config.vocab_size:
        wrong.append(f"{len(own)} pieces where the encoder has {config.vocab_size}")
    if wrong:
        raise UserError(f"the tokenizer in {folder} is not its encoder's: {'; '.join(wrong)}")
    return (
        lambda text: own.encode(text, add_special_tokens=False, truncation=False),
        own.cls_token_id, own.sep_token_id,
    )  # fmt: skip


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _ = config.hidden_size, config.max_position_embeddings, config.vocab_size
    except DAMAGE as error:
        raise UserError(f"no BERT-like encoder in {folder}: {_line(error)}") from error
    return config


def _model(folder: Path, config: Any) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        with _quiet():
            model, info = AutoModel.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True,
                local_files_only=True, trust_remote_code=False,
            )  # fmt: skip
    except (*DAMAGE, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(f"cannot load the encoder in {folder}: {_line(error)}") from error
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)  # not used here
    if missing:
        raise UserError(f"the weights in {folder} lack {len(missing)} of the encoder's tensors: "
                        f"{', '.join(missing[:3])}")  # fmt: skip
    return model


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and remarks; what matters of them is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
