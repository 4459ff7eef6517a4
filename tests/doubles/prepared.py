"""A small corpus that is prepared, and settings to open it."""

from pathlib import Path

SIZE = {"sessions": 3, "dialogues": 1, "utterances": 4}
SETTINGS = {
    "data": "corpus",
    "tables": "raw",
    "max_bad": 0.5,
    "SorL": "speaker",
    "val_split": (2,),
    "test_split": (3,),
    "text_encoder": "char-ngram",
    "text_dim": 32,
    "sr": 16_000,
    "disjoint": None,
    "leave_out": (),
    "target": "votes",
    "train_extra": (),
    "test_extra": (),
    "labels": None,
}
INPUTS = ("log_mel", "sentence")


def written(place: Path) -> dict[str, bytes]:
    """Every prepared file, but for what an interrupted write leaves: index lines in any order."""
    files = [p for p in place.glob("data/prepared/*/**/*") if p.is_file() and p.name[0] != "."]
    data = {str(p.relative_to(place)): p.read_bytes() for p in files}
    return {
        n: b"".join(sorted(d.splitlines(True))) if n.endswith("index.jsonl") else d
        for n, d in data.items()
    }
