"""A run that judges, and lines to say to it."""

from doubles.dialogue import judge, lines, predicted

__all__ = ["judge", "lines", "predicted"]  # fixtures
