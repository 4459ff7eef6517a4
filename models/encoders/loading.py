"""Pretrained encoders: found, checked, built and loaded, from a folder or the hub.

Each kind (text.py, speech.py, vision.py) says what is its own in a `Kind`. A run writes
`config(folder)` into its configuration.json, so that its model is built again where the
pretrained checkpoint is not. What is made of the states is in features/ and models/.
transformers and torch are imported when an encoder is asked for: reading a cache needs neither.
"""

import hashlib
import inspect
import math
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import utils
from utils import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
WEIGHTS = ("*.safetensors*", "pytorch_model*.bin*")  # the first kind that is there
PARTS = ("model.safetensors", "pytorch_model.bin")  # or <name>.index.json, which names files
NO_ENCODERS = ("char-ngram", ".npy")  # what else --text_encoder may say
# of a config: where it came from, what would run code, and what is settled here (float32)
UNKEPT = (
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "auto_map",
    "attn_implementation",
    "experts_implementation",
    "quantization_config",
    "use_cache",
    "id2label",
    "label2id",
)
SIZES = ("hidden_size", "vocab_size", "max_position_embeddings")
# how the names of tensors end in older checkpoints: of TensorFlow's, and with the weight norm of
# torch before 2.1
OLD_NAMES = (
    ("LayerNorm.gamma", "LayerNorm.weight"),
    ("LayerNorm.beta", "LayerNorm.bias"),
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)
MAX_LAYERS = 1000  # more would be a mistake that takes hours to build
NAMED = 3  # tensors named in a message
NAME_MAX = 255  # bytes of a file name, on the systems there are

# what transformers and the readers of its files raise for a file that is absent or damaged
DAMAGE = (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, EOFError)


class Kind(NamedTuple):
    """What an encoder is called in messages and what belongs to it, beside config and weights.

    `sizes`: entries of its config that are to be whole numbers; `spare`: tensors that a checkpoint
    may lack, which then stay random; `renamed`: what is replaced in the names of a checkpoint's
    tensors, one after the other.
    """

    name: str
    like: str
    flag: str
    files: tuple[str, ...]
    sizes: tuple[str, ...]
    spare: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


# --- where it is ---------------------------------------------------------------------------------


def find(encoder: str, kind: Kind, otherwise: str = "") -> Path:
    """The folder of an encoder: itself, or the hub's copy, downloaded unless HF_HUB_OFFLINE.

    `otherwise`: what else the user could do, at the end of the message where it is not there.
    """
    if Path(encoder).is_dir():
        return Path(encoder)
    if Path(encoder).is_absolute() or encoder.startswith(".") or encoder.count("/") > 1:
        raise UserError(f"{kind.flag}: no folder {encoder!r}")
    if encoder.endswith(NO_ENCODERS):
        raise UserError(
            f"{kind.flag} should be the hub id or the folder of a {kind.like} "
            f"encoder, for this model; it is {encoder!r}"
        )
    from huggingface_hub import snapshot_download

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    try:
        for weights in WEIGHTS:
            wanted = ["config.json", *kind.files, weights]
            folder = Path(
                snapshot_download(encoder, allow_patterns=wanted, local_files_only=offline)
            )
            if any(folder.glob(weights)):
                return folder
    except (OSError, ValueError) as error:
        raise UserError(
            f"the {kind.name} {encoder!r} is not on this machine and cannot be downloaded: get "
            f"it with `hf download {encoder} --local-dir FOLDER` where there is a network and "
            f"give {kind.flag} FOLDER{otherwise}"
        ) from error
    raise UserError(f"the {kind.name} {encoder!r} has no weights: no {' or '.join(WEIGHTS)}")


def identify(encoder: str, kind: Kind, weights: bool = True) -> dict:
    """`{"encoder": id}`, or `{"encoder": resolved path, "content": digest}` of a file or folder.

    For the parameters of a feature. Without `weights`, those do not count. Raises UserError for
    what can be neither.
    """
    path = Path(encoder)
    if any(len(part.encode()) > NAME_MAX for part in path.parts):
        raise UserError(f"{kind.flag}: {encoder[:40]!r}... is too long for a name")
    if path.suffix == ".npy" and path.is_file():
        return {"encoder": str(path.resolve()), "content": _content([path])}
    if path.is_dir():
        patterns = ("config.json", *kind.files, *(WEIGHTS if weights else ()))
        files = {f for pattern in patterns for f in path.glob(pattern) if f.is_file()}
        return {"encoder": str(path.resolve()), "content": _content(sorted(files))}
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", encoder) or path.suffix == ".npy":
        raise UserError(f"{kind.flag}: no file or folder {encoder!r}")
    return {"encoder": encoder}


def _content(files: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "blake2b").hexdigest()
        digest.update(f"{path.name} {inner}\n".encode())
    return digest.hexdigest()


# --- its shape -----------------------------------------------------------------------------------


