"""Subcommands: a file for each, `python main.py NAME`, which holds one class `Command(Subcommand)`.

A file reads its flags, calls a room below and prints; it does no work of its own, and nothing
imports it.
"""

import sys
from typing import Any


class Subcommand:
    """What every `Command` in commands/ is. It must have `Settings` and `main`."""

    Settings: type  # a frozen dataclass: its flags, each a `setting(default, help)`
    FLAGS = False  # whether flags of training may follow; they stand in the field `flags`

    @classmethod
    def about(cls) -> str:
        """What it does, in one line: the first of its file."""
        return (sys.modules[cls.__module__].__doc__ or "").partition("\n")[0]

    @staticmethod
    def main(settings: Any) -> None:
        """Do it. Raises UserError for what the user can mend."""
        raise NotImplementedError
