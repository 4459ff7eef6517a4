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

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import constants
from inference import console, occlusion, predictor, recordings
from inference import results as result_files
from reporting import page
from training import flags
from utils import UserError, checksum, digest, first_few

MAX_BAD = 0.5  # share of the utterances that may be unusable; a corpus allows fewer
NAMED = 10  # bad files on the console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the recordings, and how they are taken."""
    add = parser.add_argument
    add("run", metavar="RUN", help="a finished run, a published folder, or with --onnx an export")
    add("paths", nargs="+", metavar="PATH", help="sound files, folders of them, or CSV tables")
    add("--out", metavar="DIR", help="where results go (default: a folder in RUN)")
    add("--text", metavar="LINE", help="what is said in the one file that is named")
    add(
        "--split",
        choices=recordings.SPLITS,
        default="auto",
        help=f"cut files at pauses; auto: those of more than {recordings.LONG:g} s without a txt",
    )
    add(
        "--pause",
        type=flags.number(float, 0.1, 10),
        default=0.4,
        metavar="S",
        help="s of quiet that end an utterance there (default: %(default)g)",
    )
    add("--alone", action="store_true", help="each utterance by itself, without those before it")
    add(
        "--max_bad",
        type=flags.number(float, 0, 1),
        default=MAX_BAD,
        metavar="SHARE",
        help="share of the utterances that may be unusable (default: %(default)g)",
    )
    add("--force", action="store_true", help="without text, by a run that never missed it")
    add("--explain", action="store_true", help="what moved each prediction; many times slower")
    add("--onnx", action="store_true", help="RUN is an exported model: no torch is needed")
    add("--int8", action="store_true", help="the same, of the model in eight bits")
    add("--text_encoder", metavar="ID", help="where the run's text encoder is now")
    add("--speech_encoder", metavar="ID", help="where its speech encoder is now")
    add("--save_path", default=constants.SAVE_PATH, help="where the runs are")
    add("--gpu_id", type=flags.number(int, -1), metavar="ID", help="GPU to use; -1: the CPU")


def main(settings: argparse.Namespace) -> None:
    """List and hear everything, open the model, then answer utterance by utterance."""
    folder = predictor.found(settings.run, settings.save_path, settings.onnx or settings.int8)
    rows = recordings.utterances(
        settings.paths, settings.split, settings.pause, settings.alone, text=settings.text
    )
    _name_bad(rows, settings.max_bad)
    judge = _opened(folder, settings)
    for remark in judge.check(rows, settings.force):
        print(f"warning: {remark}", file=sys.stderr)
    asked = _asked(folder, rows, settings)
    out = Path(settings.out or _place(folder, settings) / f"predict_{digest(asked)}")
    with result_files.locked(out):
        results = result_files.Results(out, asked)
        if results.is_done:
            print(f"{results.folder} is finished")
        else:
            _answer(judge, rows, results, settings)
    console.show(results.records())
    if predictor.synthetic(judge.configuration):
        print(f"{judge.name} learnt from a {page.NOT_A_RESULT}")
    print(f"written: {results.folder}")


def _place(folder: Path, settings: argparse.Namespace) -> Path:
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


def _opened(folder: Path, settings: argparse.Namespace) -> predictor.Predictor:
    moved = {name: getattr(settings, name) for name in ("text_encoder", "speech_encoder")}
    return predictor.opened(folder, settings.onnx, settings.int8, settings.gpu_id, moved)


def _asked(folder: Path, rows: pd.DataFrame, settings: argparse.Namespace) -> dict:
    """What the answers depend on: the weights, the utterances, how they are taken."""
    weights = [folder / name for name in predictor.WEIGHTS if (folder / name).is_file()]
    said = ["file", "start", "end", "text", "speaker", "dialogue", "quarantine", "wav_hash"]
    return {
        "run": folder.resolve().name,
        "weights": {path.name: checksum(path.read_bytes())[:16] for path in weights},
        "utterances": len(rows),
        "recordings": digest(rows[said].fillna("").astype(str).to_csv(index=False), 16),
        **{
            name: getattr(settings, name)
            for name in ("explain", "onnx", "int8", "text_encoder", "speech_encoder")
        },
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
    def then(held: predictor.Held, chosen: np.ndarray) -> list[list[dict]]:
        usable = held.there() & (held.rows["quarantine"] == "").to_numpy()
        return [
            [effect._asdict() for effect in occlusion.explain(judge, held, row)]
            if usable[row]
            else []
            for row in chosen
        ]

    return then
