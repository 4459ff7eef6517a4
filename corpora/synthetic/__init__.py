"""What synthetic corpora are made of: plans, lines, voices, raters and films.

`write_sample` of each lays one down on disk exactly as the real corpus lies, so that it is read by
the same reader.
"""
