"""Flags: made of the fields of a settings dataclass, read into one, and written out again.

What may be said of a field stands where it is declared, see `utils.setting`. A subcommand has a
dataclass of its own; training has one for each model, `settings.settings_class`.
"""

import argparse
import dataclasses
import math
import shlex
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import constants
from corpora.preparation import CorpusSettings
from evaluation.splits import DataSettings
from training.settings import RunSettings, TrainingSettings, flat, settings_class
from utils import UserError, leaves

ONE_RUN = ("resume", "save_name", "test_only", "test_path")  # no flags of a sweep
GROUPS = {  # of the help: what is declared in which class
    CorpusSettings: "corpus",
    DataSettings: "who, and on what",
    RunSettings: "which run",
    TrainingSettings: "training",
}


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


# --- a parser of fields --------------------------------------------------------------------------


def add_flags(add: Callable, fields: Iterable[dataclasses.Field]) -> None:
    """Add an argument for each field that is a flag; what is not given is not set."""
    for field in fields:
        if field.metadata["flag"]:
            names, options = _argument(field)
            add(*names, default=argparse.SUPPRESS, **options)


def _argument(field: dataclasses.Field) -> tuple[list[str], dict[str, Any]]:
    """Names and options of `add_argument` for a field."""
    about = field.metadata
    options: dict[str, Any] = {"help": help_of(field)}
    if about.get("metavar"):
        options["metavar"] = about["metavar"]
    if about.get("position"):
        if about.get("words"):
            options["nargs"] = about["words"]
        elif not about.get("required"):
            options["nargs"] = "?"
        return [field.name], options
    names = [f"--{field.name}", *about.get("names", ())]
    if field.type is bool:
        if field.default:
            return [f"--no_{field.name}"], options | {"dest": field.name, "action": "store_false"}
        return names, options | {"action": "store_true"}
    if about.get("required"):
        options["required"] = True
    if about.get("words"):
        options["nargs"] = about["words"]
    if "const" in about:
        options |= {"nargs": "?", "const": about["const"]}
    if about["choices"]:
        options["choices"] = about["choices"]
    elif convert := _converter(field):
        options["type"] = convert
    return names, options


def _converter(field: dataclasses.Field) -> Callable | None:
    """How a word becomes a value of the field; None where it stays text."""
    about, kind = field.metadata, kind_of(field)
    if about.get("read"):
        return None if about.get("words") else about["read"]  # several words are read together
    if kind not in (int, float):
        return None
    low = -math.inf if about["least"] is None else about["least"]
    if "below" in about:
        return number(kind, low, about["below"], open_top=True)
    return number(kind, low, about.get("most", math.inf))


def kind_of(field: dataclasses.Field) -> type:
    """The type of a value: int of `int`, of `int | None` and of `tuple[int, ...]`."""
    kinds = (field.type,)
    if isinstance(field.type, types.UnionType):
        kinds = tuple(kind for kind in typing.get_args(field.type) if kind is not types.NoneType)
    if typing.get_origin(kinds[0]) is tuple:
        kinds = typing.get_args(kinds[0])
    return kinds[0]


def help_of(field: dataclasses.Field) -> str:
    """The help of a flag, with its default where the help does not name one."""
    text, about = field.metadata["help"], field.metadata
    if field.type is bool:
        text = f"turn off: {text}" if field.default else text
    elif "default" not in text and not about.get("required") and not about.get("position"):
        text = f"{text} (default: {shown(field.default)})"
    return text.replace("%", "%%")


def shown(value: Any) -> str:
    """A default as it would be typed."""
    if value is None or value == () or value == "":
        return "none"
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def values_of(fields: Iterable[dataclasses.Field], given: dict[str, Any]) -> dict[str, Any]:
    """What argparse read, as values of the fields: several words are read together."""
    found = {}
    for field in fields:
        if field.name not in given:
            continue
        value = given[field.name]
        if field.metadata.get("words"):
            read = field.metadata.get("read")
            value = tuple(value)
            if read and value:
                value = read(value, f"--{field.name}")
            elif read:
                value = field.default
        found[field.name] = value
    return found


