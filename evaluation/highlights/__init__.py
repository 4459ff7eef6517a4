"""Scores of highlights of videos: by the second, resampled by video, and which seconds are cut out."""
