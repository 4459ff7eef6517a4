"""Settings of a training: what may be said of it, each declared once with its default and help.

`constants.py` holds the defaults that a user edits. The fields of a model's own `Settings` join
these in `settings_class(model)`; flags.py makes the command line of them.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import constants
from evaluation.splits import DataSettings
from utils import leaf, leaves, setting


@dataclass(frozen=True)
class RunSettings(DataSettings):
    """Which run: where it is made, gone on with, tested again; and how it is scored."""

    select: str = setting(
        constants.SELECT,
        "what the epoch is chosen by, with --val_split; ap: average precision of highlights",
        choices=("macro_f1", "uar", "ccc", "loss", "ap"),
    )
    ties: str = setting(
        constants.TIES,
        "which test rows the emotion scores count: rows with one label, or all",
        choices=constants.TIE_POLICIES,
        with_test=True,
    )
    test_only: str | None = setting(
        None,
        "test a finished run: its folder or its name in --save_path",
        const="",
        metavar="RUN",
        with_test=True,
    )
    test_path: str | None = setting(
        None, "the same, as the 2022 code named it", metavar="RUN", with_test=True
    )
    save_path: str = setting(constants.SAVE_PATH, "where run folders are made", with_test=True)
    save_name: str | None = setting(
        None,
        "name of the run folder; the same command again goes on with a run that was killed",
        metavar="NAME",
    )
    resume: str | None = setting(
        None,
        "go on with a run that was stopped, with its own flags: its folder or its name",
        metavar="RUN",
    )
    save_minutes: float = setting(
        constants.SAVE_MINUTES,
        "a checkpoint after every epoch, and in it when this long has passed",
        least=0,
        metavar="MINUTES",
    )


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """How a model is trained. `settings_class` adds the fields of one model."""

    model: str = setting(constants.MODEL, "a file of models/", choices=tuple(leaves("models")))
    epochs: int = setting(constants.EPOCHS, "times through the data", least=1)
    batch_size: int = setting(constants.BATCH_SIZE, "windows a step", least=2, with_test=True)
    max_tokens: int = setting(
        constants.MAX_TOKENS,
        "largest batch in steps of features that differ in length (samples, word pieces), padding "
        "included; 0: any",
        least=0,
        metavar="N",
        with_test=True,
    )
    optim: str = setting(
        constants.OPTIMIZER, "optimizer", choices=("sgd", "adam", "adagrad", "adamw")
    )
    lr: float = setting(constants.LEARNING_RATE, "learning rate", least=0)
    lr_decay: float = setting(
        constants.LR_DECAY,
        "factor on the learning rate at 1/3 and at 1/2 of the epochs",
        least=0,
        most=1,
    )
    schedule: str = setting(
        constants.SCHEDULE,
        "of the learning rate: step: --lr_decay; cosine, linear: to 0 at the end",
        choices=("step", "cosine", "linear"),
    )
    warmup: float = setting(
        constants.WARMUP,
        "share of the steps in which the rate rises from 0; with cosine and linear",
        least=0,
        most=1,
        metavar="SHARE",
    )
    clip: float = setting(
        constants.CLIP, "largest norm of the gradients; 0: any", least=0, metavar="NORM"
    )
    weight_decay: float = setting(constants.WEIGHT_DECAY, "L2 penalty", least=0)
    loss: str = setting(
        constants.LOSS,
        "normal: KL against the votes; cbloss: class-balanced",
        choices=("normal", "cbloss"),
    )
    lam: float = setting(
        constants.LAMBDA,
        "weight of the emotion loss; arousal and valence get 1 - lam each",
        least=0,
        most=1,
    )
    beta: float = setting(constants.BETA, "of the class-balanced loss, under 1", least=0, below=1)
    cb_counts: str = setting(
        constants.CB_COUNTS,
        "legacy: counts divided by the smallest, as in 2022; exact: Cui et al. 2019, where a beta "
        "of 0.99 or less changes next to nothing at this corpus size",
        choices=("legacy", "exact"),
    )
    modality_dropout: float = setting(
        constants.MODALITY_DROPOUT,
        "share of training windows that lose one whole modality",
        least=0,
        most=1,
        metavar="P",
    )
    precision: str = setting(
        constants.PRECISION,
        "of training; auto: bf16 where the processor computes in it. Testing is float32",
        choices=("auto", "float32", "bf16"),
    )
    bn: str = setting(
        constants.BN,
        "what BatchNorm tests with: averages over the training windows, computed when training "
        "ends, or the running averages, as in 2022",
        choices=("recomputed", "running"),
    )
    deterministic: bool = setting(
        False, "the same bytes at every run on a GPU too, which is slower; on a CPU they always are"
    )
    seed: int = setting(constants.SEED, "of everything random", least=0)
    gpu_id: int | None = setting(
        None,
        "GPU to use (default: the first, or the CPU where there is none; -1: the CPU)",
        least=-1,
        metavar="ID",
        names=("--gup_id",),
        with_test=True,
    )


@functools.cache
def settings_class(model: str) -> type[TrainingSettings]:
    """`TrainingSettings` with the fields of a model's `Settings`, and that model's own defaults."""
    plugin = leaf("models", model)
    both = {f.name: f for f in dataclasses.fields(TrainingSettings)}
    both |= {f.name: f for f in dataclasses.fields(plugin.Settings)}
    defaults = {"model": model, **plugin.DEFAULTS}
    changed = [
        (name, both[name].type, dataclasses.field(default=value, metadata=both[name].metadata))
        for name, value in defaults.items()
    ]
    bases = (plugin.Settings, TrainingSettings)
    return dataclasses.make_dataclass(f"{model}_settings", changed, bases=bases, frozen=True)


def settings_of(configuration: dict[str, Any], **changes: Any) -> TrainingSettings:
    """The settings in a flat configuration such as configuration.json; what it lacks has its
    default. `changes` come before both. Values of another type than declared are a UserError."""
    kind = settings_class(changes.get("model", configuration["model"]))
    said = configuration | changes
    names = [field.name for field in dataclasses.fields(kind) if field.name in said]
    return kind(**{name: _hashable(said[name]) for name in names})


def _hashable(value: Any) -> Any:
    """A list of JSON as the tuple that it was."""
    return tuple(value) if isinstance(value, list) else value


def flat(settings: TrainingSettings) -> dict[str, Any]:
    """Name and value of every flag, and of what `complete` of the model filled, in order."""
    values = vars(settings)
    return {
        field.name: values[field.name]
        for field in dataclasses.fields(settings)
        if field.metadata["flag"] or values[field.name] is not None
    }
