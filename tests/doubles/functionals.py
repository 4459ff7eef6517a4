"""Waves and stores of which functionals are taken."""

from features import functionals

RATE = 16_000
NAMES = functionals.names()
D = len(NAMES)