def config(folder: Path, kind: Kind) -> dict:
    """Its config.json, with the defaults of its kind: all that `encoder` needs, as JSON.

    `model_type` and `kind.sizes` (of text: `hidden_size`, `vocab_size`, `max_position_embeddings`)
    are always there.
    """
    from transformers import AutoConfig

    try:
        read = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        known = read.to_diff_dict() | {name: getattr(read, name) for name in kind.sizes}
        _check_sizes(known, read.num_hidden_layers, kind)
    except Exception as error:  # its values may have any type, which fails in too many ways to list
        raise UserError(f"no {kind.like} encoder in {folder}: {line(error)}") from error
    return _kept(known)


def _check_sizes(config: dict, layers: Any, kind: Kind) -> None:
    sizes = {name: config[name] for name in kind.sizes} | {"num_hidden_layers": layers}
    for name, value in sizes.items():
        most = MAX_LAYERS if name == "num_hidden_layers" else math.inf
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} is {value!r}"[:80])


def _kept(config: dict) -> dict:
    return {k: v for k, v in config.items() if k not in UNKEPT and not k.startswith("_")}


def encoder(config: dict, pooler: bool, kind: Kind) -> "nn.Module":
    """The transformers model of a `config`, with random weights, in float32.

    `forward(input_ids=, attention_mask=)` gives `.last_hidden_state` and `.pooler_output`. It is
    built without the pooler unless `pooler`; kinds that never have one (ELECTRA) have no
    attribute `pooler`. Raises UserError for a config that describes no encoder.
    """
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel

    try:
        made = AutoConfig.for_model(**_kept(config))
        _check_sizes(config, made.num_hidden_layers, kind)
        built = MODEL_MAPPING[type(made)]
        optional = "add_pooling_layer" in inspect.signature(built.__init__).parameters
        with quiet():
            return AutoModel.from_config(
                made, trust_remote_code=False, **({"add_pooling_layer": pooler} if optional else {})
            )
    except Exception as error:  # as above: the config may be of a run that was sent
        named = str(config.get("model_type"))[:40]
        raise UserError(
            f"no {kind.name} can be built from its config (model_type {named!r}): {line(error)}"
        ) from error


# --- its weights ---------------------------------------------------------------------------------


def load(module: "nn.Module", folder: Path, kind: Kind) -> list[str]:
    """Replace the weights of an encoder by those in a folder: all of them, else a UserError.

    Returns the names of `kind.spare` that the checkpoint lacks.

    The checkpoint may have been saved from the bare encoder or from one with a task's head, whose
    keys begin with `bert.` (`wav2vec2.`); what it has beyond the encoder is left out.
    """
    import torch

    saved = _named(_read(folder), getattr(module, "base_model_prefix", ""), kind)
    wanted = module.state_dict()
    spared = [name for name in kind.spare if name in wanted and name not in saved]
    for name in spared:
        del wanted[name]
    missing = sorted(name for name in wanted if name not in saved)
    if missing:
        raise UserError(
            f"the weights in {folder} lack {len(missing)} of the encoder's tensors: "
            f"{', '.join(missing[:NAMED])}"
        )
    wrong = [
        f"{name} is {tuple(saved[name].shape)}, should be {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if saved[name].shape != tensor.shape
    ]
    if wrong:
        raise UserError(
            f"the weights in {folder} do not fit its config.json: {'; '.join(wrong[:NAMED])}"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(saved[name])
    return spared


def _named(saved: dict[str, "Tensor"], prefix: str, kind: Kind) -> dict[str, "Tensor"]:
    """The tensors of a checkpoint by the names they have in the bare encoder."""
    renamed = {}
    for name, tensor in saved.items():
        for old, new in OLD_NAMES:
            if name.endswith(old):
                name = name.removesuffix(old) + new
        for old, new in kind.renamed:
            name = name.replace(old, new)
        renamed[name.removeprefix(f"{prefix}.")] = tensor
    return renamed


def _read(folder: Path) -> dict[str, "Tensor"]:
    """Every tensor of the checkpoint in a folder. Nothing in it is executed. Raises UserError."""
    import torch
    from safetensors import SafetensorError

    from model import read_tensors  # torch: reading a cache needs none

    saved: dict[str, Any] = {}
    try:
        for path in _parts(folder):
            saved |= read_tensors(path)
    except (*DAMAGE, zipfile.BadZipFile, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(f"cannot load the encoder in {folder}: {line(error)}") from error
    return {str(k): v for k, v in saved.items() if isinstance(v, torch.Tensor)}


def _parts(folder: Path) -> list[Path]:
    """The files of its checkpoint: one, or those that an index names."""
    for name in PARTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            names = sorted(
                {Path(part).name for part in utils.read_json(index)["weight_map"].values()}
            )
            return [folder / part for part in names]
    raise FileNotFoundError(f"neither {' nor '.join(PARTS)}")


# --- what transformers says ----------------------------------------------------------------------


def line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quiet() -> Iterator[None]:
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
