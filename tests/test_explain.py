"""Explanations: they add up for every model, they agree with shap and with brute force, and reasons are confirmed."""

from __future__ import annotations

import json
import math
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core import evidence
from aiplat.core.errors import UserError
from aiplat.core.show import jsonable
from aiplat.data.sample import credit
from aiplat.trust.explaining import explainers, shapley
from aiplat.trust.explaining.explain import Subject, explain, explained
from aiplat.trust.explaining.explainers import Inexact, exact_values
from aiplat.trust.explaining.explanations import explanation_section
from aiplat.trust.explaining.origins import Mixed, origins
from aiplat.trust.explaining.reasons import reasons_for, usual_values
from aiplat.trust.explaining.trees import Tree, histogram_trees, plain_tree, tree_values
from tests.models import governed

ROWS, TRAIN = 1400, 1000
SMALL = {"n_estimators": 12, "max_iter": 12, "min_samples_leaf": 8}


@cache
def table(task: str) -> tuple[pd.DataFrame, Any]:
    """Applications with gaps, texts, a date and a truth value, and what is to be predicted."""
    frame = pd.DataFrame(credit(rows=ROWS, seed=3))
    rng = np.random.default_rng(0)
    frame["since"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, ROWS), unit="D")
    frame.loc[::9, "since"] = pd.NaT
    frame["known"] = rng.random(ROWS) < 0.4
    frame.loc[::11, "employment"] = None
    approved = frame.pop("approved").to_numpy()
    if task == "binary":
        return frame, np.where(approved == 1, "yes", "no")
    amount = frame.pop("amount")
    return frame, (
        pd.qcut(amount, 3, labels=["low", "mid", "top"]).astype(str).to_numpy()
        if task == "multiclass"
        else amount.to_numpy()
    )


@cache
def candidate(name: str, task: str) -> Any:
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.spaces import candidates

    frame, y = table(task)
    params = {**candidates(task)[name].first}
    params |= {key: value for key, value in SMALL.items() if key in params}
    model = build(name, usable_columns(frame), params, task=task)
    if name == "random_forest":
        model.set_params(model__n_estimators=8)
    return model.fit(frame[:TRAIN], y[:TRAIN])


def names() -> list[tuple[str, str]]:
    from aiplat.training.spaces import candidates

    return [(name, task) for task in ("binary", "multiclass", "regression") for name in candidates(task)]


# Adding up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "task"), names())
def test_every_candidate_adds_up(name: str, task: str) -> None:
    frame, _ = table(task)
    model, X = candidate(name, task), frame[TRAIN:].reset_index(drop=True)
    X.loc[:3, "income"] = np.nan
    X.loc[:3, "purpose"] = "never seen"
    for place in range(len(getattr(model, "classes_", [0]))):
        found = exact_values(model, X, place=place, background=frame[:TRAIN])
        assert found.columns == tuple(frame.columns) and found.error <= found.tolerance
        sums = found.base + found.values.sum(axis=1)
        if task == "regression":
            assert found.scale == "units of the target" and np.allclose(sums, model.predict(X), rtol=1e-5, atol=1e-4)
        elif name == "random_forest":
            assert found.scale == "probability" and np.allclose(sums, model.predict_proba(X)[:, place], atol=1e-9)
        elif task == "binary":
            assert found.scale == "log-odds"
            assert np.allclose(1 / (1 + np.exp(-sums)), model.predict_proba(X)[:, place], atol=1e-5)
        else:
            assert found.scale == "margin"
    if task == "multiclass" and name != "random_forest":  # margins of all classes make the probabilities
        each = [exact_values(model, X, place=k, background=frame[:TRAIN]) for k in range(3)]
        power = np.exp(np.column_stack([one.base + one.values.sum(axis=1) for one in each]))
        assert np.allclose(power / power.sum(axis=1, keepdims=True), model.predict_proba(X), atol=1e-4)


def test_two_classes_mirror_each_other() -> None:
    frame, _ = table("binary")
    for name in ("linear", "lightgbm", "xgboost", "hist_gradient_boosting"):
        yes, no = (
            exact_values(candidate(name, "binary"), frame[TRAIN:], place=p, background=frame[:TRAIN]) for p in (1, 0)
        )
        assert np.allclose(yes.values, -no.values, atol=1e-6) and abs(yes.base + no.base) < 1e-6


