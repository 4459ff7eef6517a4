"""What a model is: build it by name, save it, load it, and what several models need.

A model is a file `models/<name>.py`; its name is the one on the command line. It holds

* `Settings`, a dataclass: the flags of this model, each a `setting(default, help)`.
* `inputs(settings) -> tuple[str, ...]`: the features a batch must hold.
* `Model(settings)`, an `nn.Module`: `forward(batch) -> {head: output}`, heads as in
  `constants.HEADS`. A "distribution" is log-probabilities (B, size); a "scale" is (B,) in `SCALE`.
* `SEQUENCE = True`, in a model that judges each step of a window: `{event: logits (B, W)}`, events
  as in `constants.EVENTS`.
* optionally `upgrade(state, configuration)`, which renames what an older version saved;
  `DEFAULTS`, its own defaults of the flags of training; `complete(settings) -> dict`, values of
  settings that are no flags, such as the architecture of a pretrained part;
  `resampled(windows, settings)`, what is trained on in place of the training windows; `TAIL`,
  {feature: how many numbers of its padding are enough}, where blocks may be cut behind them.

A `Model` may have `heads` (those of `constants.HEADS` that it predicts: else all),
`load_pretrained(settings)`, called once before it is trained, `folded()`, the same model made
faster for evaluation alone, and `parameter_groups()`, dicts for the optimizer: `params`, and what
differs for them of `lr` and `weight_decay`.

A `Model` without gradients holds `fit(batch)`, which is given all training windows at once and
keeps what it learns as buffers; and, where the shapes of those depend on the training rows,
`resize(state)`, which gives them the sizes that they have in a saved state dict.

A saved model is a folder: `configuration.json` (flat: every flag) and `model.pth` (a state dict);
or, as `publish` writes it for the hub, `config.json` and `model.safetensors`. `load` reads both.
Losses are in loss.py, the training loop in training/run.py.
"""

import contextlib
import dataclasses
import io
import json
import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

import constants
import utils
from utils import UserError, first_few

CONFIGURATION = "configuration.json"
WEIGHTS = "model.pth"
CONFIG, TENSORS = "config.json", "model.safetensors"  # the same, by the names the hub knows
# what torch.save writes for a dict of tensors, and a pickle may hold nothing else
OPCODES = set(
    "PROTO EMPTY_DICT EMPTY_TUPLE BINPUT LONG_BINPUT BINGET LONG_BINGET MARK BINUNICODE GLOBAL "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 BINPERSID BININT BININT1 BININT2 LONG1 NEWTRUE NEWFALSE NONE "
    "REDUCE SETITEM SETITEMS BUILD STOP".split()
)
GLOBALS = re.compile(
    r"collections OrderedDict|torch \w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)"
)
NAMED = 3  # tensors named in a message; a wrong setting can misfit a hundred

Batch = dict[str, Tensor]

# --- settings and building -------------------------------------------------------------------


def complete(settings: Any) -> Any:
    """The settings with what a model must know of other files to be built again without them."""
    leaf = utils.leaf("models", settings.model)
    if not hasattr(leaf, "complete"):
        return settings
    return dataclasses.replace(settings, **leaf.complete(settings))


def is_sequence(name: str) -> bool:
    """Whether model `name` judges every row of a window, as those of seconds of a video do."""
    return hasattr(utils.leaf("models", name), "SEQUENCE")


def heads(model: nn.Module) -> tuple[str, ...]:
    """Names of the heads that a model has, in the order of `constants.HEADS`."""
    return tuple(getattr(model, "heads", constants.HEADS))


def heads_of(text: str) -> tuple[str, ...]:
    """The heads of a flag such as "emotion,arousal", in the order of `constants.HEADS`."""
    named = text.split(",")
    if not text or set(named) - constants.HEADS.keys() or len(set(named)) < len(named):
        raise UserError(f"--heads needs some of {', '.join(constants.HEADS)}, got {text!r}")
    return tuple(name for name in constants.HEADS if name in named)


def settings(name: str, configuration: dict[str, Any]) -> Any:
    """The `Settings` of model `name`, read from a flat configuration.

    Keys that are no field of it are ignored, fields that are no key keep their default. A value of
    another type, outside `choices` or under `least` is a UserError.
    """
    kind = utils.leaf("models", name).Settings
    fields = [field for field in dataclasses.fields(kind) if field.name in configuration]
    for field in fields:
        utils.check_field(field, configuration[field.name])
    return kind(**{field.name: configuration[field.name] for field in fields})


def inputs(name: str, configuration: dict[str, Any]) -> tuple[str, ...]:
    """Names of the features that model `name` needs under this configuration."""
    return utils.leaf("models", name).inputs(settings(name, configuration))


