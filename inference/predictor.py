"""A trained model put to use: what it says of recordings that belong to no corpus, and why.

    judge = predictor.of_run(Path("exp/RUN"))           with torch
    judge = predictor.of_export(Path("exp/RUN/onnx"))   with onnxruntime alone
    rows = recordings.utterances(["folder"])
    for said in judge.stream(rows): ...

Windows are those of training: the utterances said before in the same dialogue, left-padded. What
utterances are is in `recordings.py`, the files of an export in `exported.py`; torch is imported by
`of_run` alone.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

import constants
import metric
from evaluation import calibration
from evaluation.run_configuration import RunConfiguration, RunResult
from features.store import extraction
from features.store.store import Store, gathered
from features.store.windows import window_indices
from inference import exported, recordings
from models.encoders import onnx as onnx_export
from utils import UserError, leaf, read_json, setting

# windows computed together, always so many: a sample alone meets the same arithmetic as in a batch
BATCH = 8
STEP = 32  # frames by which blocks are cut shorter
GROUP = 32  # utterances whose features are held at a time, and those before them in their windows
WEIGHTS = (
    "model.pth",
    "model.safetensors",
    onnx_export.MODEL,
    onnx_export.SENTENCE,
    onnx_export.INT8,
)
KINDS = {"wav": "sound", "text": "text", "segment": "text"}  # what a feature is made from

Batch = dict[str, np.ndarray]


@dataclass
class Held:
    """Utterances with their features in memory, and the windows (N, ws) that end with each."""

    rows: pd.DataFrame
    stores: dict[str, Store]
    index: np.ndarray

    def batch(self, chosen: np.ndarray, sizes: dict[str, int] | None = None) -> Batch:
        """(B,) row numbers -> what a model reads of the windows that end there; `sizes`: where the
        blocks of a feature are cut, of which the rest is padding."""
        batch = gathered(self.stores, self._windows(chosen))
        return batch | {name: batch[name][..., :size] for name, size in (sizes or {}).items()}

    def _windows(self, chosen: np.ndarray) -> np.ndarray:
        """(B, ws) row numbers, -1 for what is not there or in quarantine."""
        index = self.index[chosen]
        visible = (self.rows["quarantine"] == "").to_numpy()
        return np.where((index >= 0) & visible[index], index, -1)

    def sizes(self, chosen: np.ndarray, tails: dict[str, int]) -> list[dict[str, int]]:
        """Of each window the size to which each feature of `tails` can be cut: what its clips fill
        and the tail, in steps, so that there are few kinds of batches."""
        found: list[dict[str, int]] = [{} for _ in chosen]
        for name, tail in tails.items():
            whole = self.stores[name].shape[-1]
            filled = self.stores[name].extents(self._windows(chosen)).max(1) + tail
            for size, sizes in zip(-(-filled // STEP) * STEP, found, strict=True):
                sizes[name] = int(min(size, whole))
        return found

    def there(self) -> np.ndarray:
        """(N,) bool: the utterances of which the model reads anything."""
        return np.any([store.available for store in self.stores.values()], axis=0)

    def lacks(self, kind: str) -> np.ndarray:
        """(N,) bool: those that have no such feature, though the model reads it."""
        stores = [store for store in self.stores.values() if KINDS[store.kind] == kind]
        return ~np.all([store.available for store in stores], axis=0) & bool(stores)


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


# --- opened --------------------------------------------------------------------------------------


def found(name: str, save_path: str, onnx: bool = False) -> Path:
    """The folder of a model: a path, or the name of a run in `save_path`; with `onnx` an export, or
    the one in a run."""
    places = [Path(name), Path(save_path) / name]
    if onnx:
        places = [place for run in places for place in (run, run / "onnx")]
    needed = (onnx_export.DESCRIPTION,) if onnx else ("configuration.json", "config.json")
    for folder in places:
        if any((folder / file).is_file() for file in needed):
            return folder
    what = "exported model" if onnx else "run"
    pattern = "*/onnx/" if onnx else "*/"
    marks = (file for mark in needed for file in Path(save_path).glob(pattern + mark))
    there = sorted({mark.relative_to(save_path).parts[0] for mark in marks})
    how = f"; make one with: python main.py export {name} --onnx" if onnx else ""
    raise UserError(
        f"no {what} {name!r}, nor in {save_path}; there are: {', '.join(there) or 'none'}{how}"
    )


@dataclass(frozen=True)
class OpenSettings:
    """Which model, with what it is computed, and where its encoders are now."""

    run: str = setting(
        "",
        "a finished run, a published folder, or with --onnx an export",
        position=True,
        required=True,
        metavar="RUN",
    )
    onnx: bool = setting(False, "RUN is an exported model: no torch is needed")
    int8: bool = setting(False, "the same, of the model in eight bits")
    text_encoder: str | None = setting(None, "where the run's text encoder is now", metavar="ID")
    speech_encoder: str | None = setting(None, "where its speech encoder is now", metavar="ID")
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")
    gpu_id: int | None = setting(None, "GPU to use; -1: the CPU", least=-1, metavar="ID")


def opened(folder: Path, settings: OpenSettings) -> Predictor:
    """`of_export` or `of_run`, as the settings say."""
    moved = {"text_encoder": settings.text_encoder, "speech_encoder": settings.speech_encoder}
    if not (settings.onnx or settings.int8):
        return of_run(folder, settings.gpu_id, moved)
    if said := [name for name, value in moved.items() if value is not None]:
        raise UserError(f"--{said[0]} does not go with --onnx: an export holds its encoders")
    return of_export(folder, settings.int8)


def of_export(folder: Path, int8: bool = False) -> Predictor:
    """The model of an export folder, by onnxruntime. Raises UserError for what is none."""
    said = exported.description(folder)
    path = folder / (onnx_export.INT8 if int8 else onnx_export.MODEL)
    if not path.is_file():
        how = "; export without --no_int8" if int8 else ""
        raise UserError(f"no {path.name} in {folder}{how}")
    session, heads = onnx_export.session(path), said["heads"]
    names = {node.name for node in session.get_inputs()}

    def say(batch: Batch) -> Batch:
        given = {name: values for name, values in batch.items() if name in names}
        return dict(zip(heads, session.run(heads, given), strict=True))

    known = dict(said["configuration"])  # of the model no class is read: that would need torch
    if any((folder / name).is_file() for name in (onnx_export.SENTENCE, "config.json")):
        known["text_encoder"] = str(folder)
    settings = SimpleNamespace(**known)
    return Predictor(
        said["name"],
        said["configuration"],
        tuple(said["inputs"]),
        say,
        settings,
        said["temperature"],
        said["tails"],
    )


def of_run(folder: Path, gpu_id: int | None = -1, moved: dict[str, str] | None = None) -> Predictor:
    """The model of a run, or of a folder that `publish` wrote. `moved`: where encoders are now."""
    import torch

    import model as models
    from training import run_folder, testing
    from training.devices import Processes, settle_arithmetic
    from training.settings import settings_of

    settle_arithmetic(deterministic=False)
    device = Processes(gpu_id).device
    _refuse(folder)
    model, configuration = models.load(folder, device)
    RunConfiguration.of(configuration, folder / models.CONFIGURATION)
    settings = settings_of(configuration, **_given(moved, configuration))
    if settings.text_encoder is None:
        settings = dataclasses.replace(settings, text_encoder=constants.TEXT_ENCODER)
    run_folder.refuse_another_encoder(folder, settings, configuration)

    @torch.inference_mode()
    def say(batch: Batch) -> Batch:
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        said = model(testing.to(tensors, device))
        return {head: values.float().cpu().numpy() for head, values in said.items()}

    inputs = models.inputs(settings.model, vars(settings))
    model = model.folded()
    return Predictor(
        folder.resolve().name,
        configuration,
        inputs,
        say,
        settings,
        temperature(folder, configuration),
        tails(settings.model, inputs),
        model,
        folder,
    )


def tails(model: str, inputs: tuple[str, ...]) -> dict[str, int]:
    """Of features whose padding a model need not see whole: how much of it is enough."""
    known = leaf("models", model).TAIL
    return {name: known[name] for name in inputs if name in known}


def _refuse(folder: Path) -> None:
    """A UserError for what is no single model of utterances."""
    here = folder / "configuration.json"
    said = read_json(here) if here.is_file() else {}
    if "members" in said:
        names = ", ".join(str(member.get("name")) for member in said["members"])
        raise UserError(f"{folder.name} is an ensemble; name one of its members: {names}")
    named = said.get("model", constants.MODEL)
    if leaf("models", str(named)).SEQUENCE:
        raise UserError(
            f"{folder.name} judges seconds of a video: python main.py highlight "
            f"VIDEO --run {folder.name} --out CLIP.mp4"
        )
    if here.is_file():
        from training import run_folder

        run_folder.check_trained(folder)


def _given(moved: dict[str, str] | None, configuration: dict) -> dict[str, str]:
    """Encoders named anew. Vectors of 2022 belong to their corpus: no encoder is known for them."""
    given = {name: value for name, value in (moved or {}).items() if value is not None}
    encoder = given.get("text_encoder", configuration.get("text_encoder"))
    if str(encoder).endswith(".npy"):
        raise UserError(
            f"the sentence vectors of this run come from {encoder}, which holds no "
            f"others; name the encoder they were made with: --text_encoder "
            f"{constants.TEXT_ENCODER}"
        )
    return given


def synthetic(configuration: dict) -> bool:
    """Whether a model learnt from a corpus that was made up: its answers are no results."""
    parts = [configuration.get("corpus"), *(configuration.get("extra") or [])]
    return any(part.get("synthetic") for part in parts if isinstance(part, dict))


def temperature(folder: Path, configuration: dict) -> float | None:
    """What confidences are divided by: of a published model, or as it was fitted in training."""
    if "temperature" in configuration:
        return configuration["temperature"]
    return RunResult.read(folder).temperature