def _plain(missing: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(500, 5)).round(1)
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    return X, (
        np.nan_to_num(X[:, 0]) * np.nan_to_num(X[:, 1]) + np.isnan(X[:, 2]) + rng.normal(size=500) / 4 > 0.2
    ).astype(int)


@pytest.mark.parametrize(
    "name",
    ["DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier", "RandomForestRegressor",
     "DecisionTreeRegressor", "GradientBoostingClassifier", "GradientBoostingRegressor", "HistGradientBoostingRegressor"],
)  # fmt: skip
def test_trees_agree_with_shap(name: str) -> None:
    import shap
    import sklearn.ensemble
    import sklearn.tree

    kind = getattr(sklearn.ensemble, name, None) or getattr(sklearn.tree, name)
    X, y = _plain(missing=False)
    model = kind(random_state=0)
    model.set_params(**{key: 10 for key in ("n_estimators", "max_iter") if key in model.get_params()}).fit(X, y)
    frame = pd.DataFrame(X[:60], columns=list("abcde"))
    found = exact_values(model, frame, place=1 if hasattr(model, "classes_") else 0, background=frame)
    theirs = shap.TreeExplainer(model).shap_values(X[:60], check_additivity=False)
    theirs = theirs[..., 1] if theirs.ndim == 3 else theirs
    assert np.allclose(found.values, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_native_treeshap_agrees_with_shap(name: str) -> None:
    import shap

    frame, _ = table("binary")
    model = candidate(name, "binary")
    Z = model[:-1].transform(frame[TRAIN:])
    theirs = shap.TreeExplainer(model[-1].estimator_).shap_values(Z, check_additivity=False)
    owners = origins([model[0]], list(frame.columns), Z.shape[1])
    summed = theirs @ (np.array(owners)[:, None] == np.array(frame.columns)).astype(float)
    found = exact_values(model, frame[TRAIN:], place=1, background=frame[:TRAIN])
    assert np.allclose(found.values, summed, atol=1e-5)


def test_closed_form_agrees_with_shap() -> None:
    import shap
    from sklearn.linear_model import LogisticRegression

    X, y = _plain(missing=False)
    model = LogisticRegression().fit(X, y)
    frame = pd.DataFrame(X, columns=list("abcde"))
    theirs = shap.LinearExplainer(model, shap.maskers.Independent(X[:300], max_samples=300)).shap_values(X[300:])
    found = exact_values(model.fit(frame, y), frame[300:], place=1, background=frame[:300])
    assert np.allclose(found.values, theirs, atol=1e-10)


def _expected(tree: Tree, goes: np.ndarray, inner: dict[int, int], known: set[int], node: int = 0) -> float:
    """What a tree says of a row when only some columns are known: algorithm 1 of Lundberg et al. (2020)."""
    if tree.left[node] < 0:
        return float(tree.value[node])
    left, right = int(tree.left[node]), int(tree.right[node])
    if int(tree.feature[node]) in known:
        return _expected(tree, goes, inner, known, left if goes[inner[node]] else right)
    share = tree.cover[left] / tree.cover[node]
    return share * _expected(tree, goes, inner, known, left) + (1 - share) * _expected(tree, goes, inner, known, right)


def _brute(tree: Tree, row: np.ndarray) -> np.ndarray:
    nodes = np.flatnonzero(tree.left >= 0)
    goes = tree.goes_left(row[None, :], nodes)[:, 0]
    inner = {int(node): i for i, node in enumerate(nodes)}
    worth = [_expected(tree, goes, inner, {j for j in range(len(row)) if s >> j & 1}) for s in range(2 ** len(row))]
    return shapley.shapley_values(np.array(worth))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 40))
def test_any_tree_agrees_with_brute_force(seed: int, width: int, leaves: int) -> None:
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(seed)
    X = rng.integers(0, 6, (80, width)).astype(float)
    X[rng.random(X.shape) < 0.1] = np.nan
    weights = rng.integers(0, 3, 80) + (np.arange(80) < 3)
    model = DecisionTreeRegressor(max_leaf_nodes=leaves, random_state=seed).fit(
        X, rng.normal(size=80), sample_weight=weights
    )
    tree = plain_tree(model.tree_, 0)
    for rows in (X[:3], np.repeat(X, 20, axis=0)[:60]):  # few rows and many go different ways inside
        values, base = tree_values([tree], rows)
        assert np.allclose(base + values.sum(axis=1), model.predict(rows), atol=1e-9)
        assert np.allclose(values[:3], [_brute(tree, row) for row in rows[:3]], atol=1e-9)


