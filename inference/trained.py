"""The model of a run, or of a folder that `publish` wrote, opened with torch."""

import dataclasses
from pathlib import Path

import torch

import constants
import model as models
from evaluation.run_configuration import RunConfiguration, RunResult
from inference.held import Batch
from inference.predictor import Predictor
from training import run_folder, testing
from training.devices import Processes, settle_arithmetic
from training.settings import settings_of
from utils import UserError, leaf, read_json


def of_run(folder: Path, gpu_id: int | None = -1, moved: dict[str, str] | None = None) -> Predictor:
    """The model of a run, or of a folder that `publish` wrote. `moved`: where encoders are now."""
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


def temperature(folder: Path, configuration: dict) -> float | None:
    """What confidences are divided by: of a published model, or as it was fitted in training."""
    if "temperature" in configuration:
        return configuration["temperature"]
    return RunResult.read(folder).temperature
