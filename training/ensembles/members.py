"""Members of an ensemble: runs by name, files of the system of 2022, weights, out-of-fold runs."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import metric
from constants import EMOTIONS
from evaluation.run_configuration import RunConfiguration
from training import run_folder
from training.ensembles import ensemble, stacking
from training.ensembles.ensemble import Member
from utils import UserError, checksum, read_json

WEIGHTS = {  # written by hand in notebooks of 2022 and 2023: by method, of each member of a model
    "emo_ensemble": {"weighted": {"wav2vec2": [1 / 4] * 2, "kobert": [1 / 6] * 3}},
    "decision_fusion": {
        "weighted": {"alexnet": [0.10], "kobert": [0.67], "cm_bert": [0.23]},
        "hard": {"alexnet": [0.2], "kobert": [0.5], "cm_bert": [0.3]},
    },
}
WEIGHED = ("weighted", "hard")  # methods that have weights
# order of the outputs in its files, and which of our models made which
ORDER = ("neutral", "angry", "happy", "surprise", "sad", "fear", "disgust")
MODELS = {"text": "kobert", "audio": "alexnet", "cmbert": "cm_bert"}
FILES = ("truth", "pred", "output")  # <kind>_<file>.npy


# --- what is named on the command line ------------------------------------------------------------


def named(words: Sequence[str], save_path: str) -> list[Member]:
    """RUN, NAME=RUN, NAME=FOLDER/text or the folder of a sweep -> members.

    UserError for one twice, or fewer than two.
    """
    members = [m for word in words for m in _of_sweep(word, save_path) or [_named(word, save_path)]]
    names, folders = [m.name for m in members], [str(m.folder.resolve()) for m in members]
    for kind, found in (("called", names), ("the run", folders)):
        if twice := [what for what in found if found.count(what) > 1]:
            raise UserError(f"two members are {kind} {twice[0]!r}; name different runs, each once")
    if odd := [m.name for m in members if not (m.predictions["emotion"] != "").any()]:
        raise UserError(f"{odd[0]} predicts no emotion, and ensembles combine those alone")
    if len(members) < 2:
        raise UserError(f"an ensemble needs at least 2 members, got {len(members)}")
    return members


def _of_sweep(word: str, save_path: str) -> list[Member]:
    """The trials of a sweep by the name or folder of its tables; [] for anything else."""
    folders = [
        folder
        for folder in (Path(word), Path(save_path, word))
        if (folder / "sweep.json").is_file()
    ]
    if not folders:
        return []
    trials = read_json(folders[0] / "sweep.json").get("trials")
    if not isinstance(trials, list) or not all(
        isinstance(trial, dict) and isinstance(trial.get("name"), str) for trial in trials
    ):
        raise UserError(f"{folders[0] / 'sweep.json'} should list trials, each with a name")
    if failed := [trial["name"] for trial in trials if trial.get("failed")]:
        raise UserError(
            f"{len(failed)} of {len(trials)} trials of {word} failed (e.g. "
            f"{failed[0]}); train them first"
        )
    names = [trial["name"] for trial in trials]
    return [ensemble.read(name, run_folder.find(name, str(folders[0].parent))) for name in names]


def _named(word: str, save_path: str) -> Member:
    name, equals, place = word.partition("=")
    if not equals:
        return ensemble.read(Path(word).name, run_folder.find(word, save_path))
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(f"a member's name needs letters, digits and -_.+, got {name!r}")
    if Path(f"{place}_output.npy").is_file():
        return _of_2022(name, Path(place))
    return ensemble.read(name, run_folder.find(place, save_path))


def weights(words: Sequence[str] | None, method: str, models: Sequence[str]) -> list[float] | None:
    """`--weights`: a number a member, or a name in WEIGHTS: members are told by their models."""
    if words is None:
        return None
    if method not in WEIGHED:
        raise UserError(f"--weights are for --method {' and '.join(WEIGHED)}, not for {method}")
    if len(words) == 1 and words[0] in WEIGHTS:
        return _known(words[0], method, models)
    try:
        found = [float(word) for word in words]
    except ValueError:
        found = []
    if len(found) != len(models) or not (min(found) >= 0 and 0 < sum(found) < np.inf):
        raise UserError(
            f"--weights needs {' or '.join(WEIGHTS)}, or a number of at least 0 for "
            f"each of the {len(models)} members, not all 0, got "
            f"{' '.join(words)}"
        )
    return found


def _known(name: str, method: str, models: Sequence[str]) -> list[float]:
    if method not in WEIGHTS[name]:
        raise UserError(
            f"--weights {name} are for --method {' and '.join(WEIGHTS[name])}, not for {method}"
        )
    known = WEIGHTS[name][method]
    if sorted(models) != sorted(model for model, each in known.items() for _ in each):
        needed = ", ".join(f"{len(each)} {model}" for model, each in known.items())
        raise UserError(
            f"--weights {name} needs these members: {needed}; there are: {', '.join(models)}"
        )
    left = {model: list(each) for model, each in known.items()}
    return [left[model].pop(0) for model in models]


# --- files of 2022 --------------------------------------------------------------------------------


def _of_2022(name: str, prefix: Path) -> Member:
    """`<prefix>_{truth,pred,output}.npy`: labels and logits, without a word on whose they are.

    Rows are known by their numbers and truth has no ratings, so there are no intervals and no CCC.
    """
    if prefix.name not in MODELS:
        raise UserError(f"files of 2022 are {', '.join(MODELS)}_output.npy, got {prefix.name}")
    truth, said, logits = (_array(Path(f"{prefix}_{what}.npy")) for what in FILES)
    ids, said = _labels(truth, prefix), _labels(said, prefix)
    if logits.shape != (len(ids), len(ORDER)) or len(said) != len(ids):
        raise UserError(
            f"{prefix}_*.npy need N labels, N predictions and (N, {len(ORDER)}) logits,"
            f" they are {truth.shape}, {said.shape} and {logits.shape}"
        )
    answered = _labels(logits.argmax(1), prefix)
    if odd := int((answered != said).sum()):
        print(
            f"warning: {prefix}_pred.npy is not the largest of {prefix}_output.npy in {odd} of "
            f"{len(ids)} rows; the output is used",
            file=sys.stderr,
        )
    seal = checksum(Path(f"{prefix}_output.npy").read_bytes())
    configuration = {
        "model": MODELS[prefix.name],
        "SorL": "speaker",
        "seed": 0,
        "command": f"read from {prefix}_*.npy",
        "split": {"train": [], "val": [], "test": []},
        "corpus": {
            "name": "decision_fusion",
            "folder": str(prefix.parent),
            "fingerprint": seal,
            "synthetic": False,
        },
    }
    known = RunConfiguration.of(configuration)
    return Member(name, prefix, known, _table(ids, stacking.softmax(logits)))


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {path} as an array: {error}") from error
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind not in "iuf"
        or not (np.isfinite(array).all())
    ):
        raise UserError(f"{path} should be an array of finite numbers")
    return array


def _labels(values: np.ndarray, prefix: Path) -> np.ndarray:
    """(N,) numbers 0..6, floats among them, in their order -> (N,) ids in ours."""
    whole = values.ndim == 1 and np.isin(values, range(len(ORDER))).all()
    if not whole:
        raise UserError(f"{prefix}_*.npy: labels should be whole numbers 0..{len(ORDER) - 1}, (N,)")
    return np.array([EMOTIONS.index(emotion) for emotion in ORDER])[values.astype(int)]


def _table(ids: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    """Columns of predictions.csv; the one label that is known counts as one vote."""
    n, labels = len(ids), np.array(EMOTIONS)
    table = pd.DataFrame(
        {
            "corpus": "decision_fusion",
            "role": "speaker",
            "segment": [str(i) for i in range(n)],
            "session": "",
            "dialogue": "",
            "speaker": "",
            "kind": "",
            "set": "test",
        }
    )
    ours = np.zeros((n, len(EMOTIONS)))
    ours[:, [EMOTIONS.index(emotion) for emotion in ORDER]] = p
    table[list(metric.PROBABILITIES)] = ours
    table[["arousal", "valence"]] = np.nan
    table["emotion"], table["emotion_true"] = labels[ours.argmax(1)], labels[ids]
    table[list(metric.VOTES)] = np.eye(len(EMOTIONS))[ids]
    table[["arousal_true", "valence_true"]] = np.nan
    return table
