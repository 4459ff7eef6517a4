"""How each second of a video sounds to trained emotion models: states of models/lstm_audio.py.

    emotion_states (B, W, E)   the state of each run of `--emotion_run` after the last
                               `--emotion_seconds`, one run after the other in the order given

A state is that of an utterance of these seconds, which end with its own: it does not depend on how
long the video is, nor on what comes. Seconds without sound have none. The seconds are those of
features/mfcc_second.py, as the runs heard them in training (features/mfcc_seconds.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import constants
import utils
from features.store import contract
from utils import Unusable, UserError

MODEL = "lstm_audio"
SECONDS_AT_ONCE = 1024  # whose states are computed together


class Second(NamedTuple):
    """A row of a video, as far as an Extractor looks at it."""

    start: float  # s


def names(text: str) -> list[str]:
    """The folders that `--emotion_run` names. UserError for none."""
    if not (found := utils.run_names(text)):
        raise UserError(f"--emotion_run needs folders of {MODEL} runs, got {text!r}")
    return found


def _run(name: str, place: Path) -> dict:
    """A finished run, `NAME`, `exp/NAME` or a folder anywhere: where, what, how wide its states."""
    import model as models

    folder = next(
        (f for f in (Path(name), place / name) if (f / models.CONFIGURATION).is_file()), None
    )
    if folder is None:
        there = sorted(path.parent.name for path in place.glob(f"*/{models.CONFIGURATION}"))
        raise UserError(
            f"--emotion_run: no run {name!r}; in {place} there are: {', '.join(there) or 'none'}"
        )
    configuration = utils.read_json(folder / models.CONFIGURATION)
    if configuration.get("model") != MODEL:
        raise UserError(
            f"--emotion_run needs runs of {MODEL}, {folder} is one of "
            f"{configuration.get('model', 'the system of 2022')}"
        )
    weights = folder / models.WEIGHTS
    if not weights.exists():
        raise UserError(f"--emotion_run: {folder} has no {weights.name}: its training did not end")
    content = utils.checksum(utils.read_sealed(weights))[:32]
    size = models.settings(MODEL, configuration).hidden_size
    return {"run": str(folder.resolve()), "content": content, "size": size}


class Extractor(contract.Extractor):
    """A video and its rows, each a second from `start` on -> (E,) of each, or Unusable."""

    def __init__(self, parameters: dict):
        import model as models

        self.parameters = parameters
        self.models = [models.load(run["run"])[0] for run in parameters["runs"]]
        leaf = utils.leaf("features", "mfcc_second")
        self.mfcc = leaf.Extractor(parameters["mfcc"])

    def __call__(self, source: Path, rows: list) -> list[np.ndarray | Unusable]:
        """The sound is decoded once. Raises Unusable where there is none at all."""
        states, there = self.states(source, [round(row.start) for row in rows])
        together = np.concatenate(states, 1)
        return [
            array if yes else Unusable("no sound in this second")
            for array, yes in zip(together, there, strict=True)
        ]

    def states(self, source: Path, seconds: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray]:
        """Of each run the state at each of `seconds` (N,), (N, size) float32; and (N,) bool,
        whether there is sound in it. Raises Unusable."""
        means, there = self._means(source, max(seconds) + 1)
        at = np.asarray(seconds)[:, None] + np.arange(1 - self.parameters["seconds"], 1)
        known = (at >= 0) & there[at.clip(0)]
        heard = means[at.clip(0)]
        return [_states(model, heard, known) for model in self.models], there[list(seconds)]

    def _means(self, source: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The coefficients of the first `count` seconds, (count, 32), and which there are."""
        found = self.mfcc(source, [Second(float(second)) for second in range(count)])
        there = np.array([isinstance(array, np.ndarray) for array in found])
        means = np.zeros((count, self.parameters["mfcc"]["n_mfcc"]), np.float32)
        for row in np.flatnonzero(there):
            means[row] = found[row][: means.shape[1]]  # behind them: level and flux
        return means, there

    def readings(self, source: Path, seconds: Sequence[int]) -> dict[str, np.ndarray]:
        """{"emotion": (N, 7) probabilities, "arousal": (N,), "valence": (N,)} of each second: what
        a run says of an utterance of the seconds that end with it, the mean over the runs that
        have that head. NaN where there is no sound; a head of no run is left out. Raises Unusable.
        """
        import torch

        states, there = self.states(source, seconds)
        by_head: dict[str, list[np.ndarray]] = {}
        for model, state in zip(self.models, states, strict=True):
            with torch.inference_mode():
                judged = model.judge(torch.from_numpy(state))
            for head, value in judged.items():
                value = value.exp() if constants.HEADS[head].kind == "distribution" else value
                by_head.setdefault(head, []).append(value.numpy())
        means = {head: np.mean(by_head[head], 0) for head in constants.HEADS if head in by_head}
        for values in means.values():
            values[~there] = np.nan
        return means


class Feature(contract.Feature):
    """States of trained models, second by second."""

    VERSION = 1
    DTYPE = "float16"  # states lie in (-1, 1)
    SOURCE = "wav"
    BY = "second"
    OPTIONS = {"save_path": constants.SAVE_PATH}
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The runs (of `settings.emotion_run`), what they hear, and how many seconds of it."""
        mfcc = utils.leaf("features", "mfcc_second")
        place = Feature.option(settings, "save_path") or constants.SAVE_PATH
        return {
            "runs": [_run(name, Path(place)) for name in names(settings.emotion_run)],
            "seconds": settings.emotion_seconds,
            "mfcc": {"version": mfcc.VERSION} | mfcc.parameters(settings),
        }

    @staticmethod
    def shape(parameters: dict) -> tuple[int]:
        """(numbers of the states of all runs,)."""
        return (sum(run["size"] for run in parameters["runs"]),)

    @staticmethod
    def readings(source: Path, settings: Any, seconds: Sequence[int]) -> dict[str, np.ndarray]:
        """See `Extractor.readings`, of the runs of `settings.emotion_run`: a timeline."""
        return Extractor(Feature.parameters(settings)).readings(source, seconds)


def _states(model: Any, seconds: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N, S, 32), (N, S) bool -> (N, size) what the model has heard at the last of the S."""
    import torch

    parts = []
    for start in range(0, len(seconds), SECONDS_AT_ONCE):
        part = slice(start, start + SECONDS_AT_ONCE)
        with torch.inference_mode():
            heard = model.heard(torch.from_numpy(seconds[part]), torch.from_numpy(known[part]))
        parts.append(heard.numpy())
    return np.concatenate(parts)
