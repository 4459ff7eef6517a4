"""Scores shown: tables, figures, and the page of a run, in Korean and English.

Numbers come from evaluation/; what trains or predicts is not known here.
"""
