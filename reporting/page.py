"""Pictures and the page of a run, and the table on the console.

Everything is read from the files of a run folder and nothing is computed anew: scores are in
`metric.py`, intervals and the baseline in bootstrap.py. The page is report.html.j2, filled here;
it escapes every string, so nothing here may mark one as safe.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

import constants
import metric
from constants import SCALES
from evaluation import calibration
from evaluation.predictions import read_predictions
from reporting import charts
from reporting.figures import confusion_png, loss_png
from reporting.formatting import count, interval, number, sessions, tables
from utils import UserError, read_json, write_atomic

TEMPLATES = Path(__file__).parent / "templates"

GROUPS = {  # sources of metric.SCORES -> heading and what stands under it
    ("confusion",): ("Emotion", "pooled over the rows that --ties keeps"),
    SCALES: (" and ".join(SCALES).capitalize(), "pooled over all rows"),
    ("top",): (
        "Top-k and 2022 scores, on all rows",
        f"a tied label is a hit; legacy_f1 is F1@1 averaged over batches of {metric.LEGACY_BATCH} "
        "in file order, as in the tables of 2022: near accuracy, not a macro F1",
    ),
}
ROLES = {"speaker": "the one who talks", "listener": "the partner who listens"}
INTERVAL = f"{100 * constants.CONFIDENCE:g} % interval"
NOT_A_RESULT = "synthetic corpus: not a result"
TEST_AUDIO = "uses the test speakers' unlabelled audio"
READ = ("configuration.json", "result.json", "protocol.json", "train_loss.log")
MISTAKES = 10  # rows in the table of confident mistakes
ERRORS = {  # of result["calibration"]
    "ece": f"ECE, {calibration.BINS} bins of equal width",
    "ece_equal_mass": f"ECE, {calibration.BINS} bins of equal mass",
    "nll": "cross-entropy with the votes, nats",
}


# --- files -----------------------------------------------------------------------------------


def write(run_folder: Path | str) -> Path:
    """Write confusion.csv, confusion.png, loss_curve.png and report.html; returns the page.

    Reads configuration.json, result.json, predictions.csv and, where they are there,
    train_loss.log and protocol.json. A picture without data is not drawn. Equal files give equal
    bytes.
    """
    folder = Path(run_folder)
    configuration = read_json(folder / "configuration.json")
    result = read_json(folder / "result.json")
    predictions = read_predictions(folder / "predictions.csv")
    log = read_log(folder / "train_loss.log")
    protocol = folder / "protocol.json"
    protocol = read_json(protocol) if protocol.exists() else {}
    with written_by_a_run(folder, *READ):
        if has_emotion(result):
            table = pd.DataFrame(result["confusion"], constants.EMOTIONS, constants.EMOTIONS)
            cells = table.to_csv(index_label="truth", float_format="%.10g")
            write_atomic(folder / "confusion.csv", cells)
            write_atomic(folder / "confusion.png", confusion_png(result["confusion"]))
        curve = charts.curve(log)
        if curve:
            write_atomic(folder / "loss_curve.png", loss_png(curve))
        name = folder.resolve().name
        html = page(configuration, result, predictions, curve, name, protocol)
    # an argument that is not UTF-8 reaches the command as lone surrogates
    write_atomic(folder / "report.html", html.encode("utf-8", "backslashreplace"))
    return folder / "report.html"


@contextmanager
def written_by_a_run(folder: Path, *files: str) -> Iterator[None]:
    """A UserError where these files of a run, which anybody may have edited, cannot be shown."""
    import jinja2

    try:
        yield
    except UserError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        jinja2.TemplateError,
    ) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(
            f"{folder} needs the {', '.join(files[:-1])} and {files[-1]} that a run wrote; they "
            f"are others: {reason}"
        ) from error


def read_log(path: Path) -> list[dict]:
    """A dict an epoch from train_loss.log; [] where there is none (a test without training)."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [_epoch(path, number, line) for number, line in enumerate(lines, 1)]


def _epoch(path: Path, number: int, line: str) -> dict:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not {"epoch", "loss"} <= value.keys():
        raise UserError(
            f"{path}, line {number}, should be a JSON object with epoch and loss, is {line[:60]!r}"
        )
    return value


def has_emotion(result: dict) -> bool:
    """Whether any row had an emotion to score."""
    return bool(result["confusion"]) and bool(np.sum(result["confusion"]))


def present_line(result: dict) -> str:
    """Over how many of the seven classes UAR and macro-F1 are means, and which are absent."""
    present, absent = (result["classes"][key] for key in ("present", "absent"))
    line = f"UAR and macro-F1 over {len(present)} of {len(present) + len(absent)} classes"
    return f"{line}; absent from the truth: {', '.join(absent)}" if absent else line


# --- the page -----------------------------------------------------------------------------------


def page(
    configuration: dict,
    result: dict,
    predictions: pd.DataFrame,
    curve: dict | None,
    name: str,
    protocol: dict | None = None,
) -> str:
    """The HTML of a run called `name`: one file, no script, nothing fetched.

    `curve`: what `charts.curve` makes of the log. `protocol`: what protocol.json holds, a dict of
    any shape, shown as small tables.
    """
    protocol = protocol or {}
    tested = predictions[predictions["set"] == "test"]
    scored = has_emotion(result)
    return template("report.html.j2").render(
        name=name,
        result=result,
        facts=facts(configuration, result, tested),
        command=configuration["command"],
        interval_name=INTERVAL,
        mark=NOT_A_RESULT,
        audio_mark=TEST_AUDIO if uses_test_audio(result) or uses_test_audio(protocol) else "",
        prior=has_prior(result),
        trust=trust(result),
        protocol=tables(protocol),
        present=present_line(result),
        groups=groups(result),
        corpora=by_corpus(result),
        highlight=result.get("highlight"),
        curve=curve,
        matrix=list(zip(constants.EMOTIONS, result["confusion"], strict=True)) if scored else [],
        scatters=[s for head in SCALES if (s := charts.scatter(tested, head, result))],
        mistakes=mistakes(tested),
        settings=list(flat(configuration)),
        korean=constants.KOREAN,
    )


