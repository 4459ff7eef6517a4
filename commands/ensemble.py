"""Combine finished runs: mean, weighted mean, vote, or a stacker learnt out of fold.

    python main.py ensemble RUN RUN RUN --method soft
    python main.py ensemble RUN RUN RUN --method weighted --oof 5      weights fitted out of fold
    python main.py ensemble RUN RUN RUN --method hard --weights decision_fusion
    python main.py ensemble sweep_emo_ensemble_... --method weighted --weights emo_ensemble
    python main.py ensemble RUN RUN RUN --method stack --oof 5 --stacker logistic
    python main.py ensemble text=OLD/text audio=OLD/audio cm=OLD/cmbert --method soft

The last reads OLD/text_{truth,pred,output}.npy, ... of the system of 2022. Nothing is fitted on
test rows. The result is a run folder like any other.
"""

import shlex
from dataclasses import dataclass

import constants
from commands import Subcommand
from training.ensembles import combination, ensemble, out_of_fold, stacking
from training.ensembles import members as ensemble_members
from utils import UserError, setting


@dataclass(frozen=True)
class Settings:
    """The members, and how they are combined."""

    members: tuple[str, ...] = setting(
        (),
        "finished runs or ensembles, by name or folder; a sweep: all its trials; "
        "NAME=FOLDER/text: files of 2022",
        position=True,
        words="+",
        metavar="RUN|NAME=RUN",
    )
    method: str = setting(
        "", "how they are combined", choices=tuple(combination.METHODS), required=True
    )
    weights: tuple[str, ...] | None = setting(
        None,
        "a number a member, or emo_ensemble, decision_fusion: those of that system (default: "
        "weighted: fitted on out-of-fold or validation rows; hard: equal)",
        words="+",
        metavar="W",
    )
    oof: int | None = setting(
        None,
        "train each member again on K folds of its training sessions, for rows to fit on",
        least=2,
        metavar="K",
    )
    stacker: str = setting("logistic", "with --method stack", choices=tuple(stacking.STACKERS))
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")
    ties: str = setting(
        constants.TIES, "which test rows the emotion scores count", choices=constants.TIE_POLICIES
    )
    seed: int = setting(constants.SEED, "of what is drawn", least=0)
    jobs: int | None = setting(
        None,
        "out-of-fold runs at once (default: as many as fit); 1: without Ray",
        least=1,
        metavar="N",
    )


class Command(Subcommand):
    """Join finished runs."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """Read, train what is to be fitted on, fit, write, print."""
        members = ensemble_members.named(settings.members, settings.save_path)
        ensemble.joined(members, "test")  # refuses what cannot be joined before anything is trained
        models = [member.model for member in members]
        weights = ensemble_members.weights(settings.weights, settings.method, models)
        if settings.method == "stack" and settings.stacker == "lightgbm":
            stacking.lightgbm()  # before hours of training for it
        if settings.oof:
            place = settings.save_path
            members = out_of_fold.out_of_fold(members, settings.oof, place, settings.jobs)
        learns = weights is None and settings.method in ("weighted", "stack")
        rows = _fitting(members, learns)
        learnt = combination.learn(
            settings.method, weights, rows and rows.joined, settings.stacker, settings.seed
        )
        new = ensemble.EnsembleSettings(
            settings.save_path, settings.ties, settings.seed, _command(settings)
        )
        print(f"run {ensemble.write(members, learnt, rows, new)}")


def _command(settings: Settings) -> str:
    """The command line that says what `settings` say."""
    words = ["python", "main.py", "ensemble", *settings.members]
    for name, value in vars(settings).items():
        if name not in ("members", "jobs") and value is not None:
            words += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def _fitting(members: list[ensemble.Member], learnt: bool) -> ensemble.Fitting | None:
    """Rows to fit on; where only a temperature would be, members need not share them."""
    try:
        return ensemble.fitting(members)
    except UserError as error:
        if learnt:
            raise
        print(f"no temperature is fitted: {error}")
    return None
