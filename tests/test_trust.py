"""Judging models: values equal to the field's libraries, intervals that hold, undefined as a value, hostile names."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core.errors import UsageError, UserError
from aiplat.trust import intervals, metrics
from aiplat.trust.audit import audit_predictions, restore
from aiplat.trust.counting import counts

ROOT = Path(__file__).parent.parent
ADULT = ROOT.parent / "shared" / "data" / "adult"
NEEDS_ADULT = pytest.mark.skipif(not ADULT.exists(), reason="the Adult data is not beside the repository")
TINY = 1e-12


def fairlearn_values(truth, said, sensitive) -> dict[str, float]:
    """Every criterion as fairlearn gives it; NaN where it is not defined."""
    import fairlearn.metrics as fl
    from sklearn.metrics import accuracy_score, precision_score

    names = ["demographic_parity", "equal_opportunity", "equalized_odds", "false_positive_rate", "false_negative_rate"]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        out = {
            f"{n}_{how}": getattr(fl, f"{n}_{how}")(truth, said, sensitive_features=sensitive)
            for n in names
            for how in ("difference", "ratio")
        }
        for name, function in (("predictive_parity", precision_score), ("accuracy", accuracy_score)):
            frame = fl.MetricFrame(metrics=function, y_true=truth, y_pred=said, sensitive_features=sensitive)
            out[f"{name}_difference"] = frame.difference(method="between_groups")
            out[f"{name}_ratio"] = frame.ratio(method="between_groups")
    return out


# --- counts ---------------------------------------------------------------------------------------------------------


@st.composite
def coded(draw):
    rows = draw(st.integers(1, 60))
    column = lambda top: np.array(draw(st.lists(st.integers(0, top - 1), min_size=rows, max_size=rows)))  # noqa: E731
    return [column(2), column(3)], column(3), column(3), draw(st.integers(0, rows))


@given(coded())
@settings(max_examples=60, deadline=None)
def test_chunks_add_up_and_marginals_are_counts(data):
    codes, truth, said, cut = data
    levels = [["a", "b"], ["x", "y", "z"]]

    def count(rows):
        return counts.tabulate(
            ["p", "q"], levels, [c[rows] for c in codes], truth=truth[rows], predicted=said[rows], classes=3
        )

    whole = count(slice(None))
    assert ((count(slice(0, cut)) + count(slice(cut, None))).cells == whole.cells).all()
    alone = counts.tabulate(["q"], [levels[1]], [codes[1]], truth=truth, predicted=said, classes=3)
    assert (whole.over("q").cells == alone.cells).all()
    ones = counts.tabulate(
        ["p", "q"], levels, codes, truth=truth, predicted=said, classes=3, weights=np.full(len(truth), 0.5)
    )
    assert np.allclose(ones.cells, whole.cells / 2)
    for k in range(3):
        cells = [[((truth == k) == a) & ((said == k) == b) for b in (False, True)] for a in (False, True)]
        assert (counts.one_vs_rest(whole.over().cells, k) == np.sum(cells, axis=-1)).all()


def test_a_code_outside_its_levels_is_refused():
    with pytest.raises(ValueError):
        counts.tabulate(["p"], [["a"]], [np.array([1])], truth=np.array([0]), predicted=np.array([0]), classes=2)


# --- metrics --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 200), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_binary_metrics_are_scikit_learns(seed, rows, distinct):
    from sklearn import metrics as reference

    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, rows), rng.integers(0, distinct + 1, rows) / distinct
    said = (scores > 0.5).astype(int)
    measured = metrics.measure(metrics.outcome(truth, said, scores, task="binary", positive=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "roc_auc": lambda: reference.roc_auc_score(truth, scores),
            "average_precision": lambda: reference.average_precision_score(truth, scores),
            "accuracy": lambda: reference.accuracy_score(truth, said),
            "balanced_accuracy": lambda: reference.balanced_accuracy_score(truth, said),
            "f1": lambda: reference.f1_score(truth, said),
            "f1_macro": lambda: reference.f1_score(truth, said, average="macro"),
            "precision": lambda: reference.precision_score(truth, said),
            "recall": lambda: reference.recall_score(truth, said),
            "log_loss": lambda: reference.log_loss(truth, scores, labels=[0, 1]),
            "brier": lambda: reference.brier_score_loss(truth, scores, labels=[0, 1], pos_label=1),
        }
        for name, m in measured.items():
            if m.value is None:
                assert m.undefined
            else:
                assert m.value == pytest.approx(theirs[name](), abs=1e-10), name
                assert m.low is None or m.low - TINY <= m.value <= m.high + TINY
                if name not in ("log_loss", "brier") and m.low is not None:
                    assert m.low >= 0 and m.high <= 1
    assert list(measured) == list(theirs)


def test_regression_metrics_are_scikit_learns():
    from sklearn import metrics as reference

    rng = np.random.default_rng(0)
    truth = rng.normal(10, 3, 500)
    said = truth + rng.normal(0, 1, 500)
    measured = metrics.measure(metrics.outcome(truth, said, task="regression"))
    theirs = {
        "r2": reference.r2_score, "mae": reference.mean_absolute_error, "rmse": reference.root_mean_squared_error,
        "median_ae": reference.median_absolute_error, "mape": reference.mean_absolute_percentage_error,
    }  # fmt: skip
    assert list(measured) == list(theirs)
    for name, m in measured.items():
        assert m.value == pytest.approx(theirs[name](truth, said), abs=TINY)
        assert m.low < m.value < m.high


@pytest.mark.parametrize("name", ["r2", "rmse", "mae", "f1_macro", "roc_auc_ovr", "roc_auc", "log_loss", "brier"])
def test_intervals_agree_with_a_bootstrap_over_rows(name):
    rng = np.random.default_rng(1)
    rows = 1500
    task = metrics.METRICS[name].tasks[-1]
    if task == "regression":
        truth = rng.gamma(3, 2, rows)
        said, scores, classes = truth + rng.normal(0, 1.5, rows), None, []
    elif task == "binary":
        truth = (rng.random(rows) < 0.3).astype(int)
        scores = 1 / (1 + np.exp(-rng.normal(2 * truth - 1, 1.2)))
        said, classes = (scores > 0.5).astype(int), [0, 1]
    else:
        truth, classes = rng.integers(0, 3, rows), [0, 1, 2]
        logits = rng.normal(0, 1, (rows, 3)) + 1.5 * np.eye(3)[truth]
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        said = scores.argmax(axis=1)

    def measure(pick):
        given = None if scores is None else scores[pick]
        return metrics.measure(metrics.outcome(truth[pick], said[pick], given, task=task, classes=classes), [name])[
            name
        ]

    whole = measure(np.arange(rows))
    spread = np.std([measure(rng.integers(0, rows, rows)).value for _ in range(400)])
    assert (whole.high - whole.low) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.12)


def test_wilson_is_the_formula_of_scipy():
    from scipy.stats import binomtest

    for hits, n in ((0, 10), (3, 10), (10, 10), (871, 1000)):
        theirs = binomtest(hits, n).proportion_ci(method="wilson")
        low, high = intervals.wilson(hits, n)
        assert (float(low), float(high)) == pytest.approx((theirs.low, theirs.high), abs=TINY)


def test_delong_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    true = 0.5 * (1 + __import__("math").erf(1.5 / 2))  # P(N(1.5, 1) > N(0, 1))
    hits = 0
    for _ in range(600):
        truth = rng.random(150) < 0.3
        m = intervals.delong(truth, rng.normal(1.5 * truth, 1))
        hits += m.low <= true <= m.high
    assert 0.92 <= hits / 600 <= 0.98


def test_delong_ranks_instead_of_comparing_all_pairs():
    rng = np.random.default_rng(3)
    truth = rng.random(1_000_000) < 0.2
    scores = rng.normal(truth, 1)
    # all pairs of a million rows would neither fit into memory nor end within this test's time
    assert intervals.delong(truth, scores).value == pytest.approx(0.76, abs=0.01)


def test_undefined_metrics_say_why():
    nothing = metrics.measure(metrics.outcome([0, 0], [0, 0], [0.1, 0.2], task="binary", positive=1))
    for name in ("roc_auc", "average_precision", "precision", "recall", "f1", "balanced_accuracy"):
        assert nothing[name].value is None and nothing[name].undefined, name
    assert nothing["accuracy"].value == 1
    assert metrics.measure(metrics.outcome([0.0, 2.0], [1.0, 2.0], task="regression"))["mape"].value is None
    assert metrics.measure(metrics.outcome([2.0, 2.0], [1.0, 2.0], task="regression"))["r2"].value is None


def test_metric_names_of_people():
    with pytest.raises(UsageError, match="roc_auc"):
        metrics.metric("roc_acu")
    with pytest.raises(UsageError, match="not a metric of a regression task"):
        metrics.metric("roc_auc", "regression")
    assert all(
        metrics.METRICS[metrics.default_metric(task)].tasks.count(task)
        for task in ("binary", "multiclass", "regression")
    )


# --- criteria -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(20, 300), st.integers(2, 5))
@settings(max_examples=12, deadline=None)  # fairlearn takes its time
def test_criteria_are_fairlearns_wherever_both_are_defined(seed, rows, groups):
    rng = np.random.default_rng(seed)
    sensitive = pd.Series(rng.integers(0, groups, rows).astype(str), name="g")
    truth, said = rng.integers(0, 2, rows), (rng.random(rows) < rng.random()).astype(int)
    ours = audit_predictions(sensitive.to_frame(), truth, said, by="g", positive=1, min_group=1).criteria
    theirs = fairlearn_values(truth, said, sensitive)
    complete = all(len(set(truth[sensitive == g])) == 2 and said[sensitive == g].any() for g in set(sensitive))
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        mine = ours[name]["g"]
        if mine.value is None:
            assert mine.undefined
        elif complete and not mine.left_out:  # otherwise fairlearn counts a rate of nothing as 0
            assert mine.value == pytest.approx(value, abs=TINY), name
    if complete:
        assert ours["demographic_parity_difference"]["g"].value is not None or len(set(sensitive)) == 1


def test_intersections_are_fairlearns():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], 4000), "race": rng.choice(["A", "B", "C"], 4000)})
    truth, said = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    ours = audit_predictions(frame, truth, said, by=["sex", "race"], positive=1).criteria
    for by, sensitive in (
        ("sex", frame["sex"]),
        ("race", frame["race"]),
        ("sex & race", frame["sex"] + " & " + frame["race"]),
    ):
        for name, value in fairlearn_values(truth, said, sensitive).items():
            assert ours[name][by].value == pytest.approx(value, abs=TINY)


def test_rates_of_groups_are_fairlearns_metric_frame():
    import fairlearn.metrics as fl
    from sklearn.metrics import mean_absolute_error, recall_score, root_mean_squared_error

    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": rng.choice(["x", "y"], 900)})
    truth, said = rng.integers(0, 3, 900), rng.integers(0, 3, 900)
    found = audit_predictions(frame, truth, said, by="g", task="multiclass")
    theirs = fl.MetricFrame(
        metrics=lambda a, b: recall_score(a, b, average="macro"),
        y_true=truth,
        y_pred=said,
        sensitive_features=frame["g"],
    )
    assert found.criteria["equal_opportunity_difference"]["g"].value == pytest.approx(theirs.difference(), abs=TINY)
    rest = audit_predictions(frame, truth, said, by="g", task="multiclass", positive=2)
    against = fairlearn_values((truth == 2).astype(int), (said == 2).astype(int), frame["g"])
    for name, value in against.items():
        assert rest.criteria[name]["g"].value == pytest.approx(value, abs=TINY)
    worst = max(
        audit_predictions(frame, truth, said, by="g", task="multiclass", positive=k)
        .criteria["demographic_parity_difference"]["g"]
        .value
        for k in range(3)
    )
    assert found.criteria["demographic_parity_difference"]["g"].value == pytest.approx(worst, abs=TINY)

    price, guess = rng.normal(10, 2, 900), rng.normal(10, 2, 900)
    errors = audit_predictions(frame, price, guess, by="g", task="regression")
    for name, function in (("mae", mean_absolute_error), ("rmse", root_mean_squared_error)):
        own = fl.MetricFrame(metrics=function, y_true=price, y_pred=guess, sensitive_features=frame["g"])
        assert errors.criteria[f"{name}_difference"]["g"].value == pytest.approx(own.difference(), abs=1e-10)
        assert errors.criteria[f"{name}_ratio"]["g"].value == pytest.approx(own.ratio(), abs=1e-10)


def test_a_group_without_positives_has_no_true_positive_rate():
    frame = pd.DataFrame({"g": ["a"] * 60 + ["b"] * 60 + ["c"] * 60})
    truth = np.array(([1, 0] * 30) * 2 + [0] * 60)
    said = np.ones(180, dtype=int)
    found = audit_predictions(frame, truth, said, by="g", positive=1)
    line = next(line for line in found.groups if line.group == "c")
    assert (
        line.rates["true_positive_rate"].value is None and line.rates["true_positive_rate"].undefined == "no positives"
    )
    gap = found.criteria["equal_opportunity_difference"]["g"]
    assert gap.value == 0 and gap.left_out == ("c",)  # fairlearn says 1.0: a difference out of nothing
    import fairlearn.metrics as fl

    assert fl.equal_opportunity_difference(truth, said, sensitive_features=frame["g"]) == 1
    assert "no positives" in found._repr_html_()


def test_small_groups_are_listed_and_not_compared():
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"g": ["a"] * 500 + ["b"] * 500 + ["few"] * 29})
    truth, said = rng.integers(0, 2, 1029), rng.integers(0, 2, 1029)
    said[-29:] = 0
    found = audit_predictions(frame, truth, said, by="g", positive=1)
    assert found.criteria["demographic_parity_ratio"]["g"].value > 0.8
    assert found.criteria["demographic_parity_ratio"]["g"].left_out == ("few",)
    assert next(line for line in found.groups if line.group == "few").n == 29
    assert "few (29)" in str(found) and "too small" in str(found)
    assert (
        audit_predictions(frame, truth, said, by="g", positive=1, min_group=29)
        .criteria["demographic_parity_ratio"]["g"]
        .value
        == 0
    )
    alone = audit_predictions(frame, truth, said, by="g", positive=1, min_group=501)
    assert alone.criteria["demographic_parity_ratio"]["g"].value is None
    assert (
        "cannot be told" in str(alone)
        and json.loads(alone.to_json())["criteria"]["demographic_parity_ratio"]["g"]["value"] is None
    )


def test_missing_sensitive_values_are_a_group():
    rng = np.random.default_rng(7)
    sex = rng.choice(np.array(["f", "m", None], dtype=object), 900)
    truth, said = rng.integers(0, 2, 900), rng.integers(0, 2, 900)
    found = audit_predictions(pd.DataFrame({"sex": sex}), truth, said, by="sex", positive=1)
    sizes = {line.group: line.n for line in found.groups}
    assert sizes == {"f": (sex == "f").sum(), "m": (sex == "m").sum(), "unknown": pd.isna(sex).sum()}
    filled = pd.Series(sex).fillna("unknown")
    for name, value in fairlearn_values(truth, said, filled).items():
        assert found.criteria[name]["sex"].value == pytest.approx(value, abs=TINY)


def test_scores_add_the_area_of_each_group():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"g": rng.choice(["x", "y"], 800)})
    truth = rng.integers(0, 2, 800)
    scores = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1)
    found = audit_predictions(frame, truth, (scores > 0.5).astype(int), by="g", positive=1, scores=scores)
    areas = {g: roc_auc_score(truth[frame["g"] == g], scores[frame["g"] == g]) for g in "xy"}
    assert found.criteria["roc_auc_difference"]["g"].value == pytest.approx(abs(areas["x"] - areas["y"]), abs=TINY)


def test_columns_that_make_no_groups_are_refused_in_two_lines():
    rng = np.random.default_rng(9)
    frame = pd.DataFrame(
        {"age": rng.integers(18, 80, 200), "name": [f"n{i}" for i in range(200)], "sex": rng.choice(["f", "m"], 200)}
    )
    truth = rng.integers(0, 2, 200)
    for by, words in (("age", "--bins"), ("name", "at most"), ("sxe", "did you mean 'sex'")):
        with pytest.raises(UserError, match=words):
            audit_predictions(frame, truth, truth, by=by, positive=1)
    binned = audit_predictions(frame, truth, truth, by="age", positive=1, bins=3)
    assert len(binned.groups) == 3 and min(line.n for line in binned.groups) > 40
    with pytest.raises(UserError, match="rows"):
        audit_predictions(frame, truth[:-1], truth, by="sex", positive=1)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a & b",
    "</text></svg><script>",
    "'; drop table",
    "\u202eevil",
    "{low}",
]


@given(st.lists(st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=20), min_size=2, max_size=4, unique=True))
@settings(max_examples=40, deadline=None)
def test_hostile_group_names_are_shown_as_text(names):
    rng = np.random.default_rng(10)
    frame = pd.DataFrame({"<b>sex</b>": np.array(names, dtype=object)[rng.integers(0, len(names), 400)]})
    truth, said = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    found = audit_predictions(frame, truth, said, by=["<b>sex</b>"], positive=1)
    page = found._repr_html_() + found.html_page("<i>")
    for tag in ("<script", "<img", "<b>", "<i>", "onerror=alert(1)>"):
        assert tag not in page
    assert restore(json.loads(found.to_json())).criteria == found.criteria
    str(found)


def test_the_planted_disparity_of_the_sample_is_found():
    from aiplat.data.sample import credit

    people = credit(rows=20_000, seed=3)
    fair = credit(rows=20_000, seed=3, disparity=0.0)
    for frame, low, high in ((people, 0.6, 0.8), (fair, 0.93, 1.0)):
        decided = frame["approved"]
        found = audit_predictions(frame, decided, decided, by="sex", positive=1)
        assert low <= found.criteria["demographic_parity_ratio"]["sex"].value <= high


# --- Adult ----------------------------------------------------------------------------------------------------------


@NEEDS_ADULT
def test_reference_figures_on_adult():
    """The standard split and a default histogram gradient boosting with native categories."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from aiplat.trust.evaluate import predictions, score_model

    train, test = (pd.read_csv(ADULT / f"adult-{part}.csv") for part in ("train", "test"))
    for column in train.columns[:-1]:
        if not pd.api.types.is_numeric_dtype(train[column]):
            levels = sorted(set(train[column].dropna()))
            train[column], test[column] = (pd.Categorical(frame[column], categories=levels) for frame in (train, test))
    X = list(train.columns[:-1])
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0).fit(
        train[X], train["income"]
    )
    measured = score_model(model, test[X], test["income"], task="binary", positive=">50K")
    assert measured["roc_auc"].value == pytest.approx(0.9272, abs=0.0015)
    assert measured["accuracy"].value == pytest.approx(0.8709, abs=0.003)
    assert measured["roc_auc"].n == len(test) == 16281

    said, _ = predictions(model, test[X], task="binary", positive=">50K")
    found = audit_predictions(test, test["income"], said, by=["sex", "race"], positive=">50K")
    values = {name: row["sex"].value for name, row in found.criteria.items()}
    assert values["demographic_parity_difference"] == pytest.approx(0.1729, abs=0.006)
    assert values["demographic_parity_ratio"] == pytest.approx(0.3249, abs=0.02)
    assert values["equalized_odds_difference"] == pytest.approx(0.0654, abs=0.03)
    assert found.criteria["demographic_parity_ratio"]["sex"].groups == ("Female", "Male")
    truth, hit = (test["income"] == ">50K").astype(int), (said == ">50K").astype(int)
    for name, value in fairlearn_values(truth, hit, test["sex"]).items():
        assert values[name] == pytest.approx(value, abs=TINY)


