"""What configuration.json and result.json of a run say, read once and typed.

Whoever reads a run folder goes through these: a value that training never writes is one line of a
UserError here, and nowhere else. What a file lacks, since an earlier version wrote it, is None or
empty.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constants import EMOTIONS, ROLES, TIE_POLICIES
from evaluation.splits import Split
from utils import UserError, read_json

CONFIGURATION, RESULT = "configuration.json", "result.json"


def _fact(fits: Callable[[Any], bool], what: str, default: Any = None) -> Any:
    """A field that is read from a file, with a test of its value and words for it."""
    return dataclasses.field(default=default, metadata={"fits": fits, "what": what})


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _one_of(values: Iterable[Any]) -> Callable[[Any], bool]:
    allowed = tuple(values)
    return lambda value: any(value is one or value == one for one in allowed)


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(fits, value))


def _is_split(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _are(_is_count)(value.get(name)) for name in Split._fields
    )


def _is_corpus(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and _is_text(value.get("folder"))
        and isinstance(value.get("fingerprint"), str)
    )


def _is_added(value: Any) -> bool:
    return _is_corpus(value) and _is_split(value.get("split"))


def _are_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        name in EMOTIONS and isinstance(count, int) and count >= 0 for name, count in value.items()
    )


def _are_counts_by_corpus(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_are_counts, value.values()))


def _is_majority(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and value.get("emotion", "") in ("", *EMOTIONS)
        and isinstance(by_corpus := value.get("by_corpus", {}), Mapping)
        and all(emotion in EMOTIONS for emotion in by_corpus.values())
        and all(_or_null(_is_number)(value.get(name)) for name in ("arousal", "valence"))
    )


@dataclass(frozen=True)
class CorpusRecord:
    """One corpus of a run: what it was called, where it lay, which state of it was read."""

    folder: str
    fingerprint: str
    name: str = ""
    label: str = ""  # what its rows call it
    synthetic: bool = False
    split: Split | None = None  # of a corpus that was added to that of --data


@dataclass(frozen=True)
class Majority:
    """What the training rows had most of: the answers of the majority baseline."""

    emotion: str | None = None
    by_corpus: Mapping[str, str] = dataclasses.field(default_factory=dict)
    arousal: float | None = None  # means, on the scale 1..5
    valence: float | None = None


@dataclass(frozen=True)
class RunConfiguration:
    """configuration.json of a run. `values`: all of the file, flags too; `path`: where it lies."""

    values: Mapping[str, Any]
    path: Path
    model: str | None = _fact(lambda value: isinstance(value, str), "a name")
    SorL: str | None = _fact(_one_of(ROLES), f"one of {', '.join(ROLES)}")
    data: str | None = _fact(_is_text, "a folder")
    tables: str | None = _fact(_one_of(("raw", "2022")), "raw or 2022")
    max_bad: float | None = _fact(_is_number, "a number")
    text_encoder: str | None = _fact(_or_null(lambda v: isinstance(v, str)), "a name or null")
    ties: str | None = _fact(_one_of(TIE_POLICIES), "a policy for ties")
    target: str | None = _fact(_one_of(("votes", "hard")), "votes or hard")
    disjoint: str | None = _fact(_one_of((None, "text", "script")), "text, script or null")
    batch_size: int | None = _fact(
        lambda value: _is_count(value) and value > 0, "a whole number of at least 1"
    )
    seed: int | None = _fact(lambda value: isinstance(value, int), "a whole number")
    test_split: tuple[int, ...] | None = _fact(_are(_is_count), "a list of sessions")
    leave_out: tuple[int, ...] = _fact(_are(_is_count), "a list of sessions", ())
    train_extra: tuple[str, ...] = _fact(_are(_is_text), "a list of corpora", ())
    test_extra: tuple[int, ...] = _fact(_are(_is_count), "a list of sessions", ())
    labels: str | None = _fact(_or_null(lambda v: isinstance(v, str)), "a label rule or null")
    split: Split | None = _fact(_is_split, "lists of sessions: train, val, test")
    corpus: CorpusRecord | None = _fact(_is_corpus, "an object with folder and fingerprint")
    extra: tuple[CorpusRecord, ...] = _fact(
        _are(_is_added), "a list of objects with folder, fingerprint and split", ()
    )
    majority: Majority | None = _fact(
        _is_majority, "an emotion, by corpus too, and numbers for the scales"
    )
    class_counts: Mapping[str, int] | None = _fact(
        _or_null(_are_counts), "a whole number for each emotion"
    )
    class_counts_by_corpus: Mapping[str, Mapping[str, int]] | None = _fact(
        _are_counts_by_corpus, "a whole number for each emotion of each corpus"
    )

    @classmethod
    def of(cls, values: Mapping[str, Any], path: Path | str = CONFIGURATION) -> "RunConfiguration":
        """What a flat configuration says. UserError for a value that training never writes."""
        found = {}
        for field in dataclasses.fields(cls)[2:]:
            if field.name in values:
                value, about = values[field.name], field.metadata
                if not about["fits"](value):
                    raise UserError(f"{path}: {field.name} should be {about['what']}")
                found[field.name] = _typed(field.name, value)
        return cls(values, Path(path), **found)

    @classmethod
    def read(cls, folder: Path) -> "RunConfiguration":
        """What the configuration.json of a run folder says."""
        path = folder / CONFIGURATION
        return cls.of(read_json(path), path)

    def require(self, *names: str) -> None:
        """A UserError where the file lacks one of these."""
        if absent := [name for name in names if name not in self.values]:
            raise UserError(f"{self.path} needs {', '.join(absent)}; it has none")

    @property
    def corpora(self) -> tuple[CorpusRecord, ...]:
        """All corpora of the run, that of --data first, each with the split of its sessions."""
        own = () if self.corpus is None else (dataclasses.replace(self.corpus, split=self.split),)
        return (*own, *self.extra)


def _typed(name: str, value: Any) -> Any:
    """A value of the file as the type of its field."""
    if name == "split":
        return _split(value)
    if name == "corpus":
        return _corpus(value)
    if name == "extra":
        return tuple(map(_corpus, value))
    if name == "majority":
        names = {field.name for field in dataclasses.fields(Majority)}
        return Majority(**{key: item for key, item in value.items() if key in names})
    return tuple(value) if isinstance(value, list) else value


def _split(value: Mapping[str, list[int]]) -> Split:
    return Split(*(tuple(value[name]) for name in Split._fields))


def _corpus(value: Mapping[str, Any]) -> CorpusRecord:
    split = _split(value["split"]) if _is_split(value.get("split")) else None
    return CorpusRecord(
        value["folder"],
        value["fingerprint"],
        str(value.get("name", "")),
        str(value.get("label", value.get("name", ""))),
        bool(value.get("synthetic", False)),
        split,
    )


@dataclass(frozen=True)
class RunResult:
    """What of result.json is used again: what was fitted, and what was said of the corpus."""

    temperature: float | None = None  # that confidences are divided by
    fitted_on: int = 0  # rows it was fitted on
    threshold: float | None = None  # the probability from which a second is a highlight

    @classmethod
    def read(cls, folder: Path) -> "RunResult":
        """What the result.json of a run folder says; the defaults where there is none."""
        path = folder / RESULT
        values = read_json(path) if path.exists() else {}
        calibration, highlight = (values.get(name) or {} for name in ("calibration", "highlight"))
        found = cls(
            calibration.get("temperature"),
            calibration.get("fitted_on", 0),
            highlight.get("threshold"),
        )
        for name in ("temperature", "threshold"):
            if not _or_null(_is_number)(vars(found)[name]):
                raise UserError(f"{path}: {name} should be a number or null")
        if not _is_count(found.fitted_on):
            raise UserError(f"{path}: fitted_on should be a whole number")
        return found
