"""Models: a file for each, chosen by `--model`; folders hold what several share.

What a model must have is said in model.py. Nothing here knows where a batch comes from.
"""
