"""Scores of highlights: by the second, resampled by video, and which seconds are cut out."""