def test_categorical_splits_agree_with_brute_force() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(2)
    X = np.column_stack([rng.normal(size=600), rng.integers(0, 12, 600), rng.integers(0, 5, 600)]).astype(float)
    X[rng.random(X.shape) < 0.1] = np.nan
    y = (np.isin(X[:, 1], [1, 4, 7, 11]) ^ (X[:, 2] > 2) ^ (X[:, 0] > 1)).astype(int)
    model = HistGradientBoostingClassifier(
        categorical_features=[1], max_iter=4, min_samples_leaf=5, random_state=0
    ).fit(X, y)
    inside = model._preprocess_X(X[:12], reset=False)
    trees = histogram_trees(model, 0)
    assert any(tree.levels for tree in trees)
    values, _ = tree_values(trees, inside)
    assert np.allclose(values, [sum(_brute(tree, row) for tree in trees) for row in inside], atol=1e-9)
    frame = pd.DataFrame(X[:200], columns=["a", "b", "c"])
    found = exact_values(model, frame, place=1, background=frame)
    assert np.allclose(found.values[:12], values[:, [1, 0, 2]]), "columns are not those that the trees count"


def test_what_does_not_add_up_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, _ = table("binary")
    true = explainers.tree_values
    monkeypatch.setattr(explainers, "tree_values", lambda trees, X: (true(trees, X)[0] * 1.001, true(trees, X)[1]))
    with pytest.raises(Inexact, match="miss the prediction"):
        exact_values(candidate("random_forest", "binary"), frame[TRAIN:], place=1, background=frame[:TRAIN])


def test_a_logarithm_is_said_to_be_one() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    X, _ = _plain()
    y = np.exp(np.nan_to_num(X[:, 0]))
    model = HistGradientBoostingRegressor(loss="poisson", max_iter=10).fit(X, y)
    frame = pd.DataFrame(X[:50], columns=list("abcde"))
    found = exact_values(model, frame, background=frame)
    assert found.scale == "logarithm of the target"
    assert np.allclose(np.exp(found.base + found.values.sum(axis=1)), model.predict(X[:50]))


# From outside -------------------------------------------------------------------------------------------------------


def test_enumeration_agrees_with_all_orders() -> None:
    background = pd.DataFrame({"a": [0.0, 1.0, np.nan], "b": ["x", "y", "x"], "c": [True, False, True], "d": [1, 2, 3]})
    row = pd.DataFrame({"a": [5.0], "b": ["z"], "c": [False], "d": [7]})

    def score(X: pd.DataFrame) -> np.ndarray:
        a = X["a"].fillna(-1).to_numpy()
        b, d = X["b"].to_numpy(), X["d"].to_numpy()
        return a * (b == "x") + 2.0 * (b == "z") * d + a * X["c"].to_numpy() * d**2

    def worth(known: tuple[str, ...]) -> float:
        return float(np.mean(score(background.assign(**{name: row[name].iloc[0] for name in known}))))

    orders = list(permutations("abcd"))
    brute = [np.mean([worth(o[: o.index(n) + 1]) - worth(o[: o.index(n)]) for o in orders]) for n in "abcd"]
    found = shapley.explain_row(score, row, background)
    assert found.exact and np.allclose(found.values, brute)
    assert math.isclose(found.base + found.values.sum(), found.said) and math.isclose(found.said, score(row)[0])


def test_many_columns_are_sampled_and_still_add_up() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 16)), columns=[f"c{i}" for i in range(16)])
    weights = np.arange(16.0)
    found = shapley.explain_row(lambda frame: frame.to_numpy() @ weights, X.iloc[[0]], X)
    truth = weights * (X.iloc[0] - X.mean()).to_numpy()
    assert not found.exact and math.isclose(found.base + found.values.sum(), found.said)
    assert np.all(np.abs(found.values - truth) <= 5 * found.errors + 1e-9) and found.errors[1:].min() > 0


# Origins ------------------------------------------------------------------------------------------------------------


