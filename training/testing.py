"""The one inference loop: predictions of windows. Scores are in metric.py and bootstrap.py."""

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import constants
from dataset import Windows
from features.store import batches
from metric import VOTES
from training.devices import Processes

IDS = ["corpus", "role", "segment", "session", "dialogue", "speaker", "kind"]


def predict(
    model: torch.nn.Module,
    windows: Windows,
    batch_size: int,
    name: str,
    processes: Processes,
    max_tokens: int = 0,
) -> pd.DataFrame:
    """A row a window: prediction and truth (columns: docs/en/04_run_folder.md).

    Float32, evaluation mode. Several processes share the batches; each returns all rows.
    """
    output = outputs(model, windows, batch_size, name, processes, max_tokens)
    return frame(windows, output, name)


def frame(windows: Windows, output: dict[str, torch.Tensor], name: str) -> pd.DataFrame:
    """`frame_of` what the heads said of all windows."""
    arrays = {head: windows.flat(values.cpu().numpy()) for head, values in output.items()}
    return frame_of(windows.utterances.iloc[windows.judged], arrays, name)


@torch.inference_mode()
def outputs(
    model: torch.nn.Module,
    windows: Windows,
    batch_size: int,
    name: str,
    processes: Processes,
    max_tokens: int = 0,
) -> dict[str, torch.Tensor]:
    """{head: (N, ...)}. Whole batches go to a process: a row meets the same rows as with one.

    Where lengths differ, the shortest come first and batches keep to `max_tokens` (schedule.cut).
    """
    model.eval()
    order, lengths = np.arange(len(windows)), windows.lengths
    if lengths is not None:
        order = np.argsort(lengths, kind="stable")
    sizes = np.zeros(len(windows)) if lengths is None else lengths[order]
    chunks = batches.cut(order, sizes, batch_size, max_tokens) or [order]
    mine = chunks[processes.rank :: processes.count]
    whole: dict[str, torch.Tensor] = {}
    # a process without any finds out from the first batch which heads there are
    for indices in tqdm(mine or chunks[:1], f"predicting {name}", leave=False, unit="step"):
        for head, value in model(to(windows.batch(indices), processes.device)).items():
            if head not in whole:
                whole[head] = value.new_zeros((len(windows), *value.shape[1:]), dtype=torch.float32)
            if mine:
                whole[head][indices] = value.float()
    return {head: processes.total(values) for head, values in whole.items()}


def to(batch: dict, device: torch.device) -> dict:
    """The batch on the device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def frame_of(utterances: pd.DataFrame, output: dict[str, np.ndarray], name: str) -> pd.DataFrame:
    """Join utterances and what the heads said of them into the columns of `predictions.csv`."""
    frame = utterances[IDS].reset_index(drop=True).assign(set=name)
    nothing = np.full(len(frame), np.nan)
    chance = np.exp(output["emotion"]) if "emotion" in output else None
    for i in range(len(constants.EMOTIONS)):
        frame[f"p_{i}"] = nothing if chance is None else chance[:, i]
    frame["arousal"] = output.get("arousal", nothing)
    frame["valence"] = output.get("valence", nothing)
    labels = np.array(constants.EMOTIONS)
    frame["emotion"] = "" if chance is None else labels[chance.argmax(axis=1)]
    truth = utterances[["emotion", *VOTES, "arousal", "valence"]].reset_index(drop=True)
    renamed = {name: f"{name}_true" for name in ("emotion", "arousal", "valence")}
    frame = pd.concat([frame, truth.rename(columns=renamed)], axis=1)
    for event in output.keys() & constants.EVENTS.keys():
        frame[event] = 1 / (1 + np.exp(-output[event].astype(float)))
        frame[f"{event}_true"] = utterances[event].to_numpy()
        frame["marks"] = utterances["marks"].to_numpy()
    return frame
