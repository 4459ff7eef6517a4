"""p-values and their correction against statsmodels."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import significance

SEEDS = st.integers(0, 2**32)


def test_the_examples_run():
    found = doctest.testmod(significance)
    assert found.attempted and not found.failed


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_is_that_of_statsmodels_and_keeps_what_was_not_tested(p):
    from statsmodels.stats.multitest import multipletests

    tested = [value for value in p if value is not None]
    found = significance.holm(p)
    assert [value is None for value in found] == [value is None for value in p]
    if tested:
        expected = multipletests(tested, method="holm")[1]
        assert [value for value in found if value is not None] == pytest.approx(expected)
