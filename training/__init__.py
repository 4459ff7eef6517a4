"""A run from start to end: its flags, the one loop, checkpoints, devices, the run folder.

`ensembles` combine finished runs, `sweep` trains many. No model, corpus or feature is named here.
"""
