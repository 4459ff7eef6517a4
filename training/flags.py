"""Flags: what may be said on the command line, and what was.

Every flag of training and testing is declared here once, but for those of a model, which are the
fields of its `Settings`. Which of them may go with a verb is said in main.py.
"""

import argparse
import dataclasses
import math
import shlex
from collections.abc import Callable, Iterable

import constants
from utils import UserError, leaf, leaves


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and reads `@file` with comments and quotes."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, fromfile_prefix_chars="@", **options)

    def error(self, message: str):
        raise UserError(message)

    def parse_known_args(self, args=None, namespace=None):
        try:
            return super().parse_known_args(args, namespace)
        except UnicodeDecodeError as error:
            named = " ".join(word for word in args if word.startswith("@"))
            raise UserError(f"{named} should be flags in UTF-8: {error}") from error

    def convert_arg_line_to_args(self, line: str) -> list[str]:
        try:
            return shlex.split(line, comments=True)
        except ValueError as error:
            raise UserError(f"cannot read the flags {line!r}: {error}") from error


def number(kind: type, low: float, high: float = math.inf, open_top: bool = False) -> Callable:
    """An argparse type: a finite number in [low, high], or [low, high) with `open_top`."""

    def convert(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (open_top and value == high) or math.isinf(value):
            top = "" if high == math.inf else f" and {'under' if open_top else 'at most'} {high:g}"
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"needs {what} of at least {low:g}{top}, got {text!r}")
        return value

    return convert


def training_parser(model: str) -> Parser:
    """Every flag of training and testing with `model`; only what is given is set."""
    from corpora.preparation import corpus

    parser = Parser(
        prog="main.py",
        description="Train and test a model, or test a finished run again.",
        epilog=f"verbs: {', '.join(leaves('commands')) or 'none'} (python main.py VERB --help)",
    )
    corpus.add_arguments(parser)
    _protocol_flags(parser)
    _training_flags(parser)
    _model_flags(parser, model)
    parser.set_defaults(**leaf("models", model).DEFAULTS)
    return parser


def _protocol_flags(parser: Parser) -> None:
    add = parser.add_argument_group("who, and on what").add_argument
    add(
        "--SorL",
        choices=constants.ROLES,
        default=constants.SOR_L,
        help="whose emotion: of the one who speaks or of the one who listens",
    )
    add(
        "--test_split",
        nargs="*",
        default=None,
        metavar="SESSION",
        help="sessions to test on, [13,14,15,16] or 13 14 15 16 (default: [1,2,3,4])",
    )
    add(
        "--val_split",
        nargs="*",
        default=None,
        metavar="SESSION",
        help="sessions to choose the epoch by (default: none, the last epoch is kept)",
    )
    add(
        "--leave_out",
        nargs="*",
        default=None,
        metavar="SESSION",
        help="sessions that are neither trained on nor tested on (default: none)",
    )
    add(
        "--vision_encoder",
        default=constants.VISION_ENCODER,
        metavar="ID",
        help="hub id or folder of a ViT, for models that see frames of a video, or colour-motion "
        "(default: %(default)s)",
    )
    add(
        "--train_extra",
        nargs="*",
        default=None,
        metavar="CORPUS:DIR",
        help="more corpora to train on; they are not tested on (default: none)",
    )
    add(
        "--test_extra",
        nargs="*",
        default=None,
        metavar="SESSION",
        help="sessions of those corpora to test on in place of training on them (default: none)",
    )
    add(
        "--select",
        choices=("macro_f1", "uar", "ccc", "loss", "ap"),
        default="macro_f1",
        help="what the epoch is chosen by, with --val_split; ap: average precision of highlights",
    )
    add(
        "--ties",
        choices=constants.TIE_POLICIES,
        default=constants.TIES,
        help="which test rows the emotion scores count: rows with one label, or all",
    )
    add(
        "--disjoint",
        choices=("text", "script"),
        default=None,
        help="take out of training what is in the test: text: lines with the same or nearly the "
        "same words; script: dialogues of the same script (default: neither, both are counted)",
    )
    add(
        "--text_encoder",
        default=None,
        metavar="ID",
        help=f"hub id or folder of a BERT-like encoder, char-ngram, or an .npy file of vectors "
        f"(default: {constants.TEXT_VECTORS} in the corpus folder, else "
        f"{constants.TEXT_ENCODER})",
    )
    add(
        "--speech_encoder",
        default=constants.SPEECH_ENCODER,
        metavar="ID",
        help="hub id or folder of a wav2vec2, HuBERT or WavLM encoder, for models that read the "
        "waveform (default: %(default)s)",
    )
    _run_flags(add)


