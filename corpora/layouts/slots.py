"""Which segment stands in which slot of a dialogue, where annotation rows are wrong about it."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from corpora.preparation.columns import NO_FILES, NO_PATTERN, printable


class Place(NamedTuple):
    """One slot of a dialogue: its segment, the row that rates it (-1: none), why it is bad."""

    segment: str
    row: int
    fault: str = ""
    detail: str = ""


Parse = Callable[[str], tuple[str, str, int] | None]  # id -> (dialogue, talker, number)


def settle(
    ids: Sequence[str], other: Sequence[str], found: set[str], parse: Parse
) -> tuple[list[Place], list[tuple[str, int, str]]]:
    """Rows of one table in order -> slots in order, and notes (reason, row, detail).

    `other`: the ids of a second table of the same utterances, row by row (or empty); `found`: the
    segments that have files. A repeated id is kept once, where it fits. A row that is repeated or
    has no files makes room for the segment that should stand there, without its rating.
    """
    other = [*other, *[""] * (len(ids) - len(other))]
    names = [parse(segment) for segment in ids]
    count = Counter(map(printable, ids))
    kept = _kept(ids, other, names)
    missing, slots, notes = found - set(ids), [], []
    for row, segment in enumerate(ids):
        twin = other[row] if other[row] in missing else ""
        if names[row] is None:
            name = printable(segment)  # which never has a "§"
            name = name if count[name] == 1 else f"{name}§{row}"
            slots.append(Place(twin or name, -1, NO_PATTERN, name))
        elif kept[segment] == row and segment in found:
            slots.append(Place(segment, row))
            continue
        else:
            repeated = kept[segment] != row
            if repeated or other[row] != segment:
                twin = twin or _belonging(row, names, missing, parse)
            if twin or repeated:
                reason = "repeated row left out" if repeated else f"row left out: {NO_FILES}"
                notes.append((reason, row, f"stands where {twin} belongs" if twin else ""))
            if twin:
                slots.append(Place(twin, -1))
            elif not repeated:
                slots.append(Place(segment, row, NO_FILES))
        missing.discard(twin)
    return slots, notes


def _kept(ids: Sequence[str], other: Sequence[str], names: list) -> dict[str, int]:
    """The row to keep of each id: the one its twin table confirms, or that fits, or the first."""
    kept: dict[str, tuple] = {}
    count = Counter(ids)
    for row, segment in enumerate(ids):
        score = (False, 0)
        if count[segment] > 1 and names[row]:
            before, after = _around(row, names, names[row])
            number = names[row][2]
            score = (other[row] == segment, (before == number - 1) + (after == number + 1))
        if segment not in kept or score > kept[segment][0]:
            kept[segment] = (score, row)
    return {segment: row for segment, (_, row) in kept.items()}


def _around(row: int, names: list, name: tuple[str, str, int]) -> tuple[int, int]:
    """Numbers of the same talker in the same dialogue next before and after a row."""
    number = {True: 0, False: 0}
    for forward, rows in ((False, range(row - 1, -1, -1)), (True, range(row + 1, len(names)))):
        for i in rows:
            if names[i] is None or names[i] == name:
                continue
            if names[i][0] != name[0]:
                break
            if names[i][1] == name[1]:
                number[forward] = names[i][2]
                break
    return number[False], number[True]


def _belonging(row: int, names: list, missing: set[str], parse: Parse) -> str:
    """The segment without a row whose number fits at this row, "" if none does."""
    dialogue = names[row][0]
    for segment in sorted(missing):
        name = parse(segment)
        if name and name[0] == dialogue:
            before, after = _around(row, names, name)
            if before < name[2] and (after == 0 or name[2] < after):
                return segment
    return ""


def merge(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Both sequences as one order: what only the second has stands after its predecessor there."""
    order, known, before = list(first), set(first), None
    for segment in second:
        if segment not in known:
            order.insert(order.index(before) + 1 if before else 0, segment)
            known.add(segment)
        before = segment
    return order


def dialogues(order: Sequence[str], parse: Parse) -> list[str]:
    """The dialogue of each segment; of one that fits no pattern, its neighbours' ("" if none)."""
    names = [parse(segment) for segment in order]
    found = ["" if name is None else name[0] for name in names]
    for i in [i for i, dialogue in enumerate(found) if not dialogue]:
        before = found[i - 1] if i else ""
        after = next((dialogue for dialogue in found[i:] if dialogue), "")
        found[i] = after if after and order[i].startswith(after) else before or after
    return found
