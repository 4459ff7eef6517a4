"""JSON that is damaged: values of other types, sizes and depths, keys gone or new."""

import copy
import json
import sys
from typing import NamedTuple

from hypothesis import strategies as st

from doubles.damage import place


class Deep(NamedTuple):
    """A list in a list in a list ..., made where it is used."""

    depth: int

    def value(self) -> list:
        value: list = []
        for _ in range(self.depth):
            value = [value]
        return value


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    10**9,
    10**19,
    10**300,
    -(10**19),
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "1",
    "9" * 5000,
    "\ud800",
    "../..",
    "/",
    "\0",
    "a\nb",
    "char-ngram",
    "[1]",
    [],
    [[]],
    [0],
    ["x"],
    [None],
    [10**19],
    [1e308],
    {},
    {"a": {}},
    {"x": [1]},
    Deep(400),
    Deep(3000),
]
KEYS = ["", "self", "model", "x", "data", "text_encoder", "loss", "\ud800", "a\nb"]
json_changed = st.lists(
    st.tuples(
        st.sampled_from(["value"] * 5 + ["gone", "key", "wrap", "half"]),
        st.lists(place, min_size=1, max_size=4),
        st.sampled_from(VALUES),
        st.sampled_from(KEYS),
    ),
    min_size=1,
    max_size=3,
)


def json_damaged(value: object, changes: list[tuple]) -> str:
    """JSON with values of other types, sizes and depths, and keys gone or new."""
    value = copy.deepcopy(value)
    for kind, way, new, key in changes:
        at: object = value
        for where in way[:-1]:
            inner = list(at.values()) if isinstance(at, dict) else at
            step = inner[int(where * len(inner))] if inner else None
            at = step if isinstance(step, dict | list) and step else at
        if not at:
            continue
        names = list(at) if isinstance(at, dict) else range(len(at))
        name = names[int(way[-1] * len(names))]
        new = new.value() if isinstance(new, Deep) else copy.deepcopy(new)
        if kind == "gone":
            del at[name]
        elif kind == "key" and isinstance(at, dict):
            at[key] = new
        elif kind == "half" and isinstance(at[name], list | str):
            at[name] = at[name][: len(at[name]) // 2]
        else:
            at[name] = [at[name]] if kind == "wrap" else new
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # json.dumps is recursive, too
    try:
        return json.dumps(value)
    finally:
        sys.setrecursionlimit(before)
