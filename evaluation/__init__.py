"""What scores are worth: splits, leakage, bootstrap, calibration, comparison of finished runs.

Tables of predictions in, numbers out. How a model is trained and how numbers are shown is not
known here.
"""
