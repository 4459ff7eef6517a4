"""A video of a user's own, second by second: its scores, how loud it is, what is felt in it."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

import constants
import model as models
import utils
from dataset import Material, Sequences
from evaluation import splits
from features.store import extraction
from media import listening, pauses, video
from metric import VOTES
from training import run_folder
from training.devices import Processes, settle_arithmetic
from training.settings import TrainingSettings, settings_of
from training.testing import outputs
from utils import UserError, leaf, make_folder, read_json, setting

RATE = 16_000  # Hz
OVERHANG = 0.1  # s: AAC ends with its frame, up to 64 ms late
PLACE = Path(constants.PREPARED) / "videos"  # its features, found again by the bytes of the video


class Watched(NamedTuple):
    """What a model says of a video."""

    seconds: float
    scores: np.ndarray  # (N,) in [0, 1], of each second
    level: np.ndarray | None  # (M,) dB of every 20 ms of its sound; None without sound
    reason: str  # what is broken of it


@dataclass(frozen=True)
class VideoSettings:
    """Where the parts of a run are now, and what computes."""

    emotion_run: str | None = setting(
        None, "lstm_audio runs, where they were moved, or for --timeline alone", metavar="RUN"
    )
    vision_encoder: str | None = setting(None, "where the run's encoder is now", metavar="ID")
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")
    gpu_id: int | None = setting(None, "GPU to use; -1: the CPU", least=-1, metavar="ID")


def watch(path: Path, run: Path, given: VideoSettings) -> Watched:
    """Score each second by the model of a finished run. Raises UserError."""
    settle_arithmetic(deterministic=False)
    processes = Processes(given.gpu_id)
    run_folder.check_trained(run)
    named = read_json(run / models.CONFIGURATION).get("model", constants.MODEL)
    if not leaf("models", str(named)).SEQUENCE:
        raise UserError(
            f"{run.name} is a run of {named}, which does not judge seconds of a video; "
            f"--run needs one of a highlight model"
        )
    model, configuration = models.load(run, processes.device)
    settings = settings_of_run(configuration, given)
    run_folder.refuse_another_encoder(run, settings, configuration)
    sound = listening.listen(path)
    if sound.bad:
        raise UserError(f"cannot use {path}: {sound.bad}")
    rows = seconds_of(path, sound)
    names = models.inputs(configuration["model"], vars(settings))
    stores = {
        name: extraction.extract(name, rows, path.parent, make_folder(PLACE), settings)
        for name in names
    }
    if not any(store.available.any() for store in stores.values()):
        reasons = sorted({reason for store in stores.values() for _, reason in store.troubles})
        raise UserError(f"{path} has nothing that {run.name} reads: {'; '.join(reasons)}")
    scores = _scores(model, rows, stores, processes)
    return Watched(sound.duration, scores, levels(path), "; ".join(sound.converted))


def settings_of_run(configuration: dict, given: VideoSettings) -> TrainingSettings:
    """What the run was trained with, and where things are now."""
    named = {"vision_encoder": given.vision_encoder, "emotion_run": given.emotion_run}
    moved = {n: value for n, value in named.items() if value is not None and configuration.get(n)}
    return settings_of(configuration, **moved, save_path=given.save_path)


def seconds_of(path: Path, sound: listening.Sound) -> pd.DataFrame:
    """A row a second, as of a corpus; its `highlight` is not known, 0 stands for it."""
    count = seconds_in(sound)
    rows = pd.DataFrame({"start": np.arange(count, dtype=float)})
    rows = rows.assign(
        corpus="video",
        role="speaker",
        segment=[f"{path.stem}#{n:05d}" for n in range(count)],
        session=1,
        dialogue=path.stem,
        speaker="",
        kind="",
        end=rows["start"] + 1,
        wav=path.name,
        text="",
        emotion="",
        valence=np.nan,
        arousal=np.nan,
        quarantine="",
        marks="",
        wav_size=sound.size,
        wav_hash=sound.hash,
        silent=sound.silent,
        highlight=0.0,
    )
    return rows.assign(**dict.fromkeys(VOTES, np.nan))


def seconds_in(sound: listening.Sound) -> int:
    """How many seconds a video has; a last frame of sound that hangs over is none."""
    return max(1, math.ceil(sound.duration - OVERHANG))


def _scores(model, rows: pd.DataFrame, stores: dict, processes: Processes) -> np.ndarray:
    nobody = SimpleNamespace(name="video", synthetic=False, fingerprint="")
    split = splits.Split((), (), (1,))
    windows = Sequences(Material(nobody, rows, stores, split, sequence=True), "test", 0)
    [said] = outputs(model, windows, 1, "video", processes).values()
    return 1 / (1 + np.exp(-windows.flat(said.cpu().numpy()).astype(float)))


def levels(path: Path) -> np.ndarray | None:
    """(M,) dB of every 20 ms of the sound of a video, None without sound; a minute is held."""
    try:
        return pauses.levels_in(video.sound_blocks(path, RATE, pauses.BLOCK), RATE)
    except utils.Unusable:
        return None


def timeline(path: Path, run: Path, given: VideoSettings) -> pd.DataFrame:
    """start, the probability of each emotion, arousal, valence of each second; NaN where silent.

    Of the lstm_audio runs of `--emotion_run`, or of those that the highlight run reads.
    """
    _, configuration = models.load(run)
    settings = settings_of_run(configuration, given)
    if given.emotion_run:
        settings = dataclasses.replace(settings, emotion_run=given.emotion_run)
    if not settings.emotion_run:
        raise UserError("--timeline needs --emotion_run RUN: finished runs of lstm_audio")
    sound = listening.listen(path)
    if sound.bad:
        raise UserError(f"cannot use {path}: {sound.bad}")
    seconds = list(range(seconds_in(sound)))
    try:
        said = leaf("features", "emotion_states").readings(path, settings, seconds)
    except utils.Unusable as error:
        raise UserError(f"no timeline of {path}: {error}") from error
    return _table(seconds, said)


def _table(seconds: Sequence[int], said: dict[str, np.ndarray]) -> pd.DataFrame:
    table = pd.DataFrame({"start": seconds})
    for i, emotion in enumerate(constants.EMOTIONS if "emotion" in said else ()):
        table[emotion] = said["emotion"][:, i]
    return table.assign(**{name: said[name] for name in ("arousal", "valence") if name in said})
