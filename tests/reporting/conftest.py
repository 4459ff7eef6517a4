"""A run that tests of pages share; none of them changes it."""

from pathlib import Path

import pandas as pd
import pytest
from doubles.report_pages import Page, page_of
from doubles.run_folders import make_run, predictions


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    table = pd.concat(
        [predictions(412), predictions(30, 2).assign(set="val", segment="validation row")]
    )
    return make_run(tmp_path_factory.mktemp("exp") / "lstm_speaker_adam_8", table)


@pytest.fixture(scope="session")
def page(run) -> Page:
    return page_of(run)
