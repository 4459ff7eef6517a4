"""A trained model put to use: what it says of recordings that belong to no corpus.

    judge = trained.of_run(Path("exp/RUN"))           with torch
    judge = opening.of_export(Path("exp/RUN/onnx"))   with onnxruntime alone
    rows = recordings.utterances(["folder"])
    for said in judge.stream(rows): ...

What utterances are is in `recordings.py`, how a model is opened in `opening.py` and `trained.py`.
Nothing here needs torch.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import constants
import metric
from evaluation import calibration
from features.store import extraction
from features.store.windows import window_indices
from inference import recordings
from inference.held import KINDS, Batch, Held
from utils import UserError

# windows computed together, always so many: a sample alone meets the same arithmetic as in a batch
BATCH = 8
GROUP = 32  # utterances whose features are held at a time, and those before them in their windows


@dataclass
class Predictor:
    """One model: `say` gives {head: (B, ...)} of a batch, log-probabilities of the emotions.

    `temperature`: of its confidence, fitted on validation rows; None where there were none.
    """

    name: str
    configuration: dict[str, Any]
    inputs: tuple[str, ...]
    say: Callable[[Batch], Batch]
    settings: Any  # TrainingSettings; of an export, what its description says
    temperature: float | None = None
    tails: dict[str, int] = field(default_factory=dict)  # see TAIL in models/mate.py
    model: Any = None  # of torch, if it is one
    folder: Path = Path()

    def __post_init__(self) -> None:
        self.features = {name: extraction.Live(name, self.settings) for name in self.inputs}
        self.ws = self.settings.ws

    @property
    def kinds(self) -> list[str]:
        """What it reads: "sound", "text" or both."""
        found = {KINDS[live.kind] for live in self.features.values()}
        return [kind for kind in ("sound", "text") if kind in found]

    # --- utterances ------------------------------------------------------------------------------

    def check(self, rows: pd.DataFrame, force: bool = False) -> list[str]:
        """Remarks on what these utterances lack; a UserError where it must not be done.

        A model that always had both in training gives numbers without one, and nobody knows what
        they are worth: that needs `force`.
        """
        usable = rows[rows["quarantine"] == ""]
        lacking = {kind: int((~_has(usable, kind)).sum()) for kind in self.kinds}
        if len(self.kinds) == 1 and lacking[self.kinds[0]] == len(usable):
            how = ": put NAME.txt beside NAME.wav" if self.kinds == ["text"] else ""
            raise UserError(f"{self.name} reads {self.kinds[0]} alone, no utterance has any{how}")
        if self._settled_by and not usable["speaker"].any():
            raise UserError(
                f"{self.name} was trained with {self._settled_by}, so it needs to know who "
                f"speaks: give a CSV with the columns wav, speaker"
            )
        remarks = [
            self._remark(kind, n, len(usable), force)
            for kind, n in lacking.items()
            if n and len(self.kinds) > 1
        ]
        return [remark for remark in remarks if remark]

    def _remark(self, kind: str, lacking: int, total: int, force: bool) -> str:
        if self.configuration.get("modality_dropout", 0.0) > 0:
            return ""
        said = (
            f"{lacking} of {total} utterances have no {kind}, and {self.name} was trained with "
            f"--modality_dropout 0: it never saw an utterance without {kind}"
        )
        if not force:
            raise UserError(
                f"{said}; give the {kind}, train with --modality_dropout 0.15, or say --force"
            )
        return f"{said}: what it says of them may be worth nothing"

    @property
    def _settled_by(self) -> str:
        """The flag by which it needs all utterances of a speaker; "" without."""
        flags = (live.leaf.settled_by(self.settings) for live in self.features.values())
        return next(filter(None, flags), "")

    def hold(self, rows: pd.DataFrame) -> Held:
        """Compute the features of some utterances, in spoken order, `wav` a file of each."""
        rows = rows.reset_index(drop=True)
        stores = {name: live(rows) for name, live in self.features.items()}
        return Held(rows, stores, window_indices(rows["dialogue"], self.ws))

    # --- what it says ----------------------------------------------------------------------------

    def judge(self, batch: Batch) -> Batch:
        """`say` of any number of windows, BATCH at a time; a last batch is filled by repeating."""
        total = len(batch["mask"])
        whole: dict[str, list[np.ndarray]] = {}
        for start in range(0, total, BATCH):
            rows = np.minimum(np.arange(start, start + BATCH), total - 1)
            for head, value in self.say({name: v[rows] for name, v in batch.items()}).items():
                whole.setdefault(head, []).append(value)
        return {head: np.concatenate(parts)[:total] for head, parts in whole.items()}

    def judged(self, held: Held, chosen: np.ndarray) -> Batch:
        """{head: (n, ...)} of some utterances, windows of one size together."""
        sizes = held.sizes(chosen, self.tails)
        order = sorted(range(len(chosen)), key=lambda i: tuple(sizes[i].values()))
        parts = []
        for _, same in itertools.groupby(order, key=lambda i: sizes[i]):
            same = np.array(list(same))
            parts += [
                self.judge(held.batch(chosen[some], sizes[some[0]]))
                for some in np.split(same, range(BATCH, len(same), BATCH))
            ]
        back = np.argsort(order)
        return {head: np.concatenate([part[head] for part in parts])[back] for head in parts[0]}

    def table(self, held: Held, chosen: np.ndarray) -> pd.DataFrame:
        """A row for each of `chosen` (n,): what is known of it and what the model says.

        emotion, confidence, a probability for each emotion, arousal, valence; `masked`: what the
        model reads and did not have; `trouble`: why there is no prediction. No head: NaN.
        """
        rows = held.rows.iloc[chosen].reset_index(drop=True)
        trouble = rows["quarantine"].where(rows["quarantine"] != "", other="")
        nothing = ~held.there()[chosen] & (trouble == "").to_numpy()
        trouble[nothing] = [self._reason(held, row) for row in chosen[nothing]]
        good = np.flatnonzero(trouble == "")
        said = self.judged(held, chosen[good]) if len(good) else {}
        lacks = {kind: held.lacks(kind)[chosen] for kind in self.kinds}
        masked = [
            ";".join(kind for kind in lacks if lacks[kind][i] and not trouble[i])
            for i in range(len(rows))
        ]
        table = rows[["segment", "file", "start", "end", "dialogue", "speaker", "text"]]
        return pd.concat([table, self._numbers(said, good, len(rows))], axis=1).assign(
            masked=masked, trouble=trouble
        )

    def _reason(self, held: Held, row: int) -> str:
        own = held.rows["segment"].iloc[row]
        reasons = {
            why
            for store in held.stores.values()
            for segment, why in store.troubles
            if segment == own
        }
        return "; ".join(sorted(reasons)) or f"no {' and no '.join(self.kinds)}"

    def _numbers(self, said: Batch, good: np.ndarray, count: int) -> pd.DataFrame:
        def spread(values: np.ndarray) -> np.ndarray:
            out = np.full((count, *values.shape[1:]), np.nan)
            out[good] = values
            return out

        p = np.full((count, len(constants.EMOTIONS)), np.nan)
        if "emotion" in said:
            p = spread(np.exp(said["emotion"].astype(float)))
        known = np.isfinite(p).all(1)
        labels = np.array(constants.EMOTIONS)[np.nan_to_num(p).argmax(1)]
        sure = calibration.confidence(
            dict(zip(metric.PROBABILITIES, p.T, strict=True)), self.temperature
        )
        scales = {
            name: spread(said[name]) if name in said else np.full(count, np.nan)
            for name, head in constants.HEADS.items()
            if head.kind == "scale"
        }
        emotion = {"emotion": np.where(known, labels, ""), "confidence": sure}
        return pd.DataFrame(emotion | dict(zip(constants.EMOTIONS, p.T, strict=True)) | scales)

    def stream(
        self, rows: pd.DataFrame, first: int = 0, then: Callable | None = None
    ) -> Iterator[tuple[pd.DataFrame, Any]]:
        """Tables of GROUP utterances at a time, from row `first` on, and what `then(held, chosen)`
        says of them. Memory does not grow with their number, unless all of a speaker is needed."""
        index = window_indices(rows["dialogue"], self.ws)
        everything = np.arange(len(rows))
        whole = self._hold_some(rows, everything) if self._settled_by else None
        for start in range(first, len(rows), GROUP):
            mine = everything[start : start + GROUP]
            needed = everything if whole else np.setdiff1d(np.union1d(index[mine], mine), [-1])
            held = whole or self._hold_some(rows, needed)
            chosen = np.searchsorted(needed, mine)
            yield self.table(held, chosen), then and then(held, chosen)

    def _hold_some(self, rows: pd.DataFrame, needed: np.ndarray) -> Held:
        with tempfile.TemporaryDirectory() as folder:
            return self.hold(recordings.pieces(rows.iloc[needed], Path(folder)))


def _has(rows: pd.DataFrame, kind: str) -> np.ndarray:
    if kind == "text":
        return (rows["text"] != "").to_numpy()
    return ((rows["file"] != "") & ~rows["silent"].astype(bool)).to_numpy()


def synthetic(configuration: dict) -> bool:
    """Whether a model learnt from a corpus that was made up: its answers are no results."""
    parts = [configuration.get("corpus"), *(configuration.get("extra") or [])]
    return any(part.get("synthetic") for part in parts if isinstance(part, dict))
