"""The scores of a run as lines for the screen."""

import textwrap

from reporting import highlight_text
from reporting.formatting import interval, number
from reporting.page import (
    GROUPS,
    INTERVAL,
    NOT_A_RESULT,
    TEST_AUDIO,
    by_corpus,
    groups,
    has_prior,
    present_line,
    uses_test_audio,
)


def console(result: dict) -> str:
    """The score table for a terminal of 80 columns, majority baseline beside every score.

    With the label-prior baseline beside that, where the result has one.
    """
    if "highlight" in result:
        return _console_events(result)
    width = 20 if has_prior(result) else 23  # the other rows of a minus sign: no baseline has one
    head = f"{'score':<15}  {'value':>6}  {INTERVAL:<16}  {'majority baseline':<{width}}"
    head += f"  {'prior':>6}  {'n':>6}" if has_prior(result) else f"  {'n':>6}"
    lines = [head.rstrip(), "-" * len(head)]
    for group in groups(result):
        if group["title"] == GROUPS[("top",)][0]:
            lines += ["", *textwrap.wrap(f"{group['title']}: {group['note']}", 80)]
        lines += [_console_row(row, width, has_prior(result)) for row in group["rows"]]
    for part in by_corpus(result):
        lines += ["", f"{part['name']}: {part['said']}"]
        for group in part["groups"]:
            shown = part["prior"] and has_prior(result)  # as wide as the head of the table
            lines += [_console_row(row, width, shown) for row in group["rows"]]
    lines += ["", *textwrap.wrap(present_line(result), 80, subsequent_indent="  ")]
    lines += [TEST_AUDIO] if uses_test_audio(result) else []
    lines += [NOT_A_RESULT] if result["synthetic"] else []
    return "\n".join(lines)


def _console_events(result: dict) -> str:
    lines = highlight_text.lines(result["highlight"])
    return "\n".join([*lines, *([NOT_A_RESULT] if result["synthetic"] else [])])


def _console_row(row: dict, width: int, prior: bool) -> str:
    baseline = number(row["baseline"])
    baseline += f" {interval(row['baseline_low'], row['baseline_high'])}"
    line = f"{row['name']:<15}  {number(row['value']):>6}  {interval(row['low'], row['high']):<16}"
    line += f"  {baseline:<{width}}" + (f"  {number(row['prior']):>6}" if prior else "")
    return f"{line}  {row['n']:>6}"
