"""What a model is: build it by name, save it, load it, and what several models need.

A model is a file `models/<name>.py`; its name is the one on the command line. It holds one class,
`Model(EmotionModel)`: what that must say and what it may say stands in `EmotionModel` below.

A saved model is a folder: `configuration.json` (flat: every flag) and `model.pth` (a state dict);
or, as `publish` writes it for the hub, `config.json` and `model.safetensors`. `load` reads both.
Losses are in loss.py, the training loop in training/loop.py.
"""

import contextlib
import dataclasses
import io
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

import constants
import utils
from utils import UserError, first_few

CONFIGURATION = "configuration.json"
WEIGHTS = "model.pth"
CONFIG, TENSORS = "config.json", "model.safetensors"  # the same, by the names the hub knows
NAMED = 3  # tensors named in a message; a wrong setting can misfit a hundred

Batch = dict[str, Tensor]

# --- the contract ----------------------------------------------------------------------------


class Resampling(NamedTuple):
    """How training rows are drawn so that classes are equally frequent: training/balance.py."""

    how: str = "none"  # or "oversample", "undersample", "smote"
    feature: str = ""  # smote: the feature whose means over time it makes up
    neighbours: int = 0  # smote: rows of its class that a row is drawn towards


class EmotionModel(nn.Module):
    """What every `Model` in models/ is. It must have `Settings`, `inputs` and `forward`.

    `forward(batch) -> {head: output}`, heads as in `constants.HEADS`: a "distribution" is
    log-probabilities (B, size), a "scale" is (B,) in `SCALE`. A model with `SEQUENCE` judges each
    step of a window: `{event: logits (B, W)}`, events as in `constants.EVENTS`.
    """

    Settings: type  # a frozen dataclass: its flags, each a `setting(default, help)`
    DEFAULTS: dict[str, Any] = {}  # its own defaults of the flags of training
    SEQUENCE = False  # whether it judges each step of a window
    FITTED = False  # whether it learns at once, by `fit`, without gradients
    TAIL: dict[str, int] = {}  # {feature: how many numbers of its padding are enough}
    heads: tuple[str, ...] = tuple(constants.HEADS)  # those that it predicts

    @staticmethod
    def inputs(settings: Any) -> tuple[str, ...]:
        """Names of the features that a batch must hold."""
        raise NotImplementedError

    @staticmethod
    def complete(settings: Any) -> dict[str, Any]:
        """Values of settings that are no flags, such as the architecture of a pretrained part.

        They are stored, so that the model can be built again without that. A UserError for
        settings that make no training, before hours of extraction.
        """
        return {}

    @staticmethod
    def upgrade(state: dict[str, Tensor], configuration: dict[str, Any]) -> tuple[dict, dict]:
        """What a folder holds whose configuration names no model, in today's names."""
        raise UserError("configuration.json names no model, and this model is none of 2022")

    @staticmethod
    def run_name(settings: Any) -> str:
        """How the names of its run folders begin."""
        return settings.model

    @staticmethod
    def resampling(settings: Any) -> Resampling:
        """How its training rows are drawn."""
        return Resampling()

    @staticmethod
    def event_weight(settings: Any) -> float:
        """The weight of an event in the loss; 0: events weigh as much as all that are none."""
        return 0.0

    @classmethod
    def about(cls) -> str:
        """What it is, in one line: the first of its file."""
        return (sys.modules[cls.__module__].__doc__ or "").partition("\n")[0]

    def load_pretrained(self, settings: Any) -> None:
        """Take over pretrained weights; called once, before it is trained. Raises UserError."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimizer: `params`, and what differs for them of `lr` and `weight_decay`."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def fit(self, batch: Batch) -> None:
        """Learn from all training windows at once, if FITTED, and keep it as buffers."""
        raise NotImplementedError

    def resize(self, state: dict[str, Tensor]) -> None:
        """Give buffers whose shapes depend on the training rows those of a saved state."""

    def folded(self) -> "EmotionModel":
        """The same model, made faster for evaluation alone."""
        return self


# --- settings and building -------------------------------------------------------------------


def complete(settings: Any) -> Any:
    """The settings with what a model must know of other files to be built again without them."""
    found = utils.leaf("models", settings.model).complete(settings)
    return dataclasses.replace(settings, **found)


def heads(model: EmotionModel) -> tuple[str, ...]:
    """Names of the heads that a model has, in the order of `constants.HEADS`."""
    return tuple(model.heads)


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


def build(name: str, configuration: dict[str, Any], seed: int | None = None) -> EmotionModel:
    """Model `name` with fresh weights, in training mode, on the CPU.

    The weights are drawn from `seed`, leaving torch's own generator as it was; without a seed,
    from torch's generator.
    """
    chosen = settings(name, configuration)
    with _drawn_from(seed):
        return utils.leaf("models", name)(chosen)


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
) -> tuple[EmotionModel, dict[str, Any]]:
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
    what = "tensors as safetensors" if path.name == TENSORS else "a state dict of torch"
    try:
        state = read_tensors(path, data)
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


def read_tensors(path: Path, data: bytes | None = None) -> Any:
    """What torch or safetensors wrote into a file, of which `data` was read; executes nothing.

    Without `data`, what torch before 1.6 wrote is read as well: it is no archive. Raises what they
    raise, and a ValueError for an archive that may hold more than tensors.
    """
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path) if data is None else safetensors.torch.load(data)
    with path.open("rb") if data is None else io.BytesIO(data) as file:
        if data is not None or zipfile.is_zipfile(file):
            utils.check_archive(file)
        file.seek(0)
        with warnings.catch_warnings():  # of pickle protocols that are refused anyway
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)


def _sized(configuration: dict[str, Any], state: dict[str, Tensor]) -> EmotionModel:
    """A model of any weights, of the sizes that its configuration and its training gave it."""
    model = build(configuration["model"], configuration, seed=0)
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


# --- precision -------------------------------------------------------------------------------


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision made float32, for softmax and sigmoid; double stays double."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