# --- the verbs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(ws):
    """A logged run whose features leave the sensitive columns out."""
    from sklearn.linear_model import LogisticRegression

    from aiplat.data.sample import credit
    from aiplat.training.runs import log_run

    features = ["income", "amount", "late_payments"]
    people = credit(rows=2600, seed=1).dropna(subset=features)
    train, test = people[:1500], people[1500:].reset_index(drop=True)
    model = LogisticRegression(max_iter=1000).fit(train[features], train["approved"])
    log_run(
        ws, "train", model, train=train, test=test, task="binary", target="approved", positive="1", features=features
    )
    return ws, test


def test_evaluation_and_audit_leave_evidence_about_the_file_and_the_rows(trained):
    from aiplat.core import evidence, refs
    from aiplat.trust.audit import audit
    from aiplat.trust.evaluate import evaluate

    ws, test = trained
    run = refs.find_run(ws, "last")
    first, audited = evaluate("last"), audit("last", by=["sex,age_group"])
    assert audited.by == ["sex", "age_group"] and not {"sex", "age_group"} & set(run.features)
    for kind, seq in (("evaluation", first.evidence), ("audit", audited.evidence)):
        left = evidence.find(ws, kind)[0]
        assert (left.seq, left.model_digest, left.data_digest) == (seq, run.model_digest, run.test_digest)
    assert restore(evidence.find(ws, "audit")[0].measured).criteria == audited.criteria
    said = refs.load_model(ws, run).predict(test[list(run.features)])
    for name, value in fairlearn_values(test["approved"], said, test["sex"]).items():
        assert audited.criteria[name]["sex"].value == pytest.approx(value, abs=TINY)
    other = evaluate("last", test[:400])
    assert other.rows == 400 and other.data_digest != first.data_digest