def test_encoded_columns_find_their_way_home() -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_selection import SelectKBest
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.choice(["y", "y_z", "q", "rare"], 400, p=[0.4, 0.3, 0.29, 0.01]), "x_y": rng.choice(["z", "w"], 400)}
    )
    frame["n"], frame["m"], frame["left"] = (
        rng.normal(size=400),
        np.where(rng.random(400) < 0.3, np.nan, 1.0),
        rng.normal(size=400),
    )
    spread = ColumnTransformer(
        [
            ("one", OneHotEncoder(drop="first", min_frequency=20), ["x", "x_y"]),
            ("gaps", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), slice(2, 4)),
            ("ranks", OrdinalEncoder(), np.array([True, False, False, False, False])),
        ],
        remainder="passthrough",
    )
    chosen = SelectKBest(k=6).fit(spread.fit_transform(frame), rng.integers(0, 2, 400))
    steps = [spread, chosen]
    Z = chosen.transform(spread.transform(frame))
    owners = origins(steps, list(frame.columns), Z.shape[1])
    every = origins([spread], list(frame.columns), spread.transform(frame).shape[1])
    assert set(every) == set(frame.columns)
    for name in frame.columns:  # the experiment: change one column, and only its own encoded columns change
        other = frame.assign(**{name: frame[name].to_numpy()[::-1]})
        changed = (spread.transform(other) != spread.transform(frame)).any(axis=0)
        assert {owner for owner, c in zip(every, changed, strict=True) if c} == {name}
    assert owners == [owner for owner, kept in zip(every, chosen.get_support(), strict=True) if kept]


def test_mixing_steps_are_refused() -> None:
    from sklearn.decomposition import PCA
    from sklearn.impute import KNNImputer
    from sklearn.preprocessing import FunctionTransformer, Normalizer, PolynomialFeatures

    X = np.random.default_rng(0).normal(size=(30, 3))
    for step in (PCA(2), KNNImputer(), Normalizer(), PolynomialFeatures(), FunctionTransformer(np.flip)):
        with pytest.raises(Mixed):
            origins([step.fit(X)], ["a", "b", "c"], step.transform(X).shape[1])


# The whole ----------------------------------------------------------------------------------------------------------


def subject(name: str = "linear", task: str = "binary", **change: Any) -> Subject:
    frame, y = table(task)
    rest = frame[TRAIN:].reset_index(drop=True)
    given: dict[str, Any] = {
        "model": candidate(name, task), "frame": rest.assign(target=y[TRAIN:]), "X": rest, "background": frame[:TRAIN],
        "told": "training rows", "task": task, "target": "target", "positive": {"binary": "yes", "multiclass": "mid"}.get(task, ""),
    }  # fmt: skip
    return Subject(**{**given, **change})


def test_groups_take_the_gap_apart() -> None:
    shown = explained(subject("hist_gradient_boosting"), by=["sex", "region"])
    groupings = {one.by for one in shown.groups}
    assert groupings == {"sex", "region", "sex & region"}
    for by in groupings:
        leans = [one for one in shown.groups if one.by == by]
        (reference,) = (one for one in leans if one.group == one.reference)
        assert reference.n == max(one.n for one in leans) and not reference.gap
        for one in leans:
            if one.gap:
                whole = sum(m.value or 0 for m in one.gap.values())
                assert math.isclose(whole, one.margin - reference.margin, abs_tol=1e-9)
    sums = shown.contributions().sum(axis=1) + shown.base
    women = (subject().frame["sex"] == "female").to_numpy()[shown.contributions().index]
    mean = next(one.margin for one in shown.groups if one.by == "sex" and one.group == "female")
    assert math.isclose(mean, sums[women].mean(), rel_tol=1e-9)


def test_small_groups_are_listed_and_not_compared() -> None:
    given = subject()
    given.frame["sex"] = np.where(np.arange(len(given.frame)) < 5, "other", given.frame["sex"])
    shown = explained(given, by=["sex"])
    assert "other" not in {one.group for one in shown.groups} and any("other" in note for note in shown.notes)


@pytest.mark.parametrize("name", ["linear", "lightgbm", "random_forest"])
def test_reasons_are_confirmed(name: str) -> None:
    given = subject(name)
    shown = explained(given, fixed=["age", "sex"], reasons=3)
    usual = usual_values(given.background)
    denied = given.model.predict(given.X.iloc[shown.contributions().index]) != "yes"
    assert len(shown.cases) == denied.sum() == shown.reasons.cases
    for case in shown.cases[::7]:
        assert len(case.reasons) <= 3 and not {"age", "sex"} & {reason.column for reason in case.reasons}
        row = given.X.iloc[[case.row]]
        before = given.model.predict_proba(row)[0, 1]
        for reason in case.reasons:
            other = row.copy()
            other[reason.column] = pd.Series([usual[reason.column].value], index=row.index)
            after = given.model.predict_proba(other)[0, 1]
            assert after > before and math.isclose(after, reason.after) and math.isclose(before, reason.before)
            assert reason.turns == (given.model.predict(other)[0] == "yes") and reason.contribution < 0
            if reason.kind in ("high", "low"):
                assert (row[reason.column].iloc[0] > usual[reason.column].value) == (reason.kind == "high")


