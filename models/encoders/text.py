"""Text encoders: BERT-like ones and their word pieces.

Finding, reading and checking them is in loading.py; what is made of the states, in features/ and
models/. torch and transformers are imported when an encoder is asked for.
"""

import math
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.encoders import loading
from models.encoders.loading import DAMAGE, SIZES, Kind, line, quiet
from utils import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_PIECES = 512  # [CLS] and [SEP] included: what BERT has positions for
# KoBERT's tokenizer is a SentencePiece file without a class in transformers: known by these, in
# the order of their ids
KOBERT_PIECES = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
OFFSET = ("roberta", "xlm-roberta", "camembert")  # whose places begin behind that of the padding
SPECIAL = ("pad", "cls", "sep", "bos", "eos")
TOKENIZERS = ("*.model", "tokenizer*", "vocab*", "special_tokens_map.json", "merges.txt")
TEXT = Kind("text encoder", "BERT-like", "--text_encoder", TOKENIZERS, SIZES)


def find(encoder: str, otherwise: str = "") -> Path:
    """The folder of a text encoder, as `loading.find`."""
    return loading.find(encoder, TEXT, otherwise)


def identify(encoder: str, weights: bool = True) -> dict:
    """What tells one text encoder from another, as `loading.identify`."""
    return loading.identify(encoder, TEXT, weights)


def config(folder: Path) -> dict:
    """What a run keeps of a text encoder's config, as `loading.config`."""
    return loading.config(folder, TEXT)


def encoder(config: dict, pooler: bool) -> "nn.Module":
    """A text encoder of this config with fresh weights, as `loading.encoder`."""
    return loading.encoder(config, pooler, TEXT)


def load(module: "nn.Module", folder: Path) -> list[str]:
    """Put the weights of a folder into a text encoder, as `loading.load`."""
    return loading.load(module, folder, TEXT)


class Tokenizer(NamedTuple):
    """`pieces(text)`: ids of its word pieces, no special ones; the ids of [CLS], [SEP], [PAD]."""

    pieces: Callable[[str], list[int]]
    cls: int
    sep: int
    pad: int


def described(encoder: str) -> dict:
    """What a model must know of an encoder to be built again without its weights: `encoder` (the
    config), `special` (ids of cls, sep and pad), `encoder_files` (a digest of config and tokenizer,
    None of a hub's)."""
    folder = find(encoder)
    about = config(folder)
    _, *ids = tokenizer(folder, about)
    special = dict(zip(("cls", "sep", "pad"), ids, strict=True))
    files = identify(encoder, weights=False).get("content")
    return {"encoder": about, "special": special, "encoder_files": files}


def check(settings: Any, name: str) -> None:
    """A UserError where `special` or `max_length` of model `name` do not fit its `encoder`.

    Whether an encoder can be built at all shows when it is.
    """
    about, special = settings.encoder, settings.special
    if about is None or special is None:
        raise UserError(f"the model {name} needs `encoder` and `special`, of its text encoder")
    size = about.get("vocab_size")
    size = size if type(size) is int else math.inf
    if set(special) != {"cls", "sep", "pad"} or not all(
        type(i) is int and 0 <= i < size for i in special.values()
    ):
        raise UserError(f"special should hold the ids of cls, sep and pad, it is {special!r}")


def check_length(config: dict, longest: int) -> None:
    """A UserError where an encoder has fewer places than the tokens that it is to read at once."""
    if longest > (places := positions(config)):
        raise UserError(
            f"--max_length should be at most {places}, the places of the encoder; it is {longest}"
        )


def positions(config: dict) -> int:
    """How many tokens it can read at once, [CLS] and [SEP] included."""
    places = config["max_position_embeddings"]
    if config.get("model_type") in OFFSET:  # they number places from pad + 1
        places -= (config.get("pad_token_id") or 0) + 1
    return min(MAX_PIECES, places)


