"""A corpus made ready: its files read and checked, every wav listened to, kept as tables.

What readers of corpora and rooms above need is handed on here. Which files a corpus has and what
they mean is known in its own file, corpora/<name>.py.
"""

from corpora.preparation.columns import COLUMNS, NO_FILES, NO_PATTERN, TROUBLES, printable, troubles
from corpora.preparation.contract import SIGNALS, Reader
from corpora.preparation.corpus import (
    MARK,
    Corpus,
    CorpusSettings,
    check_distinct,
    check_labels,
    open_corpus,
    recognise,
)
from corpora.preparation.files import (
    NO_FILE,
    OUTSIDE,
    File,
    Text,
    allowed,
    decode,
    find_files,
    read_rows,
    read_signal,
    read_table,
    read_text,
    read_words,
)
from corpora.preparation.ratings import rate, read_ratings
from corpora.preparation.tables import read_tables, write_tables
from corpora.preparation.transcripts import clean_transcript, normalised

__all__ = [
    "COLUMNS", "Corpus", "CorpusSettings", "File", "MARK", "NO_FILE", "NO_FILES", "NO_PATTERN",
    "OUTSIDE", "Reader", "SIGNALS", "TROUBLES", "Text", "allowed", "check_distinct", "check_labels",
    "clean_transcript", "decode", "find_files", "normalised", "open_corpus",
    "printable", "rate", "read_ratings", "read_rows", "read_signal", "read_table",
    "read_tables", "read_text", "read_words", "recognise", "troubles", "write_tables",
]  # fmt: skip
