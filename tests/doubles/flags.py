"""What may be typed: flags of settings dataclasses, from their own parser."""

import dataclasses

from training import flags


def fields_of(kind: type) -> list[dataclasses.Field]:
    """The fields of a settings dataclass that are flags, not positions."""
    fields = [field for field in dataclasses.fields(kind) if field.metadata["flag"]]
    return [field for field in fields if not field.metadata.get("position")]


def flags_of(kind: type) -> dict[str, list[str]]:
    """What is typed for each field that is a flag."""
    parser = flags.Parser(add_help=False)
    flags.add_flags(parser.add_argument, fields_of(kind))
    return {action.dest: list(action.option_strings) for action in parser._actions}
