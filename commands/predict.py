"""Say what is felt in recordings of your own, with a trained run.

    python main.py predict RUN a.wav                        with a.txt beside it, or --text
    python main.py predict RUN FOLDER                       wav and txt; a folder is a dialogue
    python main.py predict RUN lines.csv                    columns wav, text, speaker, dialogue
    python main.py predict RUN meeting.mp3                  a long recording, cut at its pauses
    python main.py predict RUN FOLDER --explain             and what moved each prediction
    python main.py predict exp/RUN/onnx FOLDER --onnx       with onnxruntime alone

Writes predictions.jsonl and predictions.csv, a line an utterance as it comes, and a timeline of
each dialogue as a picture, to --out. The same command again goes on after a kill.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from commands import Subcommand
from inference import console, occlusion, opening, predictor, recordings
from inference import results as result_files
from inference.held import Held
from reporting import page
from utils import UserError, checksum, digest, first_few, setting

MAX_BAD = 0.5  # share of the utterances that may be unusable; a corpus allows fewer
NAMED = 10  # bad files on the console


@dataclass(frozen=True)
class Settings(opening.OpenSettings):
    """The run, the recordings, and how they are taken."""

    paths: tuple[str, ...] = setting(
        (), "sound files, folders of them, or CSV tables", position=True, words="+", metavar="PATH"
    )
    out: str | None = setting(None, "where results go (default: a folder in RUN)", metavar="DIR")
    text: str | None = setting(None, "what is said in the one file that is named", metavar="LINE")
    split: str = setting(
        "auto",
        f"cut files at pauses; auto: those of more than {recordings.LONG:g} s without a txt",
        choices=tuple(recordings.SPLITS),
    )
    pause: float = setting(
        0.4, "s of quiet that end an utterance there", least=0.1, most=10, metavar="S"
    )
    alone: bool = setting(False, "each utterance by itself, without those before it")
    max_bad: float = setting(
        MAX_BAD, "share of the utterances that may be unusable", least=0, most=1, metavar="SHARE"
    )
    force: bool = setting(False, "without text, by a run that never missed it")
    explain: bool = setting(False, "what moved each prediction; many times slower")


class Command(Subcommand):
    """Say what is felt in recordings."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """List and hear everything, open the model, then answer utterance by utterance."""
        folder = opening.found(settings.run, settings.save_path, settings.onnx or settings.int8)
        rows = recordings.utterances(
            settings.paths, settings.split, settings.pause, settings.alone, text=settings.text
        )
        _name_bad(rows, settings.max_bad)
        judge = opening.opened(folder, settings)
        for remark in judge.check(rows, settings.force):
            print(f"warning: {remark}", file=sys.stderr)
        question = _asked(folder, rows, settings)
        out = Path(settings.out or _place(folder, settings) / f"predict_{digest(question)}")
        with result_files.locked(out):
            results = result_files.Results(out, question)
            if results.is_done:
                print(f"{results.folder} is finished")
            else:
                _answer(judge, rows, results, settings)
        console.show(results.records())
        if predictor.synthetic(judge.configuration):
            print(f"{judge.name} learnt from a {page.NOT_A_RESULT}")
        print(f"written: {results.folder}")


def _place(folder: Path, settings: Settings) -> Path:
    """Where results go unless it is said: a run holds them; what may be passed on does not."""
    own = (folder / "configuration.json").is_file()
    return folder if own else Path(settings.save_path)


def _name_bad(rows: pd.DataFrame, most: float) -> None:
    """Say which files cannot be used; a UserError where they are more than `most` of all."""
    bad = rows[rows["quarantine"] != ""]
    lines = [f"{row.file or row.segment}: {row.quarantine}" for row in bad.itertuples()]
    if len(bad) > most * len(rows):
        raise UserError(
            f"{len(bad)} of {len(rows)} utterances are unusable, more than --max_bad "
            f"{most:g} allows: {first_few(lines, NAMED, '; ')}"
        )
    for line in lines[:NAMED]:
        print(f"skipped: {line}", file=sys.stderr)
    if len(bad) > NAMED:
        print(
            f"skipped: {len(bad) - NAMED} more, see trouble in {result_files.TABLE}",
            file=sys.stderr,
        )


def _asked(folder: Path, rows: pd.DataFrame, settings: Settings) -> dict:
    """What the answers depend on: the weights, the utterances, how they are taken."""
    weights = [folder / name for name in opening.WEIGHTS if (folder / name).is_file()]
    columns = ["file", "start", "end", "text", "speaker", "dialogue", "quarantine", "wav_hash"]
    return {
        "run": folder.resolve().name,
        "weights": {path.name: checksum(path.read_bytes())[:16] for path in weights},
        "utterances": len(rows),
        "recordings": digest(rows[columns].fillna("").astype(str).to_csv(index=False), 16),
        "explain": settings.explain,
        "onnx": settings.onnx,
        "int8": settings.int8,
        "text_encoder": settings.text_encoder,
        "speech_encoder": settings.speech_encoder,
    }


# --- answers -------------------------------------------------------------------------------------


def _answer(judge, rows: pd.DataFrame, results: result_files.Results, settings) -> None:
    began, seconds = time.perf_counter(), rows["duration"].fillna(0)
    then = _explained(judge) if settings.explain else None
    with tqdm(total=len(rows), initial=results.count, desc="predicting", unit="utt") as bar:
        for table, why in judge.stream(rows, results.count, then):
            results.add(table, why)
            bar.update(len(table))
    took = time.perf_counter() - began
    bad = sum(bool(record["trouble"]) for record in results.records())
    summary = {
        "utterances": results.count,
        "without_prediction": bad,
        "sound_seconds": round(float(seconds.sum()), 1),
        "seconds": round(took, 2),
    }
    results.finish(summary, console.pictures(results.records()))


def _explained(judge):
    def then(held: Held, chosen: np.ndarray) -> list[list[dict]]:
        usable = held.there() & (held.rows["quarantine"] == "").to_numpy()
        return [
            [effect._asdict() for effect in occlusion.explain(judge, held, row)]
            if usable[row]
            else []
            for row in chosen
        ]

    return then
