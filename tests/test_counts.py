"""The counting engine: tallies that add up, equal to fairlearn's figures, errors like a bootstrap's, hostile tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiplat.core.errors import UserError
from aiplat.trust import intervals
from aiplat.trust.counting import histograms
from aiplat.trust.counting.encode import codes_of, factor, levels_of
from aiplat.trust.counting.expressions import expression
from aiplat.trust.counting.rates import means, rates_of
from aiplat.trust.counting.tables import rows_where, tally_on, tally_table
from aiplat.trust.counting.tally import Tally, tally, tally_codes
from aiplat.trust.metrics import Outcome

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
TINY = 1e-12


def outcome(truth, said, scores=None, classes=("no", "yes")) -> Outcome:
    return Outcome("binary" if len(classes) == 2 else "multiclass", truth, said, classes, scores, scores is not None)


def same(one: Tally, other: Tally) -> None:
    """Two tallies hold the same, in the same order."""
    assert (one.task, one.classes, one.rows, one.levels) == (other.task, other.classes, other.rows, other.levels)
    for name in ("cells", "squares", "counted", "histogram", "histogram_squares", "sums"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(a.cells, b.cells, rtol=1e-9, atol=1e-9, err_msg=name)
    if one.bins is not None:
        np.testing.assert_array_equal(one.bins.points, other.bins.points)


# --- properties of the tensor ---------------------------------------------------------------------------------------


@st.composite
def people(draw) -> tuple[pd.DataFrame, Outcome, np.ndarray | None]:
    rows = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    classes = draw(st.sampled_from([("no", "yes"), ("a", "b", "c")]))
    sex = pd.Series(rng.choice(np.array(["f", "m", None, " "], dtype=object), rows), dtype="str")
    frame = pd.DataFrame({"sex": sex, "race": rng.choice(["x", "y", "z"], rows), "old": rng.random(rows) < 0.3})
    scores = np.round(rng.random(rows), draw(st.sampled_from([1, 6]))) if len(classes) == 2 else None
    weights = draw(st.sampled_from([None, rng.gamma(2, 1, rows)]))
    return (
        frame,
        outcome(rng.integers(0, len(classes), rows), rng.integers(0, len(classes), rows), scores, classes),
        weights,
    )


def some(case, rows) -> Tally:
    frame, said, weights = case
    scores = None if said.scores is None else said.scores[rows]
    part = outcome(said.truth[rows], said.predicted[rows], scores, said.classes)
    return tally(frame[rows], part, ["sex", "race", "old"], weights=None if weights is None else weights[rows])


@given(people(), st.data())
@settings(max_examples=60, deadline=None)
def test_chunks_add_up_in_any_order_and_whatever_levels_they_know(case, data):
    frame, *_ = case
    cut = np.random.default_rng(data.draw(st.integers(0, 99))).random(len(frame)) < 0.5
    whole = some(case, np.ones(len(frame), bool))
    parts = [some(case, rows) for rows in (cut, ~cut) if rows.any()]
    for order in (parts, parts[::-1]):
        total = order[0] + order[1] if len(order) > 1 else order[0]
        assert [set(each) for each in total.levels] == [set(each) for each in whole.levels]
        same(total.aligned(whole.levels), whole)


@given(people(), st.permutations(["sex", "race", "old"]), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_marginal_is_the_tally_of_those_columns_alone(case, names, kept):
    frame, said, weights = case
    whole = tally(frame, said, ["sex", "race", "old"], weights=weights)
    chosen = names[:kept]
    alone = tally_codes(chosen, *codes_of(frame, chosen), said, weights=weights) if kept else whole.over()
    same(whole.over(*chosen), alone)
    assert whole.over(*chosen).sizes.sum() == len(frame) == whole.counted.cells.sum()
    if weights is not None:
        assert np.isclose(whole.cells.cells.sum(), weights.sum()) and np.isclose(
            whole.squares.cells.sum(), (weights**2).sum()
        )


@given(people(), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(case, seed):
    frame, said, weights = case
    order = np.random.default_rng(seed).permutation(len(frame))
    moved = (
        frame.iloc[order],
        outcome(
            said.truth[order], said.predicted[order], None if said.scores is None else said.scores[order], said.classes
        ),
    )
    by = ["race", "sex"]
    same(
        tally(frame, said, by, weights=weights), tally(*moved, by, weights=None if weights is None else weights[order])
    )


@given(people())
@settings(max_examples=40, deadline=None)
def test_other_names_for_groups_and_the_same_figures(case):
    frame, said, weights = case
    names = {"x": "zz", "y": "aa", "z": "mm"}
    here = rates_of(tally(frame, said, ["race"], weights=weights))
    renamed = tally(frame.assign(race=frame.race.map(names)), said, ["race"], weights=weights)
    there, before = rates_of(renamed), tally(frame, said, ["race"], weights=weights)
    for i, (group,) in enumerate(before.groups):
        place = renamed.groups.index((names[group],))
        assert renamed.sizes[place] == before.sizes[i]
        for rate, found in here.items():
            a, b = found[i].to_dict(), there[rate][place].to_dict()
            assert a.get("undefined") == b.get("undefined")
            assert np.allclose(
                [a[k] or 0 for k in ("value", "low", "high")], [b[k] or 0 for k in ("value", "low", "high")]
            ), rate


@given(people())
@settings(max_examples=40, deadline=None)
def test_weights_of_one_change_nothing_and_every_interval_holds_its_value(case):
    frame, said, weights = case
    plain, ones = (rates_of(tally(frame, said, ["sex"], weights=w)) for w in (None, np.ones(len(frame))))
    for rate, found in plain.items():
        for a, b in zip(found, ones[rate], strict=True):
            assert (a.n, a.undefined) == (b.n, b.undefined), rate
            ends = [[m.value, m.low, m.high] for m in (a, b)]
            np.testing.assert_allclose(*np.array(ends, dtype=float), atol=1e-9, err_msg=rate)
    for found in rates_of(tally(frame, said, ["sex", "race"], weights=weights)).values():
        for m in found:
            if m.low is not None and m.value is not None:
                assert m.low - 1e-9 <= m.value <= m.high + 1e-9


# --- equal to fairlearn on real data --------------------------------------------------------------------------------


def _adult() -> tuple[pd.DataFrame, pd.Series, list[str]]:
    frame = pd.concat(pd.read_csv(DATA / "adult" / f"adult-{part}.csv") for part in ("train", "test"))
    return (
        frame.reset_index(drop=True),
        frame.income.astype(str).str.contains(">50K").reset_index(drop=True),
        ["sex", "race"],
    )


def _german() -> tuple[pd.DataFrame, pd.Series, list[str]]:
    frame = pd.read_csv(DATA / "german_credit" / "german.csv")
    return frame, frame.credit == 1, ["personal_status", "foreign_worker"]


def _law() -> tuple[pd.DataFrame, pd.Series, list[str]]:
    frame = pd.read_csv(DATA / "law_school" / "law_school_clean.csv")
    return frame, frame.pass_bar == 1, ["race", "male"]


def _bank() -> tuple[pd.DataFrame, pd.Series, list[str]]:
    frame = pd.read_csv(DATA / "bank_marketing" / "bank-full.csv")
    return frame, frame.y == "yes", ["marital", "education"]


SETS: dict[str, Callable[[], tuple[pd.DataFrame, pd.Series, list[str]]]] = {
    "adult": _adult, "german_credit": _german, "law_school": _law, "bank_marketing": _bank
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_figures_are_fairlearns_on_real_data(name, weighted):
    if not (DATA / name).exists():
        pytest.skip(f"the data {name} is not beside the repository")
    import fairlearn.metrics as fl
    from sklearn import metrics as sk

    frame, came, by = SETS[name]()
    rng, truth = np.random.default_rng(7), came.to_numpy().astype(int)
    scores = np.clip(0.3 * truth + rng.normal(0.35, 0.2, len(truth)), 0, 1).round(4)
    said = (scores >= 0.5).astype(int)
    weights = rng.gamma(2, 1, len(truth)) if weighted else None
    functions = {
        "selection_rate": fl.selection_rate, "true_positive_rate": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate, "false_negative_rate": fl.false_negative_rate,
        "precision": lambda *a, **k: sk.precision_score(*a, zero_division=0, **k), "accuracy": sk.accuracy_score,
        "f1": lambda *a, **k: sk.f1_score(*a, zero_division=0, **k),
    }  # fmt: skip
    soft = {
        "roc_auc": sk.roc_auc_score,
        "brier": sk.brier_score_loss,
        "log_loss": lambda *a, **k: sk.log_loss(*a, labels=[0, 1], **k),
    }
    groups = frame[by].astype(str)
    tallied = tally(groups, outcome(truth, said, scores), by, weights=weights)
    assert tallied.bins.exact
    checked = 0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for names in ([by[0]], by):
            mine = tallied.over(*names)
            rates = rates_of(mine)
            for table, given in ((functions, said), (soft, scores)):
                params = {m: {"sample_weight": weights} for m in table} if weighted else None
                theirs = fl.MetricFrame(
                    metrics=table, y_true=truth, y_pred=given, sensitive_features=groups[names], sample_params=params
                ).by_group
                for i, group in enumerate(mine.groups):
                    if not mine.sizes[i]:
                        continue
                    row = theirs.loc[group if len(group) > 1 else group[0]]
                    for metric in table:
                        if rates[metric][i].value is not None:
                            assert rates[metric][i].value == pytest.approx(row[metric], abs=TINY), (group, metric)
                            checked += 1
    assert checked > 40


def test_numbers_and_many_classes_are_sklearns():
    from sklearn import metrics as sk

    rng = np.random.default_rng(3)
    n, group = 2000, rng.integers(0, 3, 2000)
    weights = rng.gamma(2, 1, n)
    truth, said = rng.normal(50, 10, n), rng.normal(51, 10, n)
    by = (["g"], [["a", "b", "c"]], [group])
    for w in (None, weights):
        rates = rates_of(tally_codes(*by, Outcome("regression", truth, said), weights=w))
        for g in range(3):
            rows = group == g
            own = None if w is None else w[rows]
            theirs = {
                "mae": sk.mean_absolute_error(truth[rows], said[rows], sample_weight=own),
                "rmse": sk.root_mean_squared_error(truth[rows], said[rows], sample_weight=own),
                "bias": np.average(said[rows] - truth[rows], weights=own),
            }
            for name, value in theirs.items():
                assert rates[name][g].value == pytest.approx(value, abs=1e-10)
    truth, said = rng.integers(0, 3, n), rng.integers(0, 3, n)
    for w in (None, weights):
        kept = tally_codes(*by, outcome(truth, said, classes=("x", "y", "z")), weights=w)
        rates, rest = (
            rates_of(kept),
            tally_codes(*by, outcome(truth, said, classes=("x", "y", "z")), weights=w, positive="y"),
        )
        for g in range(3):
            rows = group == g
            own = {"sample_weight": None if w is None else w[rows]}
            assert rates["precision"][g].value == pytest.approx(
                sk.precision_score(truth[rows], said[rows], average="macro", **own), abs=TINY
            )
            assert rates["accuracy"][g].value == pytest.approx(
                sk.accuracy_score(truth[rows], said[rows], **own), abs=TINY
            )
            one = sk.recall_score(truth[rows] == 1, said[rows] == 1, **own)
            assert rates_of(rest)["true_positive_rate"][g].value == pytest.approx(one, abs=TINY)


# --- areas under curves ---------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(2, 300), st.sampled_from([1, 2, 8]))
@settings(max_examples=60, deadline=None)
def test_an_area_from_scores_with_bins_of_their_own_is_exact(seed, n, digits):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, n), np.round(rng.random(n), digits)
    truth[:2] = 0, 1
    found = tally_codes([], [], [], outcome(truth, (scores > 0.5) * 1, scores))
    (area,) = histograms.auc(found.histogram)
    by_rows = intervals.delong(truth == 1, scores)
    assert area.value == pytest.approx(roc_auc_score(truth, scores), abs=TINY)
    assert (area.low, area.high) == pytest.approx((by_rows.low, by_rows.high), abs=1e-9)
    assert area.n == min(truth.sum(), n - truth.sum())


@pytest.mark.parametrize("kind", ["even", "rare", "margins", "points"])
def test_an_area_from_a_grid_is_off_by_a_millionth(kind):
    from sklearn.metrics import roc_auc_score

    rng, n = np.random.default_rng(5), 300_000
    latent = rng.normal(0, 1, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-(1.2 * latent - (6 if kind == "rare" else 0))))).astype(int)
    logit = 1.2 * latent - (6 if kind == "rare" else 0)
    scores = {"margins": logit, "points": 600 + 50 * latent}.get(kind, 1 / (1 + np.exp(-logit)))
    found = tally_codes([], [], [], outcome(truth, (scores > 0.5) * 1, scores))
    (area,) = histograms.auc(found.histogram)
    by_rows = intervals.delong(truth == 1, scores)
    close = 3e-6 if kind != "rare" else 1e-5  # 900 positives: a thousandth of the standard error
    assert not found.bins.exact and area.value == pytest.approx(roc_auc_score(truth, scores), abs=close)
    assert (area.low, area.high) == pytest.approx((by_rows.low, by_rows.high), abs=1e-5)
    assert found.probability == (kind in ("even", "rare"))


def test_thresholds_calibration_and_ece_are_those_of_the_rows():
    rng, n = np.random.default_rng(2), 90_000
    group, scores = rng.integers(0, 2, n), rng.beta(2, 4, n)
    truth = (rng.random(n) < scores**1.3).astype(int)
    found = tally_codes(["g"], [["a", "b"]], [group], outcome(truth, (scores > 0.5) * 1, scores))
    assert not found.bins.exact
    at = histograms.thresholds(found)
    for g in (0, 1):
        own, came = scores[group == g], truth[group == g]
        for i in (1, 20, 29, 57, 99):
            chosen = own >= at["threshold"][i]
            assert at["selection_rate"][g, i] == pytest.approx(chosen.mean(), abs=TINY)
            assert at["true_positive_rate"][g, i] == pytest.approx(chosen[came == 1].mean(), abs=TINY)
            assert at["false_positive_rate"][g, i] == pytest.approx(chosen[came == 0].mean(), abs=TINY)
        step = np.minimum((own * 10).astype(int), 9)
        gaps = [abs(own[step == k].sum() - came[step == k].sum()) for k in range(10)]
        assert histograms.ece(found)[g].value == pytest.approx(sum(gaps) / len(own), abs=1e-4)
        points = histograms.calibration(found)[g]
        assert sum(point["n"] for point in points) == len(own)
        order = np.argsort(own)
        first = order[: points[0]["n"]]
        assert points[0]["predicted"] == pytest.approx(own[first].mean(), abs=1e-4)
        assert points[0]["value"] == pytest.approx(came[first].mean(), abs=0.01)


# --- errors like a bootstrap's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_standard_errors_are_those_of_a_bootstrap_over_rows(weighted):
    from scipy.stats import rankdata

    rng, n, draws = np.random.default_rng(11), 1500, 1500
    chance = rng.beta(2, 3, n)
    truth = (rng.random(n) < chance).astype(int)
    scores = 1 / (1 + np.exp(-np.log(chance / (1 - chance)) - rng.normal(0, 0.5, n)))  # no two of them equal
    said = (scores > 0.45).astype(int)
    w = rng.gamma(2, 1, n) * (1 + 0.7 * truth) if weighted else np.ones(n)
    price, guess = rng.normal(100, 20, n), rng.normal(103, 25, n)
    found = tally_codes([], [], [], outcome(truth, said, scores), weights=w if weighted else None)
    errors = tally_codes([], [], [], Outcome("regression", price, guess), weights=w if weighted else None)
    rates = {name: each[0] for name, each in (rates_of(found) | rates_of(errors)).items()}
    mine = {name: (m.high - m.low) / (2 * intervals.z()) for name, m in rates.items()}
    mine["roc_auc"] = float(
        histograms.areas(found.histogram.flat, None if not weighted else found.histogram_squares.flat)[1][0]
    )

    def figures(rows):
        t, s, p, v = truth[rows], said[rows], scores[rows], w[rows]
        share = lambda hit, among: (v * (hit & among)).sum() / (v * among).sum()  # noqa: E731
        everybody = np.ones(len(t), bool)
        order = rankdata(p)
        if weighted:
            place = np.argsort(p, kind="stable")
            below = np.cumsum(v[place] * (t[place] == 0))
            area = (v[place] * (t[place] == 1) * below).sum() / ((v * (t == 1)).sum() * (v * (t == 0)).sum())
        else:
            area = (order[t == 1].sum() - t.sum() * (t.sum() + 1) / 2) / (t.sum() * (len(t) - t.sum()))
        off = guess[rows] - price[rows]
        return [
            share(s == 1, everybody), share(s == 1, t == 1), share(s == 1, t == 0), share(t == 1, s == 1), share(s == t, everybody),
            area, np.average((p - t) ** 2, weights=v), np.average(off**2, weights=v) ** 0.5, np.average(np.abs(off), weights=v), np.average(off, weights=v),
        ]  # fmt: skip

    names = [
        "selection_rate",
        "true_positive_rate",
        "false_positive_rate",
        "precision",
        "accuracy",
        "roc_auc",
        "brier",
        "rmse",
        "mae",
        "bias",
    ]
    spread = np.std([figures(rng.integers(0, n, n)) for _ in range(draws)], axis=0)
    ratios = {name: mine[name] / by_rows for name, by_rows in zip(names, spread, strict=True)}
    assert all(abs(ratio - 1) < 0.07 for ratio in ratios.values()), ratios
    np.testing.assert_allclose([rates[name].value for name in names], figures(np.arange(n)), rtol=1e-9)
    assert np.isclose(means(found, "squared")[1][0], mine["brier"])


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored() -> pd.DataFrame:
    rng, n = np.random.default_rng(0), 4000
    sex = pd.Series(rng.choice(np.array(["f", "m", None], dtype=object), n, p=[0.5, 0.4, 0.1]), dtype="str")
    frame = pd.DataFrame({"sex": sex, "age": rng.integers(18, 90, n), "p": rng.random(n), "w": rng.gamma(2, 1, n)})
    frame["score_text"] = np.select([frame.p < 0.4, frame.p < 0.7], ["Low", "Medium"], "High")
    frame["y"] = (rng.random(n) < frame.p).astype(int)
    frame["decile"] = (frame.p * 10).astype(int) + 1
    return frame


ASKED: dict[str, Any] = {"target": "y", "prediction": "score_text != 'Low'", "by": "sex"}


def test_a_condition_as_the_prediction(scored, tmp_path):
    found = tally_table(scored, **ASKED)
    assert found.classes == ("0", "1") and found.levels == (("f", "m", "unknown"),)
    for i, sex in enumerate(["f", "m"]):
        rows = scored[scored.sex == sex]
        expected = pd.crosstab(rows.y, rows.score_text != "Low").to_numpy()
        assert (found.cells.flat[i] == expected).all()
    scored.to_csv(tmp_path / "scored.csv", index=False)
    scored.to_parquet(tmp_path / "scored.parquet", row_group_size=900)
    for path in ("scored.csv", "scored.parquet"):
        same(tally_table(tmp_path / path, **ASKED), found)
    words = tally_table(scored.assign(y=np.where(scored.y == 1, "again", "never")), **ASKED, positive="again")
    assert words.classes == ("never", "again") and (words.cells.cells == found.cells.cells).all()


@given(st.integers(1, 700), st.integers(0, 5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chunks_of_a_sorted_file_say_the_same(tmp_path_factory, size, order):
    rng, n = np.random.default_rng(1), 1500
    frame = pd.DataFrame(
        {
            "g": rng.choice(["a", "b", "unknown", None], n),
            "s": rng.normal(0, 3, n).round(order),
            "age": rng.integers(0, 50, n),
        }
    )
    frame["y"] = rng.choice(["no", "yes"], n)
    frame["yhat"] = np.where(rng.random(n) < 0.7, frame.y, "no")
    frame = frame.sort_values(["y", "g", "s"][order % 3])
    path = tmp_path_factory.mktemp("chunks") / "t.parquet"
    frame.to_parquet(path, row_group_size=400)
    asked: dict[str, Any] = {"target": "y", "prediction": "yhat", "by": "g,age", "score": "s", "bins": 3}
    found, whole = tally_table(path, chunk=size, **asked), tally_table(frame, **asked)
    same(found, whole)
    assert whole.levels[0] == ("a", "b", "unknown", "unknown (missing)") and not whole.probability


def test_a_score_with_words_and_numbers_is_what_it_looks_like(scored):
    deciles = tally_table(scored, target="y", prediction="decile > 5", by="sex", score="decile")
    assert not deciles.probability and deciles.bins.exact and len(deciles.bins) == 10
    assert tally_table(scored, target="age", prediction="age + 1", by="sex").task == "regression"
    many = tally_table(scored, target="score_text", prediction="score_text", by="sex", weights="w")
    assert many.task == "multiclass" and many.classes == ("High", "Low", "Medium") and many.weighted
    one = tally_table(scored, target="score_text", prediction="p > 0.7", by="sex", positive="High")
    assert one.classes == ("the rest", "High") and rates_of(one)["accuracy"][0].value > 0.99


BAD: dict[str, tuple[dict[str, Any], Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "a typing error": ({"prediction": "score_txt != 'Low'"}, lambda f: f, "did you mean 'score_text'"),
    "text without quotes": ({"prediction": "score_text != Low"}, lambda f: f, "there is no column 'Low'"),
    "text against numbers": ({"where": "age > '30'"}, lambda f: f, "compares numbers with text"),
    "no condition": ({"where": "age"}, lambda f: f, "is no condition"),
    "code": ({"where": "__import__('os').system('true')"}, lambda f: f, "cannot be read"),
    "an attribute": ({"where": "age.__class__ == 1"}, lambda f: f, "there is no column 'age.__class__'"),
    "a lambda": ({"prediction": "lambda: 1"}, lambda f: f, "cannot be read"),
    "endless arithmetic": ({"where": "age" + "+1" * 1500 + "> 3"}, lambda f: f, "calculates more than"),
    "endless brackets": ({"where": "(" * 900 + "age > 3" + ")" * 900}, lambda f: f, "nested too deeply"),
    "half a condition": ({"where": "age > 3 and"}, lambda f: f, "at its end"),
    "nobody": ({"where": "age > 200"}, lambda f: f, "no row fits"),
    "a missing truth": ({}, lambda f: f.assign(y=f.y.where(f.index > 2)), "missing in 3 of 4,000 rows"),
    "a missing prediction": (
        {"prediction": "p > 0.5"},
        lambda f: f.assign(p=f.p.where(f.index > 4)),
        "missing in 5 of 4,000 rows",
    ),
    "a score as the prediction": ({"prediction": "p"}, lambda f: f, "if it is a score"),
    "an identifier": ({"by": "id"}, lambda f: f.assign(id=np.arange(len(f)).astype(str)), "4,000 distinct values"),
    "ages": ({"by": "age"}, lambda f: f, "--bins"),
    "another label": ({"positive": "yes"}, lambda f: f, "no label is 'yes'"),
    "three labels": ({"prediction": "decile", "task": "binary"}, lambda f: f, "where two were expected"),
    "negative weights": ({"weights": "age - 50"}, lambda f: f, "missing, negative or infinite"),
    "weights in words": ({"weights": "score_text"}, lambda f: f, "holds text"),
    "the target as a group": ({"by": "sex,y"}, lambda f: f, "is the target"),
    "no rows": ({}, lambda f: f.head(0), "no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_and_questions_are_two_lines(case, scored):
    asked, change, said = BAD[case]
    with pytest.raises(UserError) as error:
        tally_table(change(scored), **ASKED | asked)
    assert said in f"{error.value.what} {error.value.todo}" and "\n" not in error.value.what + error.value.todo


def test_a_million_distinct_values_are_refused_and_not_hashed(scored):
    column = pd.Series(np.arange(1_000_000)).astype("str")
    for values in (column, column.astype(object), pd.Series(np.random.default_rng(0).random(1_000_000))):
        with pytest.raises(UserError, match=r"more than \d\d,\d\d\d distinct"):
            levels_of(values, "id")


def test_what_is_missing_or_alone_or_constant_is_listed(scored):
    assert (
        tally_table(scored, **ASKED).sizes.tolist() == scored.sex.fillna("u").value_counts()[["f", "m", "u"]].tolist()
    )
    alone = tally_table(scored.assign(sex="f"), **ASKED)
    assert alone.levels == (("f",),) and alone.rows == len(scored)
    never = rates_of(tally_table(scored, **ASKED | {"prediction": "age > 200"}))
    assert {m.value for m in never["selection_rate"]} == {0.0} and never["precision"][0].undefined == "no selected"
    nobody = rates_of(tally_table(scored.assign(y=0), **ASKED, score="p"))
    assert nobody["true_positive_rate"][0].undefined and nobody["roc_auc"][0].undefined == "no row is positive"
    nothing = tally_table(scored.assign(sex=pd.Series([None] * len(scored), dtype="str")), **ASKED)
    assert nothing.levels == (("unknown",),)
    broken = tally_table(scored.assign(p=scored.p.where(scored.index > 6)), **ASKED, score="p")
    assert broken.histogram is None and broken.unscored == "7 scores are missing" and "roc_auc" not in rates_of(broken)
    assert broken.rows == len(scored)


def test_a_group_that_shows_up_late_keeps_its_row(tmp_path):
    frame = pd.DataFrame({"g": ["a"] * 500 + ["z"] * 3 + [None], "y": [0, 1] * 252, "yhat": [1] * 504})
    frame.to_parquet(tmp_path / "late.parquet", row_group_size=100)
    found = tally_table(tmp_path / "late.parquet", target="y", prediction="yhat", by="g", chunk=100)
    assert dict(zip(found.levels[0], found.sizes.tolist(), strict=True)) == {"a": 500, "z": 3, "unknown": 1}
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "late.parquet").read_bytes()[:-40])
    for name, said in (("cut.parquet", "damaged"), ("none.parquet", "no file")):
        with pytest.raises(UserError, match=said):
            tally_table(tmp_path / name, target="y", prediction="yhat", by="g")


def test_map_and_reduce_on_the_cluster(ray_address, scored, ws, monkeypatch):
    from aiplat.core.cluster import connect

    monkeypatch.setenv("AIPLAT_RAY", ray_address)
    path = Path.cwd() / "scored.parquet"
    scored.sort_values("y").to_parquet(path, row_group_size=500)
    with connect(ws) as pool:
        found = tally_on(pool, path, **ASKED, score="p", weights="w")
        same(found, tally_table(path, **ASKED, score="p", weights="w"))
        with pytest.raises(UserError, match="no row fits"):
            tally_on(pool, path, **ASKED, where="age > 200")
        with pytest.raises(UserError, match="distinct numbers"):
            tally_on(pool, path, **ASKED | {"by": "age"})


# --- expressions ----------------------------------------------------------------------------------------------------

TEXTS = [
    "a == 1",
    "a > b",
    "t != 'x'",
    "t in ('x', 'y')",
    "a between 1 and 3",
    "b is null",
    "t like 'x%'",
    "a + b * 2 >= 3",
    "c",
]


@st.composite
def conditions(draw, depth=0):
    if depth > 2 or draw(st.booleans()):
        return draw(st.sampled_from(TEXTS))
    kind = draw(st.sampled_from(["and", "or", "not"]))
    if kind == "not":
        return f"not ({draw(conditions(depth + 1))})"
    return f"({draw(conditions(depth + 1))}) {kind} ({draw(conditions(depth + 1))})"


@given(conditions(), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_conditions_mean_what_a_database_says(text, seed):
    import duckdb

    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.integers(0, 5, 40), "b": rng.normal(1, 2, 40), "c": rng.random(40) < 0.5})
    frame["t"] = pd.Series(rng.choice(np.array(["x", "y", "xz", None], dtype=object), 40), dtype="str")
    frame["b"] = frame.b.where(rng.random(40) < 0.8)
    people = frame.assign(t=frame.t.astype(object).where(frame.t.notna(), None))
    assert len(people) == len(frame)
    ((theirs,),) = duckdb.sql(
        f"select list(coalesce({text}, false) order by i) from (select *, row_number() over () i from people)"
    ).fetchall()
    assert rows_or_none(frame, text) == theirs


def rows_or_none(frame: pd.DataFrame, text: str) -> list[bool]:
    try:
        return rows_where(frame, text).tolist()
    except UserError as error:
        assert "no row fits" in error.what
        return [False] * len(frame)


@given(st.text(alphabet="abct01 .'\"`()[]<>=!&|~+-*/%,;\\_\n", max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_reader(text):
    try:
        found = expression(text, ["a", "b", "t"])
    except UserError as error:
        assert error.what and error.todo
    else:
        assert set(found.columns) <= {"a", "b", "t"}


@given(
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "ab", "b", "", " ", "é", "日本"])), min_size=1, max_size=50),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_text_is_encoded_the_same_way_however_it_is_kept(values, long):
    pytest.importorskip("pyarrow")
    values = values * (70_000 // len(values) + 1) if long else values
    kinds = [pd.Series(values, dtype=kind) for kind in ("str", object)] + [
        pd.Series(values, dtype="str").astype("category")
    ]
    for column in kinds:
        names, codes = factor(column)
        assert [names[code] if code < len(names) else None for code in codes[:60]] == values[:60]
        assert np.bincount(codes, minlength=len(names) + 1).tolist() == [values.count(name) for name in [*names, None]]
    levels = [levels_of(column, "g") for column in kinds]
    assert all(set(found[0]) == set(levels[0][0]) for found in levels)


@given(
    st.sampled_from([0, -1e6, 20250101, 1.7e12, 0.1]),
    st.sampled_from([1.0, 0.5, 1000.0, 0.001]),
    st.lists(st.integers(0, 400), min_size=13, max_size=60, unique=True),
    st.integers(2, 6),
)
@settings(max_examples=60, deadline=None)
def test_no_two_bins_have_one_name(start, step, numbers, bins):
    levels, codes = levels_of(pd.Series(start + step * np.array(numbers)), "x", bins)
    assert len(set(levels)) == len(levels) == codes.max() + 1
    begins = [float(name.split(" to ")[0]) for name in levels]
    assert begins == sorted(set(begins))


def test_categories_that_no_row_has_are_no_labels(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.choice(["low", "high"], 90) for name in ("y", "p")} | {"g": ["a", "b", "c"] * 30})
    listed = frame.astype({name: pd.CategoricalDtype(["low", "medium", "high"]) for name in ("y", "p")})
    listed.to_parquet(tmp_path / "t.parquet")
    asked = {"target": "y", "prediction": "p", "by": "g"}
    plain = tally_table(frame, **asked)
    for table in (listed, tmp_path / "t.parquet"):
        for chunk in (90, 7):
            same(tally_table(table, **asked, chunk=chunk), plain)
