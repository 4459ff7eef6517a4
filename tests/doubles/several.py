"""Materials of two corpora: of one, with the other added to its training."""

import dataset
from doubles.settings import settings_with
from training.settings import TrainingSettings


def settings(**changes) -> TrainingSettings:
    base = {
        "data": "corpus",
        "max_bad": 0.5,
        "test_split": (4,),
        "text_encoder": "char-ngram",
        "text_dim": 16,
        "train_extra": ("kemdy20:talk",),
    }
    return settings_with(**base | changes)


def material(**changes) -> dataset.Material:
    return dataset.open_material(settings(**changes), ("sentence",))