def build(name: str, configuration: dict[str, Any], seed: int | None = None) -> nn.Module:
    """Model `name` with fresh weights, in training mode, on the CPU.

    The weights are drawn from `seed`, leaving torch's own generator as it was; without a seed,
    from torch's generator.
    """
    chosen = settings(name, configuration)
    with _drawn_from(seed):
        return utils.leaf("models", name).Model(chosen)


@contextlib.contextmanager
def _drawn_from(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(utils.seed_of(seed, "weights"))
        yield


def count(model: nn.Module) -> int:
    """How many numbers the model learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def judged(name: str, raw: Tensor) -> Tensor:
    """What the last layer of a head says, (B, size), as its output: log-probabilities (B, 7), or
    numbers in `constants.SCALE` (B,); in float32 at least."""
    raw = at_least_float32(raw)
    if constants.HEADS[name].kind == "distribution":
        return raw.log_softmax(-1)
    low, high = constants.SCALE
    return low + (high - low) * raw.squeeze(-1).sigmoid()


# --- saving and loading ----------------------------------------------------------------------


def save(folder: Path | str, model: nn.Module, configuration: dict[str, Any]) -> None:
    """Write `configuration.json`, then `model.pth`; the same weights give the same bytes."""
    folder = utils.make_folder(folder)
    utils.write_json(folder / CONFIGURATION, configuration)
    utils.write_sealed(folder / WEIGHTS, serialise(model.state_dict()))


def publish(folder: Path | str, model: nn.Module, configuration: dict[str, Any]) -> None:
    """The same as `config.json`, then `model.safetensors`."""
    folder = utils.make_folder(folder)
    utils.write_json(folder / CONFIG, configuration)
    data = safetensors.torch.save(_plain(dict(model.state_dict())), {"format": "pt"})
    utils.write_atomic(folder / TENSORS, data)


def serialise(state: Any) -> memoryview:
    """Tensors, in dicts and lists, as bytes: on the CPU and in plain memory order, whatever the
    model runs on. The same values give the same bytes."""
    buffer = io.BytesIO()  # in memory first: torch.save writes a file's name into its bytes
    torch.save(_plain(state), buffer)
    return buffer.getbuffer()


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def load(
    folder: Path | str, device: torch.device | str = "cpu"
) -> tuple[nn.Module, dict[str, Any]]:
    """The model saved in `folder`, in evaluation mode, and its configuration.

    A folder written by the 2022 code (its configuration names no model) is read as well; what
    comes back is then in today's terms.
    """
    said, weights = files(folder)
    configuration = utils.read_json(said)
    _check_storable(configuration, said)
    if "model" not in configuration and said.name == CONFIG:
        raise UserError(
            f"{said} names no model; what `publish` writes names one of: "
            f"{', '.join(utils.leaves('models'))}"
        )
    state = _read_state(weights)
    if "model" not in configuration:
        # every folder of 2022 held the one system there was: today's default
        oldest = utils.leaf("models", constants.MODEL)
        state, configuration = oldest.upgrade(state, configuration)
    _check_fit(state, _blank(configuration, said, state), said, weights)
    model = _sized(configuration, state)  # all weights are replaced below
    model.load_state_dict(state)
    return model.to(device).eval(), configuration


def files(folder: Path | str) -> tuple[Path, Path]:
    """Configuration and weights in a folder: of a run, or as published; its configuration decides.

    UserError where there is neither, or both: they may be of different models.
    """
    pairs = {CONFIGURATION: WEIGHTS, CONFIG: TENSORS}
    there = [name for name in pairs if os.path.exists(Path(folder, name))]
    if len(there) != 1:
        found = "both are there" if there else "neither is there"
        raise UserError(
            f"cannot read {Path(folder, CONFIGURATION)}, of a run, or {CONFIG}, of a "
            f"published model: {found}, it should be one"
        )
    return Path(folder, there[0]), Path(folder, pairs[there[0]])


def _check_storable(configuration: dict[str, Any], path: Path) -> None:
    """A UserError where it holds half a character or nests too deep: it is to be written again."""
    try:
        json.dumps(configuration, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds what is no JSON: {error}") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    """The dict of plain tensors in a file, none of them larger than what the file holds."""
    data = utils.read_sealed(path)
    what, read = "a state dict of torch", _of_archive
    if path.name == TENSORS:
        what, read = "tensors as safetensors", safetensors.torch.load
    try:
        state = read(data)
    except Exception as error:  # a damaged archive or pickle fails in too many ways to list
        raise UserError(
            f"{path} should hold {what}; it is damaged or something else "
            f"({len(data)} bytes, {type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"{path} should hold a dict of tensors, it holds a {type(state).__name__}")
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > len(data):  # a few numbers, repeated: a model of that size would fill the memory
        raise UserError(f"{path} has {len(data)} bytes, its tensors should have {size}")
    return dict(state)


def _of_archive(data: bytes) -> Any:
    _check_archive(data)
    with warnings.catch_warnings():  # of pickle protocols that are refused anyway
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _check_archive(data: bytes) -> None:
    """A ValueError for an archive that may be more than tensors, before torch reads it.

    Torch executes no code of a pickle; it does unpack, count and hash what it is told to, without
    an end where one object is named again and again. It writes archives without packing.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > len(data):
            raise ValueError("packed")
        [pickled] = [part for part in parts if part.filename.endswith("/data.pkl")]
        operations = pickletools.genops(archive.read(pickled))
    tuples, before = set(), ""
    for operation, argument, _ in operations:
        name = operation.name
        if name not in OPCODES or (name == "GLOBAL" and not GLOBALS.fullmatch(argument)):
            raise ValueError(f"{name} {argument}")
        if name.endswith("BINPUT") and before.startswith("TUPLE"):
            tuples.add(argument)
        if name.endswith("BINGET") and argument in tuples:  # a key of such takes for ever to hash
            raise ValueError("a tuple twice")
        before = name


def _sized(configuration: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """A model of any weights, of the sizes that its configuration and its training gave it."""
    model = build(configuration["model"], configuration, seed=0)
    if hasattr(model, "resize"):
        model.resize(state)
    return model


def _blank(
    configuration: dict[str, Any], said: Path, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The state dict that this configuration asks for, shapes only: it may ask for terabytes."""
    try:
        with torch.device("meta"):
            return _sized(configuration, state).state_dict()
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes that torch cannot count
        reason = str(error).partition("\n")[0]
        raise UserError(f"no model can be built from {said}: {reason}") from error


def _check_fit(
    state: dict[str, Tensor], wanted: dict[str, Tensor], said: Path, weights: Path
) -> None:
    wrong = [f"{name} is missing" for name in wanted if name not in state]
    wrong += [f"{ascii(name)[1:-1][:80]} is unknown" for name in state if name not in wanted]
    wrong += [
        f"{name} is {_shape(state[name])}, should be {_shape(wanted[name])}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    wrong += [
        f"{name} is {state[name].dtype}, should be {wanted[name].dtype}"
        for name in wanted
        if name in state and state[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    if wrong:
        raise UserError(f"{weights} does not fit {said}: {first_few(wrong, NAMED, '; ')}")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


# --- masks -----------------------------------------------------------------------------------


def mask_of(batch: Batch, feature: str) -> Tensor:
    """Where the batch really has that feature: `<feature>_mask`, else `mask`; bool."""
    own = f"{feature}_mask"
    return batch[own] if own in batch else batch["mask"]


def masked(batch: Batch, feature: str) -> Tensor:
    """(B, W, ...) -> (B, W, ...): zeros where the mask is false, even if NaN stands there."""
    values, mask = batch[feature], mask_of(batch, feature)
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return torch.where(mask, values, 0)


def drop_modality(
    batch: Batch,
    features: tuple[str, ...],
    p: float,
    generator: np.random.Generator,
    total: int | None = None,
    share: slice = slice(None),
) -> Batch:
    """Masks `<feature>_mask` in which a window has lost one whole feature with probability `p`.

    Which one is drawn evenly. A window that would be left with nothing keeps what it has, so a
    model of one feature is left as it is; one utterance of it may lose all that it has. Two draws a
    window, whatever the batch holds; a batch that is a `share` of one of `total` windows loses what
    it would there. The batch is not changed: `batch | drop_modality(...)`.
    """
    masks = {feature: mask_of(batch, feature) for feature in features}
    present = torch.stack([mask.flatten(1).any(1) for mask in masks.values()])  # (features, B)
    rows = present.shape[1]
    total = rows if total is None else total
    chosen = torch.from_numpy(generator.integers(len(features), size=total)[share])
    chosen[torch.from_numpy(generator.random(total)[share] >= p)] = -1
    chosen = chosen.to(present.device)
    kept = {}
    for i, (feature, mask) in enumerate(masks.items()):
        others = torch.cat([present[:i], present[i + 1 :]]).any(0)
        keep = ~((chosen == i) & others)
        kept[f"{feature}_mask"] = mask & keep.reshape((rows,) + (1,) * (mask.ndim - 1))
    return kept


# --- precision -------------------------------------------------------------------------------


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision made float32, for softmax and sigmoid; double stays double."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
