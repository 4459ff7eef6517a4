"""How hard the sample is for a linear model: `PYTHONPATH=. python benchmarks/sample_difficulty.py`

Macro-F1 of logistic regression in five folds of four sessions, rows with one modal label, from
text (hashed character n-grams), from audio (statistics of log-mel over speech frames) and both.
The regularisation is fixed. `--data DIR` takes a sample that is there; else one is made and left.
"""

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import constants
from metric import VOTES
from utils import leaf

SPEECH_DB = 25  # a frame this far below the loudest one is no speech
FOLDS = 5
INVERSE_PENALTY = 0.01  # C of the logistic regression: far more columns than rows


def text_features(utterances: pd.DataFrame) -> np.ndarray:
    """(N, 768)."""
    size = constants.TEXT_DIM
    hashing = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=size, norm="l2")
    return hashing.transform(utterances["text"]).toarray()


def audio_features(utterances: pd.DataFrame, folder: Path) -> np.ndarray:
    """(N, 1374): mean, sd and mean step of each band over speech frames, in dB and standardised."""
    log_mel = leaf("features", "log_mel")
    parameters = log_mel.parameters(SimpleNamespace(sr=constants.SAMPLE_RATE))
    extractor = log_mel.Extractor(parameters)
    bands, frames = log_mel.shape(parameters)
    rows = []
    for wav in utterances["wav"]:
        clip = extractor(folder / wav, [None])[0][:, :frames]
        block = np.full((bands, frames), constants.FLOOR_DB)
        block[:, : clip.shape[1]] = clip
        level = clip.mean(0)
        speech = clip[:, level > level.max() - SPEECH_DB] if np.ptp(level) else clip
        spread = np.sqrt(block.var() + constants.STANDARDISE_EPS)
        rows.append([*_statistics(speech), *_statistics((speech - block.mean()) / spread)])
    return np.array(rows)


def _statistics(clip: np.ndarray) -> np.ndarray:
    steps = np.abs(np.diff(clip, axis=1, prepend=clip[:, :1]))
    return np.concatenate([clip.mean(1), clip.std(1), steps.mean(1)])


def macro_f1(features: np.ndarray, utterances: pd.DataFrame, test: np.ndarray) -> float:
    """Trained where `test` (N,) bool is false; rows with one modal label only."""
    votes = utterances[VOTES].to_numpy()
    single = (votes == votes.max(1, keepdims=True)).sum(1) == 1
    truth = votes.argmax(1)
    linear = LogisticRegression(C=INVERSE_PENALTY, max_iter=500)
    model = make_pipeline(StandardScaler(), linear).fit(
        features[single & ~test], truth[single & ~test]
    )
    return f1_score(truth[single & test], model.predict(features[single & test]), average="macro")


def table(folder: Path) -> pd.DataFrame:
    """Macro-F1 per fold of sessions (rows) and modality (columns)."""
    utterances, _ = leaf("corpora", "kemdy19").read(folder)
    utterances = utterances[utterances["role"] == "speaker"].reset_index(drop=True)
    text, audio = text_features(utterances), audio_features(utterances, folder)
    modalities = {"text": text, "audio": audio, "both": np.hstack([text, audio])}
    folds = {}
    for sessions in np.array_split(utterances["session"].unique(), FOLDS):
        test = utterances["session"].isin(sessions).to_numpy()
        folds[f"{sessions[0]}-{sessions[-1]}"] = {
            name: macro_f1(features, utterances, test) for name, features in modalities.items()
        }
    return pd.DataFrame(folds).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", type=Path, help="folder of a sample in the layout of kemdy19")
    parser.add_argument("--seed", type=int, default=0, help="of the sample that is made")
    settings = parser.parse_args()
    folder = settings.data
    if folder is None:
        folder = Path(tempfile.mkdtemp()) / "sample"
        leaf("corpora", "sample").write(folder, seed=settings.seed)
    scores = table(folder)
    scores.loc["mean"] = scores.mean()
    print(f"{folder}, macro-F1 by test sessions")
    print(scores.round(3).to_string())


if __name__ == "__main__":
    main()