def test_what_a_person_can_get_wrong_about_data(trained):
    from aiplat.trust.audit import audit
    from aiplat.trust.evaluate import evaluate

    _, test = trained
    for data, words in (
        (test.drop(columns="income"), "income"),
        (test.drop(columns=["income", "amount"]), "'amount'"),
        (test.assign(income="plenty"), "holds text where the model was trained on numbers"),
        (test.drop(columns="approved"), "target"),
        (test.assign(approved=None), "missing"),
        (test[:0], "no rows"),
        (test.assign(approved=np.arange(len(test)) % 3), "labels"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            evaluate("last", data)
        assert caught.value.todo
    for by, words in (("sexx", "sex"), ("approved", "predicts"), ("amount", "--bins"), ("", "--by")):
        with pytest.raises(UserError, match=words):
            audit("last", by=[by])


def test_an_edited_tag_does_not_move_figures_to_another_model(trained):
    from aiplat.core import evidence, refs
    from aiplat.trust.evaluate import evaluate

    ws, _ = trained
    run = refs.find_run(ws, "last")
    ws.client().set_tag(run.id, "aiplat.model_digest", "f" * 64)
    evaluate("last")
    assert evidence.find(ws, "evaluation")[0].model_digest == run.model_digest


def test_a_card_tells_what_is_there_and_what_is_missing(trained, tmp_path):
    from aiplat.release.registry import register
    from aiplat.trust.audit import audit
    from aiplat.trust.reporting.cards import card

    ws, _ = trained
    bare = card("last")
    page = Path(bare.files[0]).read_text()
    assert [Path(f).suffix for f in bare.files] == [".html", ".md"] and all(
        ws.state in Path(f).parents for f in bare.files
    )
    assert "No fairness audit" in page and "roc_auc" in page and "Nobody has written yet" in page
    audit("last", by=["sex"])
    register("last", "credit")
    (tmp_path / "use.md").write_text("# Use\nFor <script>alert(1)</script> loans.\n\n- **never** for firms")
    full = card("credit/1", out=str(tmp_path / "card.html"), notes=str(tmp_path / "use.md"))
    page = (tmp_path / "card.html").read_text()
    assert full.files == [str(tmp_path / "card.html")] and "credit/1" in page
    assert "<script" not in page and "&lt;script&gt;" in page and "female is selected at" in page and "<svg" in page
    assert "register" in page and "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    for out, notes in (("card.pdf", None), (None, "nowhere.md")):
        with pytest.raises(UserError):
            card("last", out=out, notes=notes)
