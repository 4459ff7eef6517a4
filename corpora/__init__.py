"""Corpora: a file for each, which reads its folder as a table of utterances.

What one must have is said in preparation/contract.py. Folders hold what several share:
`preparation` (read, checked, kept), `layouts`, `labels` and `synthetic`. Nothing here knows
features, models or runs.
"""
