"""Tables of a corpus against counts made by hand, scikit-learn and a published example."""

import doctest

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import cohen_kappa_score

from constants import EMOTIONS
from corpora import preparation
from metric import VOTES
from reporting import corpus_tables

# Ten subjects, five classes, fourteen raters: the worked example of Fleiss' kappa in textbooks,
# there with kappa 0.210, observed agreement 0.378 and chance 0.213.
TEXTBOOK = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def table(emotions: str, role: str = "speaker", dialogue: str = "d1") -> pd.DataFrame:
    """Utterances with the labels given ("-" for none), spoken by F and M in turn.

    Six of ten raters chose a single label and four the next emotion; tied labels share the ten.
    """
    rows = []
    for n, word in enumerate(emotions.split()):
        labels = [] if word == "-" else word.split(";")
        votes = dict.fromkeys(VOTES, 0.0 if labels else np.nan)
        for label in labels:
            votes[f"votes_{label}"] = 6.0 if len(labels) == 1 else 10 / len(labels)
        if len(labels) == 1:
            following = EMOTIONS[(EMOTIONS.index(labels[0]) + 1) % len(EMOTIONS)]
            votes[f"votes_{following}"] = 4.0
        rows.append(
            {
                "role": role,
                "dialogue": dialogue,
                "session": 1,
                "speaker": "FM"[n % 2],
                "segment": f"{dialogue}_{n}",
                "emotion": ";".join(labels),
                "quarantine": "",
                **votes,
            }
        )
    return pd.DataFrame(rows)


def cells(counts: pd.DataFrame) -> dict:
    """The cells that are not 0."""
    flat = counts.stack()
    return flat[flat > 0].to_dict()


def test_class_balance_counts_single_labels_ties_apart_and_leaves_out_what_cannot_be_used():
    rows = table("happy happy sad;fear - angry")
    rows.loc[4, "quarantine"] = "empty wav"
    listener = table("neutral", role="listener")
    counts = corpus_tables.class_balance(pd.concat([rows, listener], ignore_index=True))
    assert list(counts.index) == ["speaker", "listener"]
    assert list(counts.columns) == [*EMOTIONS, "tie"]
    assert cells(counts.loc[["speaker"]]) == {("speaker", "happy"): 2, ("speaker", "tie"): 1}
    assert cells(counts.loc[["listener"]]) == {("listener", "neutral"): 1}


def test_single_and_labelled_rows_are_those_named():
    rows = table("happy sad;fear -")
    assert list(corpus_tables.labelled(rows).index) == [0, 1]
    assert list(corpus_tables.single(rows).index) == [0]


def test_ties_are_counted_as_written_with_the_most_frequent_first():
    counts = corpus_tables.ties(table("sad;fear happy happy;neutral happy;neutral"))
    assert counts.to_dict() == {"happy;neutral": 2, "sad;fear": 1}
    assert counts.index[0] == "happy;neutral"


def test_max_vote_share_is_the_modal_votes_over_the_raters():
    assert corpus_tables.max_vote_share(table("happy sad;fear -")).tolist() == [0.6, 0.5]


def test_pairwise_agreement_counts_pairs_of_raters():
    votes = np.array([[10, 0, 0], [6, 4, 0], [1, 1, 1], [1, 0, 0]])
    wanted = [1, (15 + 6) / 45, 0, np.nan]  # of 45 pairs of ten raters; a lone rater has none
    np.testing.assert_allclose(corpus_tables.pairwise_agreement(votes), wanted)


def test_fleiss_kappa_is_that_of_the_worked_example():
    assert corpus_tables.fleiss_kappa(TEXTBOOK) == pytest.approx(0.210, abs=5e-4)
    assert corpus_tables.pairwise_agreement(TEXTBOOK).mean() == pytest.approx(0.378, abs=5e-4)


@pytest.mark.parametrize("votes", [[[10, 0], [10, 0]], [[1, 0], [0, 1]], np.zeros((0, 2))])
def test_fleiss_kappa_is_nan_where_nothing_can_disagree(votes):
    assert np.isnan(corpus_tables.fleiss_kappa(np.array(votes)))


