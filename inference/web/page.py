"""The page of `serve`: what stands where, what its buttons do. The one file that imports gradio.

Each visitor has a Dialogue of his own, in the session of his tab; after every step, what is shown
is made of it anew, in the language that he chose. What that is, is in view.py.
"""

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from inference import recordings
from inference.predictor import Predictor
from inference.web import dialogue as web_dialogue
from inference.web import view as web_view
from inference.web import words as web_words
from inference.web.dialogue import Dialogue, Limits, Refused, Said

CSS, JS = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))
IDLE = 3600.0  # s that a dialogue stays in memory unused
FONTS = (
    "system-ui",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "NanumGothic",
    "sans-serif",
)
BUTTONS = ("add", "undo", "new")
# one visitor at a time asks the model; nothing is offered to programs
MODEL = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
QUIET = MODEL | {"show_progress": "hidden"}
SPOKEN = "(d, l) => { document.documentElement.lang = l; return [d, l]; }"


class Page:
    """The page of one model. `first`: the language that it comes in."""

    def __init__(
        self,
        judge: Predictor,
        about: web_view.About,
        limits: Limits,
        first: str,
        force: bool = False,
    ):
        self.judge, self.limits, self.first, self.force = judge, limits, first, force
        self.views = {key: web_view.View(about, limits, key) for key in web_words.LANGUAGES}

    def blocks(self) -> gr.Blocks:
        """The whole page; nothing of it is shared between visitors."""
        view = self.views[self.first]
        words = view.words
        with gr.Blocks(
            title=words("title"),
            analytics_enabled=False,
            delete_cache=(60, 60 * (web_view.MINUTES - 1)),
        ) as page:
            state = gr.State(Dialogue(), time_to_live=IDLE)
            with gr.Row(elem_id="top"):
                head = gr.HTML(view.head(), elem_id="head", scale=4, min_width=280)
                language = gr.Radio(
                    [(name, key) for key, name in web_words.LANGUAGES.items()],
                    value=self.first,
                    show_label=False,
                    container=False,
                    elem_id="language",
                    scale=0,
                    min_width=210,
                )
            with gr.Row():
                with gr.Column(scale=5, min_width=300):
                    given = _fields(words)
                    large = gr.HTML(view.large(), elem_id="large")
                    with gr.Row(elem_id="buttons"):
                        buttons = _buttons(words)
                with gr.Column(scale=6, min_width=300):
                    notice = gr.HTML(elem_id="notice", visible=False)
                    result = gr.HTML(view.result(Dialogue()), elem_id="result")
                    why = gr.Button(words("why"), elem_id="why", interactive=False)
            shown = [gr.HTML(elem_id=name, visible=False) for name in ("effects", "dialogue")]
            foot = gr.HTML(view.foot(), elem_id="foot")
            fixed = [head, foot, large, *given.values(), *buttons.values(), why]
            moving = [state, notice, result, why, buttons["undo"], *shown]
            self._wire(state, language, given, buttons | {"why": why}, fixed, moving)
        return page

    def _wire(
        self,
        state: gr.State,
        language: gr.Radio,
        given: dict,
        buttons: dict,
        fixed: list,
        moving: list,
    ) -> None:
        asked, filled = [state, language], [*moving, given["sound"], given["line"]]
        busy = MODEL | {"show_progress": "minimal", "show_progress_on": moving[2]}
        for event in (buttons["add"].click, given["line"].submit):
            event(self.add, [*asked, *given.values()], filled, **busy)
        buttons["why"].click(self.why, asked, moving, **busy)
        buttons["undo"].click(self.undo, asked, moving, **QUIET)
        buttons["new"].click(self.new, asked, moving, **QUIET)
        language.change(self.turned, asked, [*fixed, *moving], js=SPOKEN, **QUIET)

    # --- what the buttons do: values for `filled`, `moving`, and `fixed` and `moving` -------------

    def add(
        self,
        dialogue: Dialogue,
        language: str,
        speaker: str,
        sound: str | None,
        line: str,
        split: bool,
    ) -> list:
        """Judge what was sent; refused, it stays in its fields and the dialogue as it was."""
        said = Said(Path(sound) if sound else None, line or "", speaker or "", bool(split))
        try:
            dialogue = web_dialogue.added(self.judge, dialogue, said, self.limits, self.force)
        except Refused as refusal:
            dialogue = dialogue.told(refusal.notice)
            told = _shown(self.views[language].notice(refusal.notice))
            return [dialogue, told, *[gr.skip()] * 7]
        return [*self.moved(dialogue, language), None, ""]

    def why(self, dialogue: Dialogue, language: str) -> list:
        """What moved the newest turn; all else is as it was."""
        dialogue = web_dialogue.explained(self.judge, dialogue)
        effects = _shown(self.views[language].why(dialogue))
        return [dialogue, _shown(""), *[gr.skip()] * 3, effects, gr.skip()]

    def undo(self, dialogue: Dialogue, language: str) -> list:
        """Without what was added last."""
        return self.moved(dialogue.undone(), language)

    def new(self, dialogue: Dialogue, language: str) -> list:
        """From the beginning; what was computed goes."""
        return self.moved(Dialogue(), language)

    def turned(self, dialogue: Dialogue, language: str) -> list:
        """Everything in the other language."""
        view = self.views[language]
        return [
            view.head(),
            view.foot(),
            view.large(),
            *[gr.update(**names) for names in _names(view.words).values()],
            *[gr.update(value=view.words(name)) for name in (*BUTTONS, "why")],
            *self.moved(dialogue, language),
        ]

    def moved(self, dialogue: Dialogue, language: str) -> list:
        """What changes from step to step."""
        view = self.views[language]
        usable = bool(dialogue.parts) and not dialogue.table["trouble"].iloc[-1]
        return [
            dialogue,
            _shown(view.notice(dialogue.notice)),
            view.result(dialogue),
            gr.update(interactive=usable),
            gr.update(interactive=bool(dialogue.parts)),
            _shown(view.why(dialogue)),
            _shown(view.dialogue(dialogue)),
        ]


