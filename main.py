"""The command line. Arguments only: the work is in training/run.py and in commands/.

    python main.py --SorL speaker --test_split [13,14,15,16]     train and test
    python main.py --test_only NAME                              test again
    python main.py --resume NAME                                 go on with one that was killed
    python main.py SUBCOMMAND ...                                a file of commands/
    python main.py @exp/speaker.txt                              flags from a file

In zsh, put quotes round brackets: --test_split "[13,14,15,16]".
"""

import dataclasses
import os
import shlex
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import constants
from training import flags
from training.settings import TrainingSettings
from utils import UserError, is_utf8, leaf, leaves, read_json

RESUME_FLAGS = ("resume", "save_path", "save_minutes", "gpu_id")  # what may go with --resume


def tested_run(settings: TrainingSettings, rest: list[str]) -> str | None:
    """The run that is to be tested, in any of the ways the READMEs write it; None: train."""
    if settings.test_only is None and settings.test_path is None:
        return None
    if settings.test_only or settings.test_path:
        return settings.test_only or settings.test_path
    named = [word for word in rest if word.startswith("--")]
    return named[0].removeprefix("--") if named else ""


def train_or_test(arguments: list[str]) -> None:
    """Without a subcommand: train and test, or with --test_only test a finished run."""
    parsed = flags.parse(arguments)
    command = shlex.join(["python", "main.py", *arguments])
    name = tested_run(parsed.settings, parsed.rest)
    if name is None:
        train(parsed, command)
    else:
        test(parsed, name, arguments, command)


def train(parsed: flags.Parsed, command: str) -> None:
    """Train and test a model, or go on with a run that was stopped."""
    from training import run, run_folder  # torch: seconds that a subcommand may not need

    settings = parsed.settings
    _refuse_unknown(parsed.rest)
    if settings.resume is not None:
        _refuse(parsed.given, RESUME_FLAGS, "settled when that run was begun; with --resume")
        settings = run_folder.resumed(settings)
        flags.check(settings)
    _warn(settings)
    run.train(settings, command)


def test(parsed: flags.Parsed, name: str, arguments: list[str], command: str) -> None:
    """Test a finished run again: of a model, or an ensemble."""
    from training import run, run_folder  # torch, see above
    from training.ensembles import ensemble

    folder = run_folder.find(name, parsed.settings.save_path)
    parsed = _of_run(folder, arguments, parsed)
    _refuse_unknown([word for word in parsed.rest if word.removeprefix("--") != name])
    allowed = flags.with_test(type(parsed.settings))
    _refuse(parsed.given, allowed, f"settled when {folder.name} was trained; with --test_only")
    test_run = ensemble.test if ensemble.is_one(folder) else run.test
    test_run(folder, parsed.settings, parsed.given, command)


def _of_run(folder: Path, arguments: list[str], parsed: flags.Parsed) -> flags.Parsed:
    """What was said, read with the flags of the model that is tested."""
    named = read_json(folder / "configuration.json").get("model")
    if "model" in parsed.given or named not in leaves("models"):
        return parsed
    again = flags.parse(["--model", named, *arguments])
    given = {name: value for name, value in again.given.items() if name != "model"}
    return again._replace(given=given)


def _refuse_unknown(words: list[str]) -> None:
    if words:
        raise UserError(f"unknown: {' '.join(words)}; python main.py --help lists the flags")


def _refuse(given: dict, allowed: Iterable[str], why: str) -> None:
    if fixed := sorted(set(given) - set(allowed)):
        there = ", ".join("--" + flag for flag in allowed)
        raise UserError(f"--{fixed[0]} was {why} there may be: {there}")


def _warn(settings: TrainingSettings) -> None:
    if settings.lr_decay < 0.1:
        print(
            f"warning: --lr_decay {settings.lr_decay:g} multiplies the learning rate at 1/3 and "
            f"1/2 of the epochs (the 2022 code ignored the flag and used 0.7)",
            file=sys.stderr,
        )
    if settings.val_split == () and settings.select != constants.SELECT:
        print("warning: --select does nothing without --val_split", file=sys.stderr)


def run_subcommand(name: str, arguments: list[str]) -> None:
    """Read the settings of `commands/<name>.py`, and let it do its work."""
    command = leaf("commands", name)
    settings, rest = flags.read(command.Settings, arguments, f"main.py {name}", command.about())
    if command.FLAGS:
        settings = dataclasses.replace(settings, flags=tuple(rest))
    elif rest:
        raise UserError(f"unknown: {' '.join(rest)}; python main.py {name} --help lists the flags")
    command.main(settings)


def main(arguments: list[str]) -> int:
    """Exit code: 0 done, 2 something the user can mend, 130 interrupted."""
    warnings.filterwarnings("ignore", "Can't initialize NVML")
    number = int(os.environ.get("RANK", 0))  # of this process, where several train together
    if number:  # the first one speaks for all, but for errors
        os.environ["TQDM_DISABLE"], sys.stdout = "1", open(os.devnull, "w")
    try:
        if odd := [word for word in arguments if not is_utf8(word)]:
            raise UserError(f"arguments should be UTF-8, got {ascii(odd[0])}")
        if arguments and arguments[0] in leaves("commands"):
            run_subcommand(arguments[0], arguments[1:])
        elif arguments and not arguments[0].startswith(("-", "@")):
            raise UserError(
                f"no subcommand {arguments[0]!r}; there are: {', '.join(leaves('commands'))}"
            )
        else:
            train_or_test(arguments)
    except UserError as error:
        which = f" (process {number})" if number else ""
        print(f"error: {error}{which}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"interrupted {stop}".rstrip(), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
