"""protocol.json: what was compared with what, and what of it crosses the split."""

import numpy as np
import pandas as pd

import model as models
from corpora.preparation import Corpus
from dataset import Material
from evaluation import splits
from evaluation.leakage import IDENTITIES, crossing_rows, equal_transcripts
from training.settings import TrainingSettings
from utils import leaf


def card(material: Material, settings: TrainingSettings, trained: bool = True) -> dict:
    """protocol.json: what was compared with what, JSON-able, in a fixed order.

    `settings`: SorL, ties, seed, select, val_split, disjoint and the model's own. `trained`: False
    where a finished run is tested again: test rows alone are counted, and what only training
    settles (select, disjoint, leaks) is None.
    """
    utterances, sets = material.utterances, material.of
    removed = np.broadcast_to(material.removed, sets.shape)
    if not trained:
        tested = sets == "test"
        utterances, sets, removed = utterances[tested], sets[tested], removed[tested]
    target = splits.is_target(utterances) & ~removed
    return {
        "corpus": _about(material.corpus),
        **({"extra": [_about(e.corpus) for e in material.extras]} if material.extras else {}),
        "role": settings.SorL,
        "ties": settings.ties,
        "seed": settings.seed,
        "select": _selection(settings) if trained else None,
        "disjoint": settings.disjoint if trained else None,
        "resampling": _resampling(settings),
        # normalised by what is known of a speaker, test recordings included
        "uses_test_audio": _settled(settings),
        "sets": {name: _counted(utterances, sets == name, target) for name in splits.Split._fields},
        **_by_corpus(utterances, sets, target),
        "dropped": _dropped(utterances, sets, settings.ties, material.reasons),
        "leaks": _leaks(utterances, sets, removed) if trained else None,
    }


def _about(corpus: Corpus) -> dict:
    return {"name": corpus.name, "synthetic": corpus.synthetic, "fingerprint": corpus.fingerprint}


def _by_corpus(utterances: pd.DataFrame, sets: np.ndarray, target: np.ndarray) -> dict:
    """{"by_corpus": {name: its sets}} where there are several; sessions are each corpus's own."""
    names = list(dict.fromkeys(utterances["corpus"]))
    if len(names) < 2:
        return {}
    of = {name: (utterances["corpus"] == name).to_numpy() for name in names}
    return {
        "by_corpus": {
            name: {
                part: _counted(utterances, (sets == part) & of[name], target)
                for part in splits.Split._fields
                if ((sets == part) & of[name]).any()
            }
            for name in names
        }
    }


def _settled(settings: TrainingSettings) -> bool:
    names = models.inputs(settings.model, vars(settings))
    return any(leaf("features", name).settled_by(settings) for name in names)


def _resampling(settings: TrainingSettings) -> str:
    how = leaf("models", settings.model).resampling(settings).how
    return (
        "none: nothing is resampled before the split"
        if how == "none"
        else (f"{how}, of training rows alone, after the split")
    )


def _selection(settings: TrainingSettings) -> str:
    if leaf("models", settings.model).FITTED:
        return "nothing: learnt at once, without epochs"
    if not settings.val_split:
        return "last epoch kept"
    return f"epoch of {'lowest' if settings.select == 'loss' else 'highest'} val {settings.select}"


def _counted(utterances: pd.DataFrame, among: np.ndarray, target: np.ndarray) -> dict:
    """One set: its sessions, and the number of speakers, dialogues, rows and targets."""
    rows = utterances[among]
    return {
        "sessions": sorted({int(session) for session in rows["session"]}),
        "speakers": _distinct(rows[rows["speaker"] != ""], "speaker"),
        "dialogues": _distinct(rows, "dialogue"),
        "rows": len(rows),
        "targets": int(target[among].sum()),
        "one_label": int((rows["emotion"].str.fullmatch("[^;]+") & target[among]).sum()),
    }


def _distinct(rows: pd.DataFrame, column: str) -> int:
    return len(rows[["corpus", column]].drop_duplicates())


def _dropped(
    utterances: pd.DataFrame, sets: np.ndarray, ties: str, reasons: dict[str, int]
) -> dict[str, dict]:
    """Rows that are not trained on or not scored, by reason; a tie in the test is predicted."""
    bad, target = utterances["quarantine"] != "", splits.is_target(utterances)
    tied = target & (sets == "test") & utterances["emotion"].str.contains(";").to_numpy()
    quarantined = utterances.loc[bad, "quarantine"].value_counts().sort_index()
    return {
        "quarantined": {reason: int(count) for reason, count in quarantined.items()},
        "unlabelled": int((~target & ~bad.to_numpy()).sum()),
        "ties_in_test": int(tied.sum()) if ties == "drop" else 0,
        "disjoint": dict(reasons),
    }


def _leaks(utterances: pd.DataFrame, sets: np.ndarray, removed: np.ndarray) -> dict:
    """What stands in two sets (refused, so 0), and test lines with the words of a training line."""
    crossing = {
        name: len(crossing_rows(utterances, column, sets)) for column, name in IDENTITIES.items()
    }
    return crossing | {"transcripts": equal_transcripts(utterances, sets, removed, near=True)}
