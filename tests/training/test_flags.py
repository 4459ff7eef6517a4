"""Flags are the fields of settings: each can be said, shown and said again, and none changes."""

import contextlib
import dataclasses
import io

import pytest
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import strategies as st

import constants
from training import flags
from training.settings import TrainingSettings, flat, settings_class, settings_of
from utils import UserError, leaf, leaves

MODELS = leaves("models")


def helped(parser: flags.Parser) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        parser.parse_known_args(["--help"])
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_a_flag_with_its_help_and_its_default(model):
    text = helped(flags.training_parser(model))
    for field in dataclasses.fields(settings_class(model)):
        name = f"--no_{field.name}" if field.default is True else f"--{field.name}"
        shown = field.metadata["flag"]
        assert (f"{name} " in f"{text} ".replace("]", " ")) == shown, field.name
        if shown and field.type is not bool and "default" not in field.metadata["help"]:
            assert f"(default: {flags.shown(field.default)})".replace(" ", "") in text.replace(
                " ", ""
            ), field.name


def values(field: dataclasses.Field) -> st.SearchStrategy:
    """Values that may be said of a flag."""
    about, kind = field.metadata, flags.kind_of(field)
    if about["choices"]:
        return st.sampled_from(about["choices"])
    if kind is bool:
        return st.booleans()
    if field.type == tuple[int, ...]:
        return st.sets(st.integers(1, 40)).map(sorted).map(tuple)
    if field.type == tuple[str, ...]:
        return st.lists(st.from_regex(r"[a-z][a-z:]{0,8}", fullmatch=True), max_size=3).map(tuple)
    least = about["least"] or 0
    if kind is int:
        return st.integers(least, least + 1000)
    if kind is float:
        top = about.get("below", about.get("most", 1 if about.get("read") else least + 100))
        return st.floats(least, top, exclude_max="below" in about)
    return st.from_regex(r"[a-z][a-z/_.0-9]{0,8}", fullmatch=True)


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
def test_settings_written_as_words_are_read_as_they_were(model, data):
    fields = [f for f in dataclasses.fields(settings_class(model)) if f.metadata["flag"]]
    some = data.draw(st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda f: f.name))
    changes = {f.name: data.draw(values(f), f.name) for f in some if f.name != "model"}
    changes = {
        name: value
        for name, value in changes.items()
        if value != () or name in ("val_split", "leave_out", "train_extra", "test_extra")
    }
    settings = settings_with(model, **changes)
    again = flags.parse(flags.words_of(flat(settings)))
    assert again.settings == settings and not again.rest
    flags.check(settings)
    assert settings_of(flat(settings)) == settings


@pytest.mark.parametrize("model", MODELS)
def test_settings_cannot_be_changed(model):
    settings = settings_with(model)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.lr = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        leaf("models", model).Settings().ws = 3


@pytest.mark.parametrize("model", MODELS)
def test_a_models_own_defaults_are_told_apart_from_what_was_given(model):
    parsed = flags.parse(["--model", model])
    assert parsed.given == {"model": model}
    for name, value in leaf("models", model).DEFAULTS.items():
        assert vars(parsed.settings)[name] == value


def test_defaults_of_training_stand_in_constants(monkeypatch):
    fields = {field.name: field.default for field in dataclasses.fields(TrainingSettings)}
    named = {
        "select": "SELECT",
        "schedule": "SCHEDULE",
        "warmup": "WARMUP",
        "clip": "CLIP",
        "target": "TARGET",
        "cb_counts": "CB_COUNTS",
        "modality_dropout": "MODALITY_DROPOUT",
        "precision": "PRECISION",
        "bn": "BN",
        "max_tokens": "MAX_TOKENS",
        "tables": "TABLES",
        "epochs": "EPOCHS",
        "test_split": "TEST_SPLIT",
    }
    for flag, constant in named.items():
        assert fields[flag] == vars(constants)[constant]


@pytest.mark.parametrize("name", leaves("commands"))
def test_a_subcommand_declares_its_flags_as_settings(name):
    kind = leaf("commands", name).Settings
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    for field in dataclasses.fields(kind):
        assert field.metadata["help"], field.name
    needed = [f for f in dataclasses.fields(kind) if f.metadata.get("required")]
    if needed:
        with pytest.raises(UserError, match="the following arguments are required"):
            flags.read(kind, [], name)


def test_a_value_of_another_type_than_declared_is_one_line():
    for words, said in (
        (["--lr", "fast"], "--lr: needs a number of at least 0, got 'fast'"),
        (["--beta", "1"], "--beta: needs a number of at least 0 and under 1, got '1'"),
        (["--test_split", "one"], "--test_split needs session numbers"),
        (["--max_bad", "2"], "--max_bad: needs a number from 0 to 1"),
    ):
        with pytest.raises(UserError, match=said):
            flags.parse(words)
