"""Settings as the command line would give them."""

from training.settings import TrainingSettings, settings_class


def settings_with(model: str = "mate", **changes) -> TrainingSettings:
    """The settings of a training of `model`, with `changes` in place of the defaults."""
    return settings_class(model)(**changes)