# --- subcommands ---------------------------------------------------------------------------------


def read(kind: type, words: list[str], prog: str = "", about: str = "") -> tuple[Any, list[str]]:
    """The settings of a subcommand, and the words that are no flags of it.

    `prog` and `about`: its name and description in the help; without a name, there is no --help.
    """
    parser = Parser(prog=prog or None, description=about, add_help=bool(prog))
    fields = dataclasses.fields(kind)
    add_flags(parser.add_argument, fields)
    given, rest = parser.parse_known_args(words)
    return kind(**values_of(fields, vars(given))), rest


# --- training ------------------------------------------------------------------------------------


class Parsed(NamedTuple):
    """A command line of training: all settings, those that were given, the words left over."""

    settings: TrainingSettings
    given: dict[str, Any]
    rest: list[str]


def training_parser(model: str) -> Parser:
    """Every flag of training and testing with `model`; only what is given is set."""
    parser = Parser(
        prog="main.py",
        description="Train and test a model, or test a finished run again.",
        epilog=f"subcommands: {', '.join(leaves('commands')) or 'none'} "
        "(python main.py SUBCOMMAND --help)",
    )
    groups = {kind: parser.add_argument_group(title) for kind, title in GROUPS.items()}
    own = parser.add_argument_group(f"model {model}")
    for field in dataclasses.fields(settings_class(model)):
        kind = next((kind for kind in GROUPS if field.name in _names(kind)), None)
        add_flags((groups[kind] if kind else own).add_argument, [field])
    return parser


def _names(kind: type) -> set[str]:
    """Names of the fields of a settings dataclass."""
    return {field.name for field in dataclasses.fields(kind)}


def parse(arguments: list[str]) -> Parsed:
    """Arguments of training -> every setting, those that were given, words left over."""
    first = Parser(add_help=False)
    first.add_argument("--model", choices=leaves("models"), default=constants.MODEL)
    model = first.parse_known_args(arguments)[0].model
    namespace, rest = training_parser(model).parse_known_args(arguments)
    kind = settings_class(model)
    given = values_of(dataclasses.fields(kind), vars(namespace))
    return Parsed(kind(**given), given, rest)


def with_test(kind: type[TrainingSettings]) -> list[str]:
    """Names of the flags that may be given together with --test_only."""
    fields = dataclasses.fields(kind)
    return [field.name for field in fields if field.metadata.get("with_test")]


def words_of(said: dict, but: Iterable[str] = ()) -> list[str]:
    """A command line that says what a configuration says, but for some flags."""
    words = []
    for field in dataclasses.fields(settings_class(said["model"])):
        value = said.get(field.name)
        if not field.metadata["flag"] or field.name in but or value is None:
            continue
        names, options = _argument(field)
        if isinstance(value, tuple | list):
            words += [names[0], *map(str, value)] if value else []
        elif field.type is bool:
            words += [names[0]] if value is (options["action"] == "store_true") else []
        else:
            words.append(f"{names[0]}={value}")
    return words


def check(settings: TrainingSettings) -> None:
    """A UserError unless there is a command line that says what a configuration.json says."""
    now = flat(settings)
    said = flat(parse(words_of(now)).settings)
    if odd := [name for name, value in said.items() if now[name] != value]:
        raise UserError(f"configuration.json: {odd[0]} cannot be {now[odd[0]]!r}")


def trained(words: list[str]) -> TrainingSettings:
    """The settings of a training command; a UserError for words that are no flag of it."""
    parsed = parse(words)
    if parsed.rest:
        raise UserError(f"unknown: {' '.join(parsed.rest)}; python main.py --help lists the flags")
    if odd := [name for name in ONE_RUN if name in parsed.given]:
        raise UserError(f"--{odd[0]} is for a single run, here many are trained")
    return parsed.settings
