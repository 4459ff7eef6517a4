"""The command line. Arguments only: the work is in training/run.py and in commands/.

    python main.py --SorL speaker --test_split [13,14,15,16]     train and test
    python main.py --test_only NAME                              test again
    python main.py --resume NAME                                 go on with one that was killed
    python main.py VERB ...                                      a file of commands/
    python main.py @exp/speaker.txt                              flags from a file

In zsh, put quotes round brackets: --test_split "[13,14,15,16]".
"""

import argparse
import os
import shlex
import sys
import warnings
from pathlib import Path

from training.flags import Parser, check, parse
from utils import UserError, is_utf8, leaf, leaves, read_json

TEST_FLAGS = (  # what may be said together with --test_only
    "test_only",
    "test_path",
    "data",
    "tables",
    "max_bad",
    "test_split",
    "ties",
    "batch_size",
    "gpu_id",
    "save_path",
    "text_encoder",
    "speech_encoder",
    "vision_encoder",
    "max_tokens",
    "test_extra",
    "emotion_run",
)
RESUME_FLAGS = ("resume", "save_path", "save_minutes", "gpu_id")  # the same with --resume


def tested_run(settings: argparse.Namespace, extra: list[str]) -> str | None:
    """The run that is to be tested, in any of the ways the READMEs write it; None: train."""
    if settings.test_only is None and settings.test_path is None:
        return None
    if settings.test_only or settings.test_path:
        return settings.test_only or settings.test_path
    named = [word for word in extra if word.startswith("--")]
    return named[0].removeprefix("--") if named else ""


def train_or_test(arguments: list[str]) -> None:
    """No verb: train and test, or with --test_only test a finished run."""
    settings, given, extra = parse(arguments)
    command = shlex.join(["python", "main.py", *arguments])
    name = tested_run(settings, extra)
    if name is None:
        if extra:
            raise UserError(f"unknown: {' '.join(extra)}; python main.py --help lists the flags")
        from training import run, run_folder

        if settings.resume is not None:
            _refuse(given, RESUME_FLAGS, "settled when that run was begun; with --resume")
            settings = run_folder.resumed(settings)
            check(settings)
        _warn(settings)
        run.train(settings, command)
        return
    from training import run, run_folder

    folder = run_folder.find(name, settings.save_path)
    settings, given, extra = _of_run(folder, arguments, given)
    if odd := [word for word in extra if word.removeprefix("--") != name]:
        raise UserError(f"unknown: {' '.join(odd)}; python main.py --help lists the flags")
    _refuse(given, TEST_FLAGS, f"settled when {folder.name} was trained; with --test_only")
    run.test(folder, settings, given, command)


def _of_run(folder: Path, arguments: list[str], given: dict) -> tuple:
    """What was said, read with the flags of the model that is tested."""
    named = read_json(folder / "configuration.json").get("model")
    if "model" in given or named not in leaves("models"):
        return parse(arguments)
    settings, again, extra = parse(["--model", named, *arguments])
    return settings, {name: value for name, value in again.items() if name != "model"}, extra


def _refuse(given: dict, allowed: tuple[str, ...], why: str) -> None:
    if fixed := sorted(set(given) - set(allowed)):
        there = ", ".join("--" + flag for flag in allowed)
        raise UserError(f"--{fixed[0]} was {why} there may be: {there}")


def _warn(settings: argparse.Namespace) -> None:
    if settings.lr_decay < 0.1:
        print(
            f"warning: --lr_decay {settings.lr_decay:g} multiplies the learning rate at 1/3 and "
            f"1/2 of the epochs (the 2022 code ignored the flag and used 0.7)",
            file=sys.stderr,
        )
    if settings.val_split == () and settings.select != "macro_f1":
        print("warning: --select does nothing without --val_split", file=sys.stderr)


def run_verb(name: str, arguments: list[str]) -> None:
    """`commands/<name>.py` adds its arguments and does its work."""
    command = leaf("commands", name)
    parser = Parser(prog=f"main.py {name}", description=command.__doc__.splitlines()[0])
    command.add_arguments(parser)
    settings, rest = parser.parse_known_args(arguments)
    if hasattr(command, "FLAGS"):  # it says what else may come: flags of training, in a grid
        settings.flags = rest
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
            run_verb(arguments[0], arguments[1:])
        elif arguments and not arguments[0].startswith(("-", "@")):
            raise UserError(f"no verb {arguments[0]!r}; there are: {', '.join(leaves('commands'))}")
        else:
            train_or_test(arguments)
    except UserError as error:
        print(f"error: {error}" + f" (process {number})" * (number > 0), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("interrupted" + f" {stop}" * bool(str(stop)), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
