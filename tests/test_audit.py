"""The audit's promises: how often it is wrong, and what it does with data that cannot answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiplat.core.errors import UsageError, UserError
from aiplat.trust.audit import audit, audit_predictions, restore
from aiplat.trust.bounds import Rule
from aiplat.trust.counting.counts import Grouped
from aiplat.trust.power import chances, scaled, simulate

# The sizes of the groups in Adult's test set.
ADULT = Grouped(
    ("sex", "race"),
    (("Female", "Male"), ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White")),
    np.array([[66, 171, 753, 46, 4385], [93, 309, 808, 89, 9561]]),
)
FAIR = chances(0.2362, 0.62, 0.05)


@pytest.mark.slow
def test_a_fair_model_fails_in_at_most_one_of_twenty_audits() -> None:
    """Over all criteria and groupings together, 42 verdicts an audit."""
    found = simulate(ADULT, lambda group: FAIR, trials=1000, seed=1)
    assert len(found.counted) == 42 and found.trials == 1000
    assert found.any_fail <= 0.05, found.any_fail
    assert found.share("pass", "demographic_parity_ratio", "sex") > 0.99  # it says something, too


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_at_the_bound_neither_word_is_easy(level: float) -> None:
    """Every group but the largest stands exactly at the bound: a FAIL is wrong, and a PASS is luck."""
    rule = [Rule("fairness", "demographic_parity_ratio", ">=", 0.8)]
    model = scaled(lambda group: group != ("Male", "White"), 0.8, FAIR)
    found = simulate(ADULT, model, rule, trials=400, seed=2, level=level)
    assert found.share("fail", "demographic_parity_ratio", "sex & race") <= 1 - level
    assert found.share("pass", "demographic_parity_ratio", "sex & race") <= 1 - level


def test_an_unfair_model_is_found() -> None:
    rule = [Rule("fairness", "demographic_parity_ratio", ">=", 0.8)]
    found = simulate(ADULT, scaled(lambda group: group[0] == "Female", 0.6, FAIR), rule, trials=100, seed=3)
    assert found.share("fail", "demographic_parity_ratio", "sex") == 1.0


def test_intervals_hold_together_as_often_as_they_promise() -> None:
    """The comparisons of selection rates with the reference all contain the truth in 95 of 100 samples, and hardly more."""
    from aiplat.trust.criteria import disparity
    from aiplat.trust.intervals import share

    rng, sizes = np.random.default_rng(5), [4000, 900, 900, 300, 300, 120, 120]
    rates, held = [0.3, 0.25, 0.3, 0.35, 0.2, 0.3, 0.4], 0
    for _ in range(1000):
        hits = [int(rng.binomial(n, p)) for n, p in zip(sizes, rates, strict=True)]
        measures = [share(h, n, "") for h, n in zip(hits, sizes, strict=True)]
        found = disparity([str(i) for i in range(7)], {"selection_rate": measures}, "difference")
        held += all(each.low <= rates[int(each.group)] - rates[0] <= each.high for each in found.comparisons)
    assert 0.94 <= held / 1000 <= 0.975, held


# --- what the data cannot answer --------------------------------------------------------------------------------------


def people(n: int = 2000, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], n), "race": rng.choice(["a", "b", "c"], n)})
    truth = (rng.random(n) < 0.4).astype(int)
    scores = np.clip(0.3 * truth + rng.random(n) * 0.7, 0, 1)
    return frame, truth, (scores > 0.5).astype(int), scores


def test_missing_values_are_a_group() -> None:
    frame, truth, said, _ = people()
    frame.loc[::5, "race"] = None
    found = audit_predictions(frame, truth, said, by=["sex", "race"], positive=1)
    unknown = [line for line in found.of("race") if line.group == "unknown"]
    assert [line.n for line in unknown] == [400] and sum(line.n for line in found.of("race")) == 2000
    assert sum(line.n for line in found.of("sex & race")) == 2000
    assert "400 rows (20.0%) have no value" in str(found)


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions(constant: int) -> None:
    frame, truth, _, _ = people()
    found = audit_predictions(
        frame, truth, np.full(2000, constant), by="sex", positive=1, criteria="predictive_parity_ratio >= 0.8"
    )
    ratio = found.criteria["demographic_parity_ratio"]["sex"]
    assert (ratio.value, found.outcome) == ((1.0, "pass") if constant else (None, "undefined"))
    assert found.exit_code == (0 if constant else 3)  # a gate that names an undefined criterion fails closed
    assert restore(json.loads(found.to_json())).verdicts == found.verdicts


def test_one_group_only_and_nobody_positive() -> None:
    frame, truth, said, _ = people()
    alone = audit_predictions(frame.assign(sex="f"), truth, said, by="sex", positive=1)
    assert {row["sex"].value for row in alone.criteria.values()} == {None}
    assert {row["sex"].word for row in alone.verdicts.values()} == {"undefined"} and "only one group" in str(alone)
    truth = np.where(frame["sex"] == "f", 0, truth)
    none = audit_predictions(frame, truth, said, by="sex", positive=1)
    assert none.criteria["equal_opportunity_difference"]["sex"].value is None  # fairlearn says a rate of 0
    assert none.criteria["demographic_parity_difference"]["sex"].value is not None


def test_scores_that_are_missing_are_said_and_not_dropped() -> None:
    frame, truth, said, scores = people()
    scores[7] = np.nan
    found = audit_predictions(frame, truth, said, by="sex", positive=1, scores=scores)
    assert "roc_auc_difference" not in found.criteria or found.criteria["roc_auc_difference"]["sex"].value is None
    assert sum(line.n for line in found.groups) == 2000


@pytest.mark.parametrize("scores", ["none", "one is missing", "margins"])
def test_what_is_demanded_and_cannot_be_told_does_not_pass(scores: str) -> None:
    """A rule about scores, where there are none, or not such as it needs: 3, on all rows and in a slice."""
    frame, truth, said, given = people()
    rule = "accuracy_difference <= 0.9, calibration_difference <= 0.9"
    column = {"none": None, "one is missing": np.where(np.arange(2000) == 3, np.nan, given), "margins": given * 4 - 2}
    found = audit_predictions(frame, truth, said, by="sex", positive=1, scores=column[scores], criteria=rule)
    assert (found.outcome, found.exit_code) == ("undefined", 3) and "UNDEFINED" in str(found)
    assert found.verdicts["accuracy_difference"]["sex"].word == "pass"
    assert found.verdicts["calibration_difference"]["sex"].why in (
        "the model gives no scores", "1 scores are missing", "the scores are no probabilities"
    )  # fmt: skip
    again = restore(json.loads(found.to_json()))
    assert again.verdicts == found.verdicts and list(again.criteria) == list(found.criteria)
    table = frame.assign(truth=truth, said=said)
    asked = {"by": ["sex"], "target": "truth", "prediction": "said", "positive": "1", "criteria": rule}
    assert audit(table, where=["race == 'a'"], **asked).exit_code == 3


def test_a_criterion_of_another_task_is_a_slip() -> None:
    frame, truth, said, _ = people()
    three = {"by": "sex", "task": "multiclass", "criteria": "brier_difference <= 0.1"}
    with pytest.raises(UsageError, match="no criterion of a binary task"):
        audit_predictions(frame, truth, said, by="sex", criteria="mae_ratio >= 0.8")
    with pytest.raises(UsageError, match=r"multiclass task(.|\n)*--positive"):
        audit_predictions(frame, truth + 1, np.arange(2000) % 3, **three)
    one = audit_predictions(frame, truth + 1, np.arange(2000) % 3, positive=2, **three)
    assert one.outcome == "undefined"  # there it is one; only the scores are lacking


def test_scores_stand_beside_the_rows() -> None:
    frame, truth, said, scores = people()
    for wrong in (scores[:900], np.column_stack([1 - scores, scores]), scores[:, None], 0.5, ["x"] * 2000):
        with pytest.raises(UserError, match="one per row"):
            audit_predictions(frame, truth, said, by="sex", positive=1, scores=wrong)
    matrix, labels = np.column_stack([scores, 1 - scores, scores * 0]), np.arange(2000) % 3
    with pytest.raises(UserError, match="2,000 × 3"):
        audit_predictions(frame, labels, said, by="sex", task="multiclass", positive=2, scores=matrix)
    with pytest.raises(UserError, match="900 × 3"):
        audit_predictions(frame, labels, said, by="sex", task="multiclass", scores=matrix[:900])
    for right in ({"scores": matrix}, {"scores": scores, "positive": 2}):
        audit_predictions(frame, labels, said, by="sex", task="multiclass", **right)


@pytest.mark.parametrize("only", [0, 1, False, True, "yes"])
@pytest.mark.parametrize("positive", [None, "1", "0", "yes"])
def test_a_single_label_means_the_same_in_a_table_and_in_arrays(only: object, positive: str | None) -> None:
    frame, labels = people(100)[0], np.array([only] * 100)
    arrays = audit_predictions(frame, labels, labels, by="sex", positive=positive)
    asked = {"by": ["sex"], "target": "truth", "prediction": "said", "positive": positive}
    table = audit(frame.assign(truth=labels, said=labels), **asked)
    rates = [found.groups[0].rates["selection_rate"].value for found in (arrays, table)]
    assert arrays.positive == table.positive and rates[0] == rates[1]


def test_what_is_no_column_of_labels_is_said() -> None:
    frame, truth, said, _ = people(60)
    lists = pd.Series([[1]] * 60)
    for rows, y, how in (
        (frame[:0], truth[:0], {}),
        (frame.assign(sex=lists), truth, {}),
        (frame, lists, {}),
        (frame, frame[["sex"]], {}),
        (frame, frame["sex"], {"task": "regression"}),
        (pd.concat([frame, frame], axis=1), truth, {}),
    ):
        with pytest.raises(UserError):
            audit_predictions(rows, y, said[: len(rows)], by="sex", **how)


def test_a_group_that_a_slice_has_lost_is_listed() -> None:
    frame, truth, said, _ = people()
    table = frame.assign(truth=truth, said=said, age=np.arange(2000) % 50)
    asked = {"by": ["race", "age"], "bins": 2, "target": "truth", "prediction": "said", "positive": "1"}
    [part] = audit(table, where=["race != 'c' and age < 30"], **asked).slices
    assert {line.group: line.n for line in part.of("race")}["c"] == 0
    assert sum(line.n for line in part.of("race")) == part.rows == sum(line.n for line in part.of("race & age"))
    assert len(part.of("age")) == 2 and all(line.n for line in part.of("age"))  # cut anew, at other places


def test_a_group_per_person_is_an_error() -> None:
    n = 200_000
    frame = pd.DataFrame({"id": np.arange(n).astype(str)})
    with pytest.raises(UserError, match="distinct values, which are no groups"):
        audit_predictions(frame, np.zeros(n, int), np.zeros(n, int), by="id", positive=1)


def test_verdicts_come_back_from_the_ledger() -> None:
    frame, truth, said, scores = people()
    rules = "demographic_parity_ratio >= 0.8, roc_auc_difference <= 0.05"
    found = audit_predictions(frame, truth, said, by=["sex", "race"], positive=1, scores=scores, criteria=rules)
    again = restore(json.loads(json.dumps(found.measured())), data="given predictions")
    assert again.verdicts == found.verdicts and again.criteria == found.criteria and again.outcome == found.outcome
    assert {name for name, row in found.verdicts.items() if row["sex"].gates} == {
        "demographic_parity_ratio",
        "roc_auc_difference",
    }


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    frame, truth, said, _ = people()
    frame["sex"] = frame["sex"].replace("f", "<img src=x onerror=alert(1)>")
    page = audit_predictions(frame, truth, said, by=["sex", "race"], positive=1).html_page("x")
    assert "<img" not in page and "&lt;img" in page