def _run_flags(add: Callable) -> None:
    """Which run: where it is made, gone on with, tested again."""
    add(
        "--test_only",
        nargs="?",
        const="",
        default=None,
        metavar="RUN",
        help="test a finished run: its folder or its name in --save_path",
    )
    add("--test_path", default=None, metavar="RUN", help="the same, as the 2022 code named it")
    add("--save_path", default=constants.SAVE_PATH, help="where run folders are made")
    add(
        "--save_name",
        default=None,
        metavar="NAME",
        help="name of the run folder; the same command again goes on with a run that was killed",
    )
    add(
        "--resume",
        default=None,
        metavar="RUN",
        help="go on with a run that was stopped, with its own flags: its folder or its name",
    )
    add(
        "--save_minutes",
        type=number(float, 0),
        default=constants.SAVE_MINUTES,
        metavar="MINUTES",
        help="a checkpoint after every epoch, and in it when this long has passed",
    )


def _training_flags(parser: Parser) -> None:
    add = parser.add_argument_group("training").add_argument
    add("--model", choices=leaves("models"), default=constants.MODEL, help="a file of models/")
    add("--epochs", type=number(int, 1), default=constants.EPOCHS, help="times through the data")
    add("--batch_size", type=number(int, 2), default=constants.BATCH_SIZE, help="windows a step")
    add(
        "--max_tokens",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="largest batch in steps of features that differ in length (samples, word pieces), "
        "padding included; 0: any",
    )
    add(
        "--optim",
        choices=("sgd", "adam", "adagrad", "adamw"),
        default=constants.OPTIMIZER,
        help="optimizer",
    )
    add("--lr", type=number(float, 0), default=constants.LEARNING_RATE, help="learning rate")
    add(
        "--lr_decay",
        type=number(float, 0, 1),
        default=constants.LR_DECAY,
        help="factor on the learning rate at 1/3 and at 1/2 of the epochs",
    )
    add(
        "--schedule",
        choices=("step", "cosine", "linear"),
        default="step",
        help="of the learning rate: step: --lr_decay; cosine, linear: to 0 at the end",
    )
    add(
        "--warmup",
        type=number(float, 0, 1),
        default=0.0,
        metavar="SHARE",
        help="share of the steps in which the rate rises from 0; with cosine and linear",
    )
    add(
        "--clip",
        type=number(float, 0),
        default=0.0,
        metavar="NORM",
        help="largest norm of the gradients; 0: any",
    )
    add("--weight_decay", type=number(float, 0), default=constants.WEIGHT_DECAY, help="L2 penalty")
    _loss_flags(add)
    _machine_flags(add)


def _loss_flags(add: Callable) -> None:
    add(
        "--target",
        choices=("votes", "hard"),
        default="votes",
        help="of the emotion head: votes: shares of the raters; hard: the label written first",
    )
    add(
        "--loss",
        choices=("normal", "cbloss"),
        default=constants.LOSS,
        help="normal: KL against the votes; cbloss: class-balanced",
    )
    add(
        "--lam",
        type=number(float, 0, 1),
        default=constants.LAMBDA,
        help="weight of the emotion loss; arousal and valence get 1 - lam each",
    )
    add(
        "--beta",
        type=number(float, 0, 1, open_top=True),
        default=constants.BETA,
        help="of the class-balanced loss, under 1",
    )
    add(
        "--cb_counts",
        choices=("legacy", "exact"),
        default="legacy",
        help="legacy: counts divided by the smallest, as in 2022; exact: Cui et al. 2019, where "
        "a beta of 0.99 or less changes next to nothing at this corpus size",
    )
    add(
        "--modality_dropout",
        type=number(float, 0, 1),
        default=0.0,
        metavar="P",
        help="share of training windows that lose one whole modality",
    )


