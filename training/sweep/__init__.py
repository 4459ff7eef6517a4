"""Sweeps: a table of runs to be trained, trained side by side, gone on with after a kill."""
