"""Scores of highlights as lines of text."""

from collections.abc import Mapping

from constants import CONFIDENCE
from evaluation.highlights.intervals import HUMAN


def lines(summary: Mapping) -> list[str]:
    """A `summary` in lines of at most 80 columns."""
    n, t = summary["n"], summary["threshold"]
    found = [
        f"{n['videos']} videos, {n['rows']} s, {n['positive']} of them highlights "
        f"(rule: {summary['rule']})",
        f"threshold {_number(t)} of validation videos, budget {summary['budget']:.0%}",
        f"{'':18}{'pooled':>7}  {f'{CONFIDENCE:.0%} interval':15}{'by video':>9}"
        f"{'all':>7}{'random':>8}{'middle':>8}",
    ]
    if n["without"]:
        found.insert(1, f"{n['without']} s without prediction or truth are left out")
    found += [_line(name, score) for name, score in summary["scores"].items()]
    return found + _people(summary["human"]) + _verdicts(summary)


def _line(name: str, score: Mapping) -> str:
    has = {name: _number(value["value"]) for name, value in score["baselines"].items()}
    ends = f"{_number(score['low'])} .. {_number(score['high'])}"
    return (
        f"{name.replace('_', ' '):18}{_number(score['value']):>7}  {ends:15}"
        f"{_number(score['video_mean']):>9}{has.get('always_positive', ''):>7}"
        f"{has.get('random', ''):>8}{has.get('middle', ''):>8}"
    )


def _people(human: Mapping) -> list[str]:
    if not human["videos"]:
        return ["annotators: no video has two of them"]
    found = [f"one annotator against the others, {human['videos']} videos (the model, likewise):"]
    return found + [
        f"  {name:10}{_number(score['mean'])}, from {_number(score['low'])} to "
        f"{_number(score['high'])} ({_number(score['model'])})"
        for name, score in ((name, human[name]) for name in HUMAN)
    ]


def _verdicts(summary: Mapping) -> list[str]:
    ap, f1 = (summary["above"][name] for name in ("average_precision", "f1"))
    surely, beats = summary["surely_beats_always_positive"], summary["beats_always_positive"]
    answer = _YES[beats] if beats == surely else "yes, not surely"
    return [
        f"average precision above the rate: {_YES[summary['interval_excludes_rate']]} {_ends(ap)}",
        f'F1 above "everything is a highlight": {answer} {_ends(f1)}',
    ]


_YES = {True: "yes", False: "NO", None: "not known"}


def _ends(one: Mapping) -> str:
    difference, low, high = (
        "-" if one[name] is None else f"{one[name]:+.3f}" for name in ("difference", "low", "high")
    )
    return f"({difference}, {low} .. {high})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
