"""Pretrained encoders of text, speech and pictures: found, checked, built and loaded.

Models and features use them; what a run or a corpus is, they do not know.
"""