def _machine_flags(add: Callable) -> None:
    add(
        "--precision",
        choices=("auto", "float32", "bf16"),
        default="auto",
        help="of training; auto: bf16 where the processor computes in it. Testing is float32",
    )
    add(
        "--bn",
        choices=("recomputed", "running"),
        default="recomputed",
        help="what BatchNorm tests with: averages over the training windows, computed when "
        "training ends, or the running averages, as in 2022",
    )
    add(
        "--deterministic",
        action="store_true",
        help="the same bytes at every run on a GPU too, which is slower; on a CPU they always are",
    )
    add("--seed", type=number(int, 0), default=constants.SEED, help="of everything random")
    add(
        "--gpu_id",
        "--gup_id",
        type=number(int, -1),
        default=None,
        metavar="ID",
        help="GPU to use (default: the first, or the CPU where there is none; -1: the CPU)",
    )


def _model_flags(parser: Parser, model: str) -> None:
    """The fields of the model's `Settings`; one that is True by default becomes `--no_NAME`."""
    add = parser.add_argument_group(f"model {model}").add_argument
    fields = dataclasses.fields(leaf("models", model).Settings)
    for field in (field for field in fields if field.metadata["flag"]):
        name, said, default = field.name, field.metadata, field.default
        if field.type is bool:
            flag, what = ("no_", "turn off: ") if default else ("", "")
            action = "store_false" if default else "store_true"
            add(f"--{flag}{name}", dest=name, action=action, help=what + said["help"])
        elif field.type is str and not said["choices"]:
            add(f"--{name}", default=default, help=said["help"])
        elif said["choices"]:
            add(f"--{name}", choices=said["choices"], default=default, help=said["help"])
        else:
            least = -math.inf if said["least"] is None else said["least"]
            add(f"--{name}", type=number(field.type, least), default=default, help=said["help"])


def parse(arguments: list[str]) -> tuple[argparse.Namespace, dict, list[str]]:
    """Arguments -> (every setting, those that were given, words left over)."""
    first = Parser(add_help=False)
    first.add_argument("--model", choices=leaves("models"), default=constants.MODEL)
    model = first.parse_known_args(arguments)[0].model
    parser = training_parser(model)
    settings, extra = parser.parse_known_args(arguments)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    parser._defaults.clear()  # a model's own defaults were not given
    given = vars(parser.parse_known_args(arguments)[0])
    _read_sessions(settings, given)
    return settings, given, extra


def _read_sessions(settings: argparse.Namespace, given: dict) -> None:
    from evaluation import splits

    for name, default in (
        ("test_split", constants.TEST_SPLIT),
        ("val_split", ()),
        ("leave_out", ()),
        ("test_extra", ()),
    ):
        words = getattr(settings, name)
        value = splits.parse_sessions(words, f"--{name}") if words else tuple(default)
        setattr(settings, name, value)
        if name in given:
            given[name] = value
    settings.train_extra = tuple(settings.train_extra or ())


def words_of(said: dict, but: Iterable[str] = ()) -> list[str]:
    """A command line that says what a configuration says, but for some flags."""
    words = []
    for action in training_parser(said["model"])._actions:
        flag, value = action.option_strings[0], said.get(action.dest)
        if action.dest in but or value is None:
            continue
        if isinstance(value, tuple | list):
            words += [flag, *map(str, value)] if value else []
        elif action.nargs == 0:
            words += [flag] if value is action.const else []
        else:
            words.append(f"{flag}={value}")
    return words


def check(settings: argparse.Namespace) -> None:
    """A UserError unless there is a command line that says what a configuration.json says."""
    said = vars(parse(words_of(vars(settings)))[0])
    flags = {name: value for name, value in vars(settings).items() if name in said}
    if odd := [name for name, value in flags.items() if said[name] != value]:
        raise UserError(f"configuration.json: {odd[0]} cannot be {getattr(settings, odd[0])!r}")


def trained(words: list[str]) -> argparse.Namespace:
    """The settings of a training command; a UserError for words that are no flag of it."""
    settings, given, extra = parse(words)
    if extra:
        raise UserError(f"unknown: {' '.join(extra)}; python main.py --help lists the flags")
    if odd := sorted({"test_only", "test_path", "resume", "save_name"} & given.keys()):
        raise UserError(f"--{odd[0]} is for a single run, here many are trained")
    return settings
