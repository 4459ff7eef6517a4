"""The model card of a run: front matter as the hub wants it, then card.md.j2, filled.

Everything is read from what is published beside it: config.json (`configuration`), result.json
(`result`) and protocol.json, {} where there is none. The template escapes every text, and
huggingface_hub writes the front matter. Corpora, sessions and encoders are told of in origins.py.
"""

from pathlib import Path
from types import SimpleNamespace

from huggingface_hub import EvalResult, ModelCard, ModelCardData

import constants
from evaluation.highlights import scores
from inference.publishing import origins
from reporting import page
from reporting.formatting import tables
from utils import leaf

UNDECIDED = "other"  # the hub's word for a licence that it does not list
NOT_A_RESULT = "NOT A RESULT"
LIBRARY = "mate"
# a score, by the name that the hub has for it, and over what it averages classes
METRICS = {
    "accuracy": ("accuracy", None),
    "uar": ("recall", {"average": "macro"}),
    "macro_f1": ("f1", {"average": "macro"}),
    "weighted_f1": ("f1", {"average": "weighted"}),
}


def card(
    name: str,
    configuration: dict,
    result: dict,
    protocol: dict,
    heads: tuple[str, ...],
    license: str,
) -> str:
    """README.md of a model called `name` that has those `heads`."""
    films = "highlight" in heads
    text = page.template("card.md.j2", Path(__file__).parent).render(
        name=name,
        configuration=configuration,
        about=leaf("models", configuration["model"]).about(),
        heads=heads,
        films=films,
        emotions=[f"{emotion} {constants.KOREAN[emotion]}" for emotion in constants.EMOTIONS],
        whose=page.ROLES[configuration["SorL"]],
        split=origins.split(configuration),
        encoders=origins.encoders(configuration),
        corpora=list(origins.corpora(configuration).values()),
        mark=NOT_A_RESULT if origins.is_synthetic(configuration, result) else "",
        audio_mark=page.TEST_AUDIO if _uses_test_audio(configuration, result, protocol) else "",
        scores=_scores(result),
        ties=result.get("ties", ""),
        warnings=result.get("warnings", []),
        interval_name=page.INTERVAL,
        present=page.present_line(result) if result and not films else "",
        protocol=[_escaped(table) for table in tables(protocol)],
        license="" if license == UNDECIDED else license,
    )
    text = text.replace("&#39;", "'").replace("&#34;", '"')  # no tag is there for them to end
    whole = f"---\n{_front_matter(name, configuration, result, license).to_yaml()}\n---\n\n{text}\n"
    ModelCard(whole)  # a ValueError where the hub could not read it
    return whole


def _uses_test_audio(configuration: dict, *files: dict) -> bool:
    settings = SimpleNamespace(**configuration)
    features = (leaf("features", name) for name in origins.inputs(configuration))
    settled = any(feature.settled_by(settings) for feature in features)
    return settled or any(map(page.uses_test_audio, files))


# --- the front matter ----------------------------------------------------------------------------


def _front_matter(name: str, configuration: dict, result: dict, license: str) -> ModelCardData:
    task = _task(configuration)
    base = [e["name"] for e in origins.encoders(configuration) if e["within"] and e["on_hub"]]
    made_up = origins.is_synthetic(configuration, result)
    of = ["synthetic", "not-a-result"] if made_up else list(origins.named(configuration))
    return ModelCardData(
        language="ko",
        license=license,
        license_name="none-chosen" if license == UNDECIDED else None,
        library_name=LIBRARY,
        pipeline_tag=task,
        base_model=base[0] if len(base) == 1 else base or None,
        tags=["emotion-recognition", "korean", configuration["model"], *of],
        model_name=name,
        eval_results=_evaluated(configuration, result, task) or None,
    )


def _task(configuration: dict) -> str:
    """What the hub calls its task, by what it is given: videos, sound at least, or words alone."""
    if leaf("models", configuration["model"]).SEQUENCE:
        return "video-classification"
    sources = {leaf("features", feature).SOURCE for feature in origins.inputs(configuration)}
    return "audio-classification" if "wav" in sources else "text-classification"


def _evaluated(configuration: dict, result: dict, task: str) -> list[EvalResult]:
    """Every score of the card, at full precision, by the corpora that it was measured on."""
    about, synthetic = origins.corpora(configuration), origins.is_synthetic(configuration, result)
    found = []
    for part in _scores(result):
        names = [part["corpus"]] if part["corpus"] else list(result.get("by_corpus", about))
        names = names if "by_corpus" in result else names[:1]  # what was added was not tested
        title, kind_of_data = " + ".join(about[name].title for name in names), "+".join(names)
        if synthetic:
            title, kind_of_data = f"{NOT_A_RESULT}: {title}", f"synthetic-{kind_of_data}"
        for row in part["rows"]:
            kind, averaged = METRICS.get(row["name"], (row["name"], None))
            found.append(
                EvalResult(
                    task_type=task,
                    dataset_type=kind_of_data,
                    dataset_name=title,
                    dataset_config=configuration["SorL"],
                    dataset_split="test",
                    metric_type=kind,
                    metric_name=row["name"],
                    metric_args=averaged,
                    metric_value=row["value"],
                )
            )
    return found


# --- tables --------------------------------------------------------------------------------------


def _scores(result: dict) -> list[dict]:
    """Rows as of page.groups, without those at k: of all that was tested, then by `corpus`."""
    if "highlight" in result:
        return [{"corpus": "", "rows": _of_highlights(result["highlight"])}]
    if not result:
        return []
    parts = {"": page.groups(result)}
    parts |= {part["name"]: part["groups"] for part in page.by_corpus(result)}
    top = page.GROUPS[("top",)][0]
    return [
        {
            "corpus": corpus,
            "rows": [
                row
                for group in groups
                if group["title"] != top
                for row in group["rows"]
                if row["n"]
            ],
        }
        for corpus, groups in parts.items()
    ]


def _of_highlights(found: dict) -> list[dict]:
    """The same of highlights; their baseline calls every second one."""
    nothing = {"baseline_low": None, "baseline_high": None}
    return [
        score
        | nothing
        | {
            "name": name,
            "definition": scores.SCORES[name].definition,
            "baseline": score["baselines"].get("always_positive", {}).get("value"),
        }
        for name, score in found["scores"].items()
        if score["value"] is not None
    ]


def _escaped(table: dict) -> dict:
    """A table for Markdown: with a header, and no bar or line end within a cell."""
    header = table["header"] or [""] * len(table["rows"][0])
    rows = [
        [" ".join(cell.replace("|", "\\|").split()) for cell in row]
        for row in [header, *table["rows"]]
    ]
    return {"title": table["title"], "header": rows[0], "rows": rows[1:]}