def tokenizer(folder: Path, config: dict) -> Tokenizer:
    """The tokenizer of the encoder in a folder; a UserError unless its ids are the encoder's."""
    from sentencepiece import SentencePieceProcessor

    for path in sorted(folder.glob("*.model")):
        try:
            model = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot read {path} as SentencePiece: {line(error)}") from error
        known = [model.id_to_piece(i) for i in range(min(5, model.get_piece_size()))]
        if tuple(known) == KOBERT_PIECES and model.get_piece_size() <= config["vocab_size"]:
            unk, pad, cls, sep, _ = range(len(KOBERT_PIECES))
            _check_ids(folder, config, {"pad": pad, "cls": cls, "sep": sep})
            return Tokenizer(lambda text, m=model: m.encode(_plain(text)), cls, sep, pad)
    return _auto_tokenizer(folder, config)


def _plain(text: str) -> str:
    """As KoBERT's tokenizer does before SentencePiece: single spaces, plain quotes, no accents."""
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare)


def _auto_tokenizer(folder: Path, config: dict) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        with quiet():
            own = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except DAMAGE as error:
        raise UserError(
            f"no tokenizer in {folder}: neither a SentencePiece file that begins with "
            f"{' '.join(KOBERT_PIECES)}, nor one that transformers reads ({line(error)})"
        ) from error
    wrong = []
    if None in (own.cls_token_id, own.sep_token_id, own.pad_token_id):
        wrong.append("no [CLS], [SEP] or [PAD]")
    if not len(KOBERT_PIECES) < len(own) <= config["vocab_size"]:
        wrong.append(f"{len(own)} pieces where the encoder has {config['vocab_size']}")
    _check_ids(folder, config, {name: getattr(own, f"{name}_token_id") for name in SPECIAL}, wrong)
    return Tokenizer(
        lambda text: own.encode(text, add_special_tokens=False, truncation=False),
        own.cls_token_id,
        own.sep_token_id,
        own.pad_token_id,
    )


def _check_ids(folder: Path, config: dict, ids: dict[str, int | None], also: list = ()) -> None:
    """A UserError where an id is not the config's, or `also` says what else is wrong."""
    needed = {name: config.get(f"{name}_token_id") for name in ids}
    wrong = [
        f"{name} {came}, not {needed[name]}"
        for name, came in ids.items()
        if None not in (came, needed[name]) and came != needed[name]
    ]
    wrong += also
    if wrong:
        raise UserError(f"the tokenizer in {folder} is not its encoder's: {'; '.join(wrong)}")


def joined(
    ids: "Tensor", mask: "Tensor", longest: int, cls: int, sep: int, pad: int
) -> tuple["Tensor", "Tensor"]:
    """(B, W, T) [CLS] pieces [SEP] each -> (B, L) [CLS] pieces [SEP] pieces [SEP] ..., mask.

    In order, L <= `longest`; of more than that, the newest are kept. A window without any piece
    is [CLS] [SEP]. What a row becomes does not depend on the others.
    """
    import torch

    ids, mask = ids[:, :, 1:].flatten(1), mask[:, :, 1:].flatten(1)  # each without its [CLS]
    count = mask.sum(1, keepdim=True)
    place = mask.cumsum(1) - (count - (longest - 1)).clamp(min=0)  # 1.. for those that are kept
    kept = mask & (place > 0)
    lengths = count.clamp(max=longest - 1, min=1) + 1
    row = torch.arange(int(lengths.max()), device=ids.device)
    out = torch.full((len(ids), len(row)), pad, dtype=ids.dtype, device=ids.device)
    out[:, 0] = cls
    out[:, 1] = torch.where(count[:, 0] == 0, sep, pad)
    at = torch.where(kept, place, len(row))  # the column of what is not kept is cut off
    out = torch.cat([out, out[:, :1]], 1).scatter(1, at, ids)[:, :-1]
    return out, row < lengths