def template(name: str, folder: Path = TEMPLATES) -> "jinja2.Template":  # noqa: F821
    """A template of a page; every value in it is escaped, and what it is not given is an error.

    It lies in `folder`, and may include those of reporting/templates.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _minus(number), "interval": _minus(interval), "count": count}
    return environment.get_template(name)


def _minus(write: Callable[..., str]) -> Callable[..., str]:
    """The same text with a minus as wide as a digit, so that columns stay aligned."""
    return lambda *values: write(*values).replace("-", "\N{MINUS SIGN}")


def facts(configuration: dict, result: dict, tested: pd.DataFrame) -> dict:
    """What the head of the page says of model, role and split."""
    roles = list(dict.fromkeys(tested["role"]))
    split = configuration["split"]
    n, films = result["n"], "highlight" in result
    what, where = ("seconds", "videos") if films else ("utterances", "dialogues")
    parts = [
        f"tested on {n['rows']:,} {what} of {n['dialogues']:,} {where}"
        + (f", sessions {sessions(split['test'])}" if split["test"] else ""),
        f"trained on sessions {sessions(split['train'])}" if split["train"] else "",
        f"validated on sessions {sessions(split['val'])}" if split["val"] else "",
        *(_added(extra) for extra in configuration.get("extra", [])),
    ]
    return {
        "model": configuration["model"],
        "corpus": ", ".join(dict.fromkeys(tested["corpus"])),
        "role": "" if films else ", ".join(roles),
        "whose": "" if films else " and ".join(ROLES[role] for role in roles if role in ROLES),
        "split": "; ".join(part for part in parts if part),
    }


def _added(extra: dict) -> str:
    """What a corpus of --train_extra was for."""
    split = extra["split"]
    tested = f", and tested on {sessions(split['test'])}" if split["test"] else ""
    return f"trained on sessions {sessions(split['train'])} of {extra['name']} too{tested}"


def groups(result: dict) -> list[dict]:
    """Scores under their headings, each with the ends of a common axis, 0 to 1 or wider."""
    found = []
    for sources, (title, note) in GROUPS.items():
        rows = [
            {"name": name, "definition": metric.SCORES[name].definition, "prior": None} | score
            for name, score in result["scores"].items()
            if metric.SCORES[name].source in sources
            and (
                score["n"] or (sources != SCALES and "highlight" not in result)
            )  # has not that head
        ]
        if rows:
            axis = charts.axis(rows)
            rows = [row | {"strip": charts.strip(row, axis)} for row in rows]
            found.append({"title": title, "note": note, "axis": axis, "rows": rows})
    return found


def by_corpus(result: dict) -> list[dict]:
    """Name, counts in words and score groups of each corpus; [] where only one was tested."""
    found = []
    for name, part in result.get("by_corpus", {}).items():
        said = f"{part['n']['emotion']:,} of {part['n']['rows']:,} rows count in the emotion scores"
        said += f"; its baseline answers {part['majority']}" if part["majority"] else ""
        shown = [g for g in groups(part) if g["title"] != GROUPS[("top",)][0]]
        found.append({"name": name, "said": said, "groups": shown, "prior": has_prior(part)})
    return found


def uses_test_audio(facts: dict) -> bool:
    """Whether a result or a protocol says that training saw the sound of the test rows."""
    return bool(facts.get("uses_test_audio"))


def has_prior(result: dict) -> bool:
    """Whether the label-prior baseline was computed."""
    return any("prior" in score for score in result["scores"].values())


def trust(result: dict) -> dict | None:
    """What the page shows of result["calibration"]; None without it or without rows."""
    found = result.get("calibration")
    if not found or not found["n"]:
        return None
    at = found["accuracy_at"]
    pairs = [(name, found[key], found[f"{key}_uncalibrated"]) for key, name in ERRORS.items()]
    return found | {
        "errors": pairs,
        "bars": charts.reliability(found["reliability"]),
        "curve": charts.coverage_risk(found["coverage_risk"], at, found["n"]),
        "answered": [(f"{100 * float(c):g} %", accuracy) for c, accuracy in at.items()]
        + [("all", 1 - found["coverage_risk"][-1][1])],
    }


def mistakes(tested: pd.DataFrame) -> list[dict]:
    """The rows where a label that is not modal was given most probability, surest first."""
    wrong = [
        bool(label and truth) and label not in truth.split(";")
        for label, truth in zip(tested["emotion"], tested["emotion_true"], strict=True)
    ]
    rows = tested.assign(sure=tested[list(metric.PROBABILITIES)].max(axis=1))[np.array(wrong, bool)]
    rows = rows.sort_values("sure", ascending=False, kind="stable").head(MISTAKES)
    return rows[["segment", "emotion_true", "emotion", "sure"]].to_dict("records")


def flat(configuration: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of the configuration as text; what is nested gets dotted names."""
    for name, value in configuration.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif prefix + name != "command":
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + name, text