def test_wrong_contributions_make_no_false_reasons() -> None:
    given = subject("linear")
    score, _ = shapley.score_of(given.model, 1)
    rows = np.flatnonzero(given.model.predict(given.X) == "no")[:40]
    lies = np.random.default_rng(0).normal(size=(len(rows), given.X.shape[1]))
    told = reasons_for(given.model, score, given.X.iloc[rows], rows.tolist(), lies, usual_values(given.background))
    assert all(reason.after > reason.before for case in told for reason in case.reasons)
    assert any(case.unconfirmed for case in told)


def test_constant_models() -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.tree import DecisionTreeClassifier

    frame, y = table("binary")
    dummy = DummyClassifier().fit(frame[:TRAIN], y[:TRAIN])
    shown = explained(subject(model=dummy), by=["sex"], row=1, rows=60)
    assert not shown.exact and "No column changes the answer" in str(shown)
    numbers = frame[["age", "credit_history"]]
    for target, label in ((np.array(["yes"] * TRAIN), "yes"), (y[:TRAIN], "yes")):
        stump = DecisionTreeClassifier(max_depth=1, min_samples_leaf=TRAIN // 2 + 1).fit(numbers[:TRAIN], target)
        rest = numbers[TRAIN:].reset_index(drop=True)
        flat = explained(subject(model=stump, X=rest, background=numbers[:TRAIN], positive=label))
        assert flat.exact and flat.error == 0 and "No column changes the answer" in str(flat)


def test_one_feature() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    frame, y = table("binary")
    one = frame[["late_payments"]]
    for model in (LogisticRegression(), KNeighborsClassifier(15)):
        given = subject(
            model=model.fit(one[:TRAIN], y[:TRAIN]), X=one[TRAIN:].reset_index(drop=True), background=one[:TRAIN]
        )
        shown = explained(given, by=["sex"], row=2, rows=80)
        assert [feature.share for feature in shown.features] == [1.0] and shown.row is not None
        assert math.isclose(shown.row.base + shown.row.parts[0][2], shown.row.margin)


@pytest.mark.parametrize(("name", "task"), [("lightgbm", "multiclass"), ("xgboost", "regression")])
def test_other_tasks(name: str, task: str) -> None:
    shown = explained(subject(name, task), by=["sex"], row=0)
    assert shown.exact and shown.row is not None and bool(shown.cases) == (task == "multiclass")
    assert str(shown) and shown._repr_html_() and json.loads(shown.to_json())


def test_thresholds_by_group_explain_the_score() -> None:
    from aiplat.training.thresholds import GroupThresholds

    frame, y = table("binary")
    features = [name for name in frame.columns if name != "sex"]
    base = candidate("lightgbm", "binary")
    from sklearn.base import clone

    inner = clone(base)
    inner[0].set_params(
        numbers=[n for n in inner[0].numbers if n != "sex"], texts=[n for n in inner[0].texts if n != "sex"]
    )
    inner[-1].set_params(fit_arguments=None)
    model = GroupThresholds(inner, by=["sex"], features=features, positive="yes").fit(frame[:TRAIN], y[:TRAIN])
    given = subject(model=model, sensitive=("sex",))
    shown = explained(given, row=4)
    assert shown.exact and any("thresholds of their own by sex" in note for note in shown.notes)
    assert "sex" not in {feature.column for feature in shown.features} and shown.fixed == ["sex"]
    assert len(shown.cases) == (np.asarray(model.predict(given.X)) == "no").sum()
    assert all(reason.column != "sex" for case in shown.cases for reason in case.reasons)


def test_a_threshold_is_opened() -> None:
    from aiplat.training.mixtures import AtThreshold

    frame, y = table("binary")
    model = AtThreshold(candidate("lightgbm", "binary"), positive="yes", threshold=0.7).fit(frame[:TRAIN], y[:TRAIN])
    given = subject(model=model)
    shown = explained(given)
    assert shown.exact and any("0.7" in note for note in shown.notes)
    assert len(shown.cases) == (model.predict(given.X) == "no").sum()


def test_mixtures_are_asked_from_outside() -> None:
    from sklearn.linear_model import LogisticRegression

    from aiplat.training.mixtures import RandomizedClassifier

    frame, y = table("binary")
    features = ["age", "late_payments", "credit_history"]
    model = RandomizedClassifier(
        LogisticRegression(max_iter=200), by=["sex"], features=features, positive="yes", iterations=4
    )
    model.fit(frame[:TRAIN], y[:TRAIN])
    rest = frame[TRAIN:].reset_index(drop=True)
    shown = explained(subject(model=model, X=rest[features], background=frame[:TRAIN][features]), row=1, rows=50)
    if len(model.estimators_) > 1:
        assert not shown.exact and any("mixture" in note for note in shown.notes)
    assert shown.row is not None and "exact over all 8" in shown.row.method and shown.cases
    assert all(reason.after > reason.before for case in shown.cases for reason in case.reasons)


HOSTILE = ["<script>alert(1)</script>", 'a"b', "a_b", "a", "with, comma", "line\nbreak", "=1+1", "ü 漢"]


def test_hostile_column_names() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.choice(["b", "<i>c</i>", "\x1b[31m"], 300) for name in HOSTILE})
    y = np.where((frame["a"] == "b") ^ (rng.random(300) < 0.1), "<b>yes</b>", "no")
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(frame, y)
    given = Subject(model, frame, frame, frame, "training rows", "binary", "<t>", "<b>yes</b>")
    shown = explained(given, by=["<script>alert(1)</script>"], row=3)
    assert shown.features[0].column == "a" and shown.exact
    page = shown._repr_html_() + shown.html_page("x")
    assert not [tag for tag in ("<script", "<i>c", "<b>yes", "<t>") if tag in page]
    assert "\x1b" not in str(shown) and shown.to_markdown()
    for block in explanation_section(json.loads(json.dumps(jsonable(shown.measured())))):
        assert "<script" not in getattr(block, "svg", "") and "\x1b" not in getattr(block, "svg", "")