def _shown(html: str) -> dict:
    return gr.update(value=html, visible=bool(html))


def _names(words: Callable[..., str]) -> dict[str, dict]:
    """What the fields are called, in the order that `Page.add` takes them."""
    return {
        "speaker": {"label": words("speaker"), "placeholder": words("speaker_hint")},
        "sound": {"label": words("sound")},
        "line": {"label": words("line"), "placeholder": words("line_hint")},
        "split": {"label": words("split", long=recordings.LONG)},
    }


def _fields(words: Callable[..., str]) -> dict:
    names = _names(words)
    return {
        "speaker": gr.Textbox(
            max_lines=1, max_length=web_dialogue.NAME, elem_id="speaker", **names["speaker"]
        ),
        "sound": gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            buttons=[],
            editable=False,
            elem_id="sound",
            **names["sound"],
        ),
        "line": gr.Textbox(
            lines=2, max_lines=6, max_length=web_dialogue.LINE, elem_id="line", **names["line"]
        ),
        "split": gr.Checkbox(value=True, elem_id="split", container=False, **names["split"]),
    }


def _buttons(words: Callable[..., str]) -> dict:
    looks = {"add": {"variant": "primary"}, "undo": {"interactive": False}, "new": {}}
    return {
        name: gr.Button(words(name), elem_id=name, min_width=88, **looks[name]) for name in BUTTONS
    }


def look(limits: Limits, language: str) -> dict:
    """What `launch` is given for the page's looks: fonts of the visitor's own system, no others."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=FONTS,
        font_mono=("ui-monospace", "monospace"),
    ).set(
        body_background_fill="*neutral_50",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="white",
        input_background_fill="*neutral_50",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
    )
    script = JS.read_text(encoding="utf-8").replace("LANGUAGE", language)
    script = script.replace("MOST", str(round(limits.mb * 2**20)))
    head = f"<script>{script}</script>"
    return {"theme": theme, "css": CSS.read_text(encoding="utf-8"), "head": head}