def test_agreement_has_a_row_for_each_role():
    rows = table("happy sad;fear")
    rows.loc[2] = rows.loc[0].to_dict() | {"votes_happy": 10.0, "votes_disgust": 0.0}
    found = corpus_tables.agreement(
        pd.concat([rows, table("sad", role="listener")], ignore_index=True)
    )
    assert list(found.index) == ["speaker", "listener"]
    speaker = found.loc["speaker"]
    assert speaker["rows"] == 3
    assert speaker["tied"] == pytest.approx(1 / 3)
    assert speaker["unanimous"] == pytest.approx(1 / 3)
    assert speaker["mean max-vote share"] == pytest.approx((0.6 + 0.5 + 1) / 3)
    assert speaker["pairwise agreement"] == pytest.approx((21 / 45 + 20 / 45 + 1) / 3)


def test_transitions_stay_within_a_dialogue_and_a_role():
    rows = [table("happy sad"), table("sad fear", dialogue="d2"), table("angry angry", "listener")]
    counts = corpus_tables.transitions(pd.concat(rows, ignore_index=True))
    wanted = {("happy", "sad"): 1, ("sad", "fear"): 1, ("angry", "angry"): 1}
    assert cells(counts) == wanted
    assert counts.index.name == "this" and counts.columns.name == "next"


def test_a_tie_or_a_missing_or_quarantined_label_interrupts_a_dialogue():
    rows = table("happy sad;fear happy - sad angry neutral")
    rows.loc[5, "quarantine"] = "empty wav"
    assert cells(corpus_tables.transitions(rows)) == {}


def test_transitions_of_one_speaker_skip_what_the_other_says():
    rows = table("happy sad happy fear")
    counts = corpus_tables.transitions(rows, within=("dialogue", "speaker"))
    assert cells(counts) == {("happy", "happy"): 1, ("sad", "fear"): 1}


def test_roles_are_paired_by_segment_in_any_order():
    speaker, listener = table("happy sad fear;sad"), table("neutral sad happy", "listener")
    counts = corpus_tables.between_roles(pd.concat([speaker, listener[::-1]], ignore_index=True))
    assert cells(counts) == {("happy", "neutral"): 1, ("sad", "sad"): 1}


def test_a_corpus_without_listeners_has_no_pairs_of_roles():
    counts = corpus_tables.between_roles(table("happy sad"))
    assert counts.shape == (7, 7) and cells(counts) == {}
    assert corpus_tables.sameness(counts)["pairs"] == 0


def test_shares_of_a_row_sum_to_one_and_an_empty_row_stays_zero():
    found = corpus_tables.shares(corpus_tables.transitions(table("happy sad happy fear")))
    assert cells(found.loc[["happy"]]) == {("happy", "sad"): 0.5, ("happy", "fear"): 0.5}
    assert (found.loc["angry"] == 0).all()


def test_sameness_is_cohens_kappa():
    first = "happy happy sad fear fear fear angry".split()
    second = "happy sad sad fear happy fear neutral".split()
    counts = corpus_tables._pairs(pd.Series(first), pd.Series(second), ("a", "b"))
    found = corpus_tables.sameness(counts)
    assert found["pairs"] == 7
    assert found["same"] == pytest.approx(4 / 7)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(first, second))


def test_sameness_of_one_label_alone_has_no_kappa():
    found = corpus_tables.sameness(corpus_tables.transitions(table("sad sad sad")))
    assert found["same"] == 1 and np.isnan(found["kappa"])


def test_signals_of_one_session_are_timed_from_its_first_sample(workplace):
    found = corpus_tables.signals("kemdy19", workplace / "corpus", session=2)
    assert set(found["subject"]) == {"Sess02_F", "Sess02_M"}
    assert set(found["signal"]) == {"ECG", "EDA", "TEMP"}
    skin = found[(found["signal"] == "TEMP") & (found["subject"] == "Sess02_F")]
    np.testing.assert_allclose(skin["minutes"], np.arange(len(skin)) / 4 / 60)  # 4 Hz


def test_a_corpus_without_signals_gives_an_empty_table(tmp_path):
    for name in ("kemdy19", "kemdy19_2022"):  # no such folders; no such sensors
        found = corpus_tables.signals(name, tmp_path, session=1)
        assert found.empty and set(found) == {*preparation.SIGNALS, "minutes"}


def test_a_heatmap_writes_every_cell_and_names_both_axes():
    axes = Figure().subplots()
    counts = pd.DataFrame([[0.25, 0.75], [1, 0]], index=["a", "b"], columns=["one", "three"])
    corpus_tables.heatmap(axes, counts)
    assert [text.get_text() for text in axes.texts] == ["0.25", "0.75", "1.00", "0.00"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "three"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_examples_in_docstrings_run():
    found = doctest.testmod(corpus_tables)
    assert found.attempted and not found.failed