# The verb -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.models import trained

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("explain")
        patch.chdir(folder)
        ws = governed(folder)
        trained(ws)
        return ws


@pytest.fixture
def run(place: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(place.root)
    return place


def test_the_verb_leaves_evidence(run: Any) -> None:
    shown = explain("last", by=["sex"], fixed=["age"], row=7)
    left = evidence.find(run, "explanation")[0]
    assert shown.evidence == left.seq and left.subject == f"run:{shown.run}"
    assert left.data_digest == shown.data_digest and len(left.model_digest) == 64
    m = left.measured
    assert m["exact"] and m["additivity"]["error"] <= m["additivity"]["tolerance"] and m["row"] == 7
    assert m["features"][0]["column"] == shown.features[0].column and m["fixed"] == ["sex", "age"]
    assert "parts" not in json.dumps(m) and "cases" in m["reasons"] and not isinstance(m["reasons"]["cases"], list)
    assert any("sex" in getattr(block, "text", "") for block in explanation_section(m))
    assert explain("last", reasons=0).cases == []


def test_the_verb_takes_rows_without_a_target(run: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame(credit(rows=50, seed=9)).drop(columns="approved")
    frame.loc[0, "income"] = np.nan
    frame.to_csv(tmp_path / "new.csv", index=False)
    shown = explain("last", data=str(tmp_path / "new.csv"), row=49, rows=10)
    assert shown.rows in (10, 11) and shown.of_rows == 50 and shown.row is not None and shown.row.row == 49


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"row": 100_000}, "there is no row 100,000"), ({"row": -1}, "there is no row -1"), ({"rows": 1}, "--rows 1"),
        ({"reasons": 21}, "--reasons 21"), ({"fixed": ["agee"]}, "'agee'"), ({"positive": "maybe"}, "'maybe'"),
        ({"by": ["approved"]}, "'approved' is what the model predicts"), ({"by": ["sexx"]}, "no column 'sexx'"),
        ({"by": ["income"]}, "distinct numbers"), ({"bins": 1, "by": ["age"]}, "--bins 1"),
    ],
)  # fmt: skip
def test_mistakes(run: Any, options: dict[str, Any], said: str) -> None:
    before = len(evidence.find(run, "explanation"))
    with pytest.raises(UserError, match=said) as problem:
        explain("last", **options)
    assert problem.value.todo and len(evidence.find(run, "explanation")) == before
