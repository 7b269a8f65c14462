"""Training: problems and candidates on odd tables, the schedule, searches on workers, models of one's own, mitigation."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core.errors import UserError
from aiplat.core.models import freeze, thaw
from aiplat.data.sample import credit
from aiplat.training.candidates import TableEncoder, build
from aiplat.training.columns import usable_columns
from aiplat.training.problem import classes_of, fold_numbers, hold_out, infer_task, pose, target_values
from aiplat.training.spaces import Candidate, candidates, dimension, read_space
from aiplat.training.trials import Rows, Schedule
from tests import warm

HOSTILE = [
    "[",
    "<script>alert(1)</script>",
    "a b",
    "größe Ω",
    '"quoted"',
    "{json: 1}",
    "comma, name",
    "'; DROP TABLE",
    "\N{PILE OF POO}",
    "x\ny",
]


def odd_table(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """Every kind of column, gaps in each, under names that libraries dislike."""
    rng = np.random.default_rng(seed)
    gaps = lambda values: pd.Series(values).where(rng.random(rows) > 0.1)  # noqa: E731
    signal_ = rng.normal(size=rows)
    columns = {
        HOSTILE[0]: gaps(signal_),
        HOSTILE[1]: gaps(rng.choice(["<b>", "b & c", "ü", ""], rows)),
        HOSTILE[2]: gaps(rng.integers(0, 2, rows).astype(bool)).astype(object),
        HOSTILE[3]: pd.Series(rng.integers(0, 9, rows), dtype="Int64").where(rng.random(rows) > 0.1),
        HOSTILE[4]: pd.Series(pd.Categorical(rng.choice(["u", "v"], rows), categories=["v", "u", "never"])),
        HOSTILE[5]: pd.Series(pd.date_range("2024-01-01", periods=rows, freq="7h", tz="Europe/Amsterdam")).where(
            rng.random(rows) > 0.1
        ),
        HOSTILE[6]: np.where(rng.random(rows) < 0.05, np.inf, rng.normal(size=rows)),
        HOSTILE[7]: gaps(rng.choice([1, "one", 2.0], rows).astype(object)),
        HOSTILE[8]: rng.integers(0, 9, rows).astype("uint8"),
        HOSTILE[9]: "constant",
        "person": [f"person {i}" for i in range(rows)],
    }
    chance = 1 / (1 + np.exp(-2 * signal_))
    return pd.DataFrame(columns).assign(
        binary=np.where(rng.random(rows) < chance, "ja", "nein"),
        multiclass=rng.integers(0, 3, rows) * 10,
        regression=signal_ * 3 + rng.normal(size=rows),
    )


TARGETS = ["binary", "multiclass", "regression"]


# --- the problem


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([0, 1, 1], "binary"), ([True, False], "binary"), (["a", "b"], "binary"), ([1.5, 2.5, 1.5], "binary"),
        ([1.0, 2.0, 3.0], "multiclass"), (list(range(20)), "multiclass"), (list("abc"), "multiclass"),
        (list(range(21)), "regression"), ([0.1, 0.2, 0.3], "regression"), ([1, 2, 2.5], "regression"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [None, object, "category"])
def test_task_is_read_from_the_target(values: list, task: str, dtype: Any) -> None:
    if dtype == "category" and task == "regression":
        task = "multiclass"  # whoever makes a category means classes
    assert infer_task(pd.Series(values, dtype=dtype), "y") == task


MISTAKES = {
    "no such target": (dict(target="binry"), "did you mean 'binary'"),
    "no such column to drop": (dict(target="binary", drop=["perso"]), "did you mean 'person'"),
    "target dropped": (dict(target="binary", drop=["binary"]), "take it out"),
    "no such label": (dict(target="binary", positive="jaa"), "did you mean 'ja'"),
    "positive of three classes": (dict(target="multiclass", positive="10"), "leave --positive out"),
    "metric of another task": (dict(target="regression", metric="roc_auc"), "choose one of"),
    "no share": (dict(target="binary", holdout=0.0), "between 0 and 1"),
    "one fold": (dict(target="binary", folds=1), "from 2 to 20"),
    "too many folds for a class": (dict(target="rare"), "leave rare classes out"),
    "dates": (dict(target=HOSTILE[5]), ""),
    "one value": (dict(target=HOSTILE[9]), "choose another"),
    "a seed below 0": (dict(target="binary", seed=-1), "--seed 0"),
    "a seed that no model takes": (dict(target="binary", seed=2**32), "--seed 0"),
    "gaps in the target": (dict(target=HOSTILE[0]), "leave those rows out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_with_a_problem_is_said_in_two_lines(mistake: str) -> None:
    options, hint = MISTAKES[mistake]
    table = odd_table().assign(rare=["once"] + ["often"] * 239)
    with pytest.raises(UserError) as caught:
        pose(table, **options)
    lines = caught.value._render_traceback_()
    assert len(lines) == 2 and hint in lines[1] and max(map(len, lines)) < 300


def test_columns_that_cannot_be_used_are_named() -> None:
    table = odd_table()
    for spoilt, said in (
        (table.assign(gone=None, away=np.nan), "2 columns have no values at all: 'gone', 'away'"),
        (table.assign(lists=[[1]] * len(table)), "'lists' holds lists"),
        (table.assign(lasted=pd.Timedelta(hours=1)), "'lasted' holds durations"),
        (table.set_axis([*table.columns[:-1], "binary"], axis=1), "'binary' is there 2 times"),
        (table.head(5), "5 rows are too few"),
        (table[["person", "binary"]], "no column is left"),
    ):
        with pytest.raises(UserError, match=said):
            pose(spoilt, "binary")
    notes = pose(table, "binary").columns.notes
    assert any("'person' is left out" in note for note in notes) and any("one value only" in note for note in notes)


def test_test_data_must_look_like_the_training_data() -> None:
    table = odd_table()
    for test, said in (
        (table.drop(columns="["), "has no column '\\['"),
        (table.assign(binary="vielleicht"), "the label 'vielleicht'"),
        (table.head(0), "no rows"),
        (table.assign(binary=None), "misses 'binary' in 240 rows"),
        (table.assign(**{HOSTILE[8]: "unknown"}), "cannot be read as numbers"),
        (table.assign(**{HOSTILE[8]: pd.Timestamp(2026, 5, 1)}), "cannot be read as numbers"),
        (table.assign(**{HOSTILE[5]: 3}), "cannot be read as dates"),
    ):
        with pytest.raises(UserError, match=said):
            pose(table, "binary", test=test)
    for test in (
        table.head(10),
        table.head(10).assign(**{HOSTILE[8]: "7", HOSTILE[0]: None, HOSTILE[5]: "2026-05-01"}),
    ):
        assert len(pose(table, "binary", test=test).test) == 10
    for value, said in (("n/a", "'regression' cannot be read as numbers"), (np.inf, "infinite in 240 rows")):
        with pytest.raises(UserError, match=said):
            pose(table, "regression", test=table.assign(regression=value))
    with pytest.raises(UserError, match="infinite in 1 of 240 rows"):
        pose(table.assign(regression=[np.inf, *table["regression"][1:]]), "regression")


@given(st.lists(st.integers(0, 3), min_size=8, max_size=200), st.integers(0, 5), st.floats(0.05, 0.9))
@settings(max_examples=50, deadline=None)
def test_rows_are_split_within_classes(codes: list[int], seed: int, share: float) -> None:
    y = np.array(codes)
    train, test = hold_out(y, len(y), share, seed)
    assert sorted([*train, *test]) == list(range(len(y)))
    for code in set(codes):
        members = (y == code).sum()
        assert abs((y[test] == code).sum() - share * members) <= 1 and (members < 2 or (y[train] == code).any())
    numbers = fold_numbers(y, len(y), 4, seed)
    assert np.ptp(np.bincount(numbers, minlength=4)) <= 1
    for code in set(codes):
        assert np.ptp(np.bincount(numbers[y == code], minlength=4)) <= 1


def test_labels_keep_their_type_and_positive_is_last() -> None:
    for values, kind in (([1, 0], "i"), ([True, False], "b"), (["x", "y"], "U"), ([1.0, 0.0], "f")):
        for dtype in (None, object, "category"):
            assert target_values(pd.Series(values, dtype=dtype), "binary").dtype.kind == kind
    assert classes_of(pd.Series([1, 0])) == ("0", "1") and classes_of(pd.Series([1, 0]), 0) == ("1", "0")


# --- candidates


@pytest.mark.parametrize("task", TARGETS)
def test_every_candidate_takes_the_table_as_it_is_and_can_be_saved(task: str) -> None:
    table = odd_table()
    problem = pose(table, task, drop=[other for other in TARGETS if other != task])
    rows = Rows.of(problem, seed=0)
    assert {"[", HOSTILE[1]} <= set(problem.features) and "person" not in problem.features
    for name, candidate in candidates(task).items():
        model = build(name, problem.columns, candidate.first, task=task).fit(rows.X, rows.y)
        fresh = problem.test.assign(**{HOSTILE[1]: "a level that is new", "and": "a column more"})[::-1]
        again = thaw(freeze(model))
        said = model.predict(fresh)
        assert np.array_equal(again.predict(fresh), said), name
        if task == "regression":
            assert np.isfinite(said).all()
        else:
            assert set(said) <= set(rows.y) and model.predict_proba(fresh).shape == (len(fresh), len(problem.classes))
            assert list(map(str, model.classes_)) == sorted(problem.classes, key=str)
        shown = rows.estimator(name, candidate.first).fit(rows.X, rows.y).predict(fresh)
        assert np.array_equal(shown, said), f"{name} is not deterministic"


def test_rows_are_read_the_same_however_they_are_stored() -> None:
    table = pd.DataFrame({"n": [1, 2, 3, 4] * 10, "flag": [True, False] * 20, "word": ["a", "b", "c", "c"] * 10})
    columns = usable_columns(table)
    encoder = TableEncoder(columns.numbers, columns.texts, columns.dates).fit(table)
    expected = encoder.transform(table)
    for other in (
        table.astype(object),
        table.astype({"n": "Int64", "flag": "boolean", "word": "category"}),
        table.astype({"n": float, "flag": float, "word": object}),
        table[["word", "flag", "n"]],
    ):
        assert np.array_equal(encoder.transform(other), expected)
    with pytest.raises(ValueError, match="oops"):
        encoder.transform(table.assign(n="oops"))  # a number that is none must not pass for a missing one
    with pytest.raises(KeyError, match="word"):
        encoder.transform(table.drop(columns="word"))


# --- spaces and the schedule


@given(
    st.one_of(
        st.tuples(st.integers(), st.integers()),
        st.tuples(st.floats(), st.floats(), st.text(max_size=3)),
        st.lists(st.integers()),
        st.text(),
        st.none(),
    )
)
def test_a_space_is_understood_or_refused_in_two_lines(spec: Any) -> None:
    try:
        found = dimension("p", spec)
    except UserError as error:
        assert len(error._render_traceback_()) == 2
    else:
        assert found.choices or found.low < found.high
        found.distribution()


def test_a_choice_may_be_anything() -> None:
    import optuna
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    space = read_space({"scaler": [StandardScaler(), MinMaxScaler(), None]}, ["scaler"])
    study = optuna.create_study()
    assert {type(space["scaler"].suggest(study.ask(), "scaler")) for _ in range(50)} == {
        StandardScaler,
        MinMaxScaler,
        type(None),
    }


def _played(order: int, workers: int, trials: int = 24, fail: float = 0.0, seed: int = 0) -> Schedule:
    """A schedule played to its end by workers that finish in a random order."""
    space = {"x": dimension("x", (0.0, 1.0)), "n": dimension("n", (1, 50, "log"))}
    offered = {name: Candidate(name, space, {"x": 0.5, "n": 10}) for name in ("one", "two", "three")}
    schedule, rng, running = Schedule(offered, 5, 1, trials=trials, seed=seed), random.Random(order), []
    for _ in range(10_000):
        if schedule.finished:
            return schedule
        while len(running) < workers and (task := schedule.next()):
            running.append(task)
        if running:
            trial, fold = running.pop(rng.randrange(len(running)))
            noise = random.Random(f"{trial.number} {fold}")
            score = 1 - (trial.params["x"] - 0.7) ** 2 - 0.1 * (trial.candidate == "two") + 0.01 * noise.random()
            broken = noise.random() < fail
            schedule.report(trial, fold, None if broken else score, "ValueError: broken" if broken else "", 1.0, 1.0)
    raise AssertionError("the schedule never ended")


def _story(schedule: Schedule) -> list[tuple]:
    return [(t.candidate, t.params, t.state, t.scores if t.state != "failed" else None) for t in schedule.trials]


@pytest.mark.parametrize("fail", [0.0, 0.1, 1.0])
def test_trials_do_not_depend_on_who_finishes_first(fail: float) -> None:
    stories = [_story(_played(order, workers, fail=fail)) for order in range(4) for workers in (1, 2, 3, 7)]
    assert all(story == stories[0] for story in stories)
    assert len(stories[0]) == 24
    if not fail:
        states = [state for *_, state, _ in stories[0]]
        assert states.count("pruned") >= 3 and _played(0, 2).leader().params["x"] == pytest.approx(0.7, abs=0.15)
        assert _story(_played(0, 2, seed=1)) != stories[0]
    if fail == 1.0:
        assert _played(0, 2, fail=1.0).chosen() is None


# --- searches on workers


@pytest.fixture
def pool_ready(ray_address: str) -> str:
    return ray_address


def test_same_seed_same_leaderboard(ws, pool_ready: str, capfd: pytest.CaptureFixture[str]) -> None:
    import aiplat

    options: dict[str, Any] = dict(target="approved", trials=6, candidates=["linear", "lightgbm"], drop=["sex"], seed=5)
    one, two = (aiplat.train("sample:credit?rows=800", **options) for _ in range(2))
    assert [(r.candidate, r.score, r.note) for r in one.leaderboard] == [
        (r.candidate, r.score, r.note) for r in two.leaderboard
    ]
    assert one.measures == two.measures and one.run != two.run
    out, err = capfd.readouterr()
    assert "ray" not in (out + err).lower() and "warning" not in (out + err).lower() and "[LightGBM]" not in out + err
    assert 2 <= len(err.splitlines()) < 40 and "trials" in err
    from aiplat.core.refs import find_run
    from aiplat.data import snapshots

    run = find_run(ws, "last")
    assert run.id == two.run and "sex" not in run.features
    assert "sex" in snapshots.load(ws, run.data_digest).columns, "an audit needs the column that the model does not see"
    assert "synthetic" not in run.params and two.cpu_seconds > 0


@pytest.mark.parametrize("target", ["multiclass", "regression"])
def test_other_tasks_and_hostile_names(ws, pool_ready: str, target: str) -> None:
    import aiplat

    table = odd_table()
    found = aiplat.train(table, target=target, drop=[t for t in TARGETS if t != target], trials=5, name="<img src=x>")
    assert found.task == target and found.metric in found.measures and found.trials == 5
    assert "<img" not in found._repr_html_() and "&lt;img" in found._repr_html_()
    json.loads(found.to_json())


def test_a_budget_is_kept(ws, pool_ready: str) -> None:
    import aiplat

    found = aiplat.train("sample:credit?rows=3000", target="approved", budget="12s")
    # without a number of trials nothing else ends the search; how late it may end depends on what else the machine does
    assert found.trials >= 1 and found.seconds < 120 and found.measures["roc_auc"].value > 0.8


CELL = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
model = make_pipeline(StandardScaler(), LogisticRegression())
space = {"logisticregression__C": (0.01, 10.0, "log")}
"""


def test_a_cell_makes_the_model(ws, pool_ready: str) -> None:
    import aiplat
    from aiplat.core.refs import find_run

    names: dict[str, Any] = {"model": "an older one"}
    found = aiplat.train(credit(500), target="approved", trials=4, cell=CELL, namespace=names)
    assert found.candidate == "LogisticRegression" and found.trials == 4 and hasattr(names["model"], "fit")
    assert find_run(ws, "last").tags["aiplat.cell"] == CELL
    once = aiplat.train(credit(500), target="approved", cell=CELL.replace("space", "nowhere"))
    assert once.trials == 1, "without a space there is one trial"


CELLS = {
    "no model": ("estimator = 3", "did you mean|makes no `model`"),
    "a class": ("from sklearn.svm import SVC as model", "is the class SVC"),
    "no estimator": ("model = {}", "without fit"),
    "a regressor": ("from sklearn.linear_model import Ridge\nmodel = Ridge()", "is a regressor"),
    "a misspelt parameter": (CELL.replace("__C", "__c"), "no parameter 'logisticregression__c'"),
    "an impossible value": ("from sklearn.linear_model import LogisticRegression\nmodel = LogisticRegression(C=-1)", "cannot be fitted"),
    "a class of the cell": ("from sklearn.linear_model import LogisticRegression\nclass Mine(LogisticRegression): pass\nmodel = Mine()", "'Mine'"),
}  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_slips_in_a_cell(ws, cell: str) -> None:
    import aiplat

    code, said = CELLS[cell]
    with pytest.raises(UserError, match=said) as caught:
        aiplat.train(
            credit(300), target="approved", cell=code, namespace={"__name__": "__main__", "model": "an older one"}
        )
    assert len(caught.value._render_traceback_()) == 2


def test_when_every_trial_fails_the_search_says_why(ws, pool_ready: str) -> None:
    import aiplat
    from aiplat.core.refs import list_runs

    code = "from sklearn.svm import LinearSVC\nmodel = LinearSVC()"
    with pytest.raises(UserError, match="gives scores, not probabilities") as caught:
        aiplat.train(credit(300), target="approved", metric="log_loss", cell=code)
    assert "--metric accuracy" in caught.value.todo
    assert [run.status for run in list_runs(ws)] == ["FAILED"]


def test_an_unreachable_tracking_server_ends_the_search_at_once(ws, pool_ready: str, cli) -> None:
    done = cli(
        "train",
        "sample:credit?rows=2000",
        "--target",
        "approved",
        "--budget",
        "100s",
        check=False,
        env={"AIPLAT_TRACKING": "http://127.0.0.1:9"},
        timeout=90,
    )
    assert done.returncode == 1 and "cannot be reached" in done.stderr and "Traceback" not in done.stderr


# The second interrupt, if there is to be one, comes while the best of what there was is fitted: not before the first was heard, nor too late.
INTERRUPTED = """
import os, signal, sys
from aiplat.frontends import cli
from aiplat.training.driving import Drive
fit = Drive.last_fit
def last_fit(*given):
    os.kill(os.getpid(), signal.SIGINT)
    return fit(*given)
if sys.argv.pop(1) == "2":
    Drive.last_fit = last_fit
sys.exit(cli.main(sys.argv[1:]))
"""


def _interrupted(ws, times: int) -> subprocess.CompletedProcess[str]:
    """A search that is sent interrupts once it has shown its first complete trial."""
    words = ["train", "sample:credit?rows=4000", "--target", "approved", "--budget", "90s"]
    process = warm.begin(
        ["-c", INTERRUPTED, str(times), *words], ws.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.match("[1-9]", line):
            break
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=80)
    return subprocess.CompletedProcess(words, process.returncode, out, "".join(seen) + err)


@pytest.mark.slow
def test_an_interrupt_keeps_what_there_is(ws, pool_ready: str) -> None:
    from aiplat.core.refs import list_runs

    done = _interrupted(ws, times=1)
    assert done.returncode == 0 and "the search was interrupted" in done.stdout, done.stderr
    assert [run.status for run in list_runs(ws)] == ["FINISHED"]


@pytest.mark.slow
def test_a_second_interrupt_ends_it(ws, pool_ready: str) -> None:
    from aiplat.core import ledger
    from aiplat.core.refs import list_runs

    done = _interrupted(ws, times=2)
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert [run.status for run in list_runs(ws)] in (["KILLED"], []) and ledger.unfinished(ws) == []


def test_json_is_all_there_is(ws, pool_ready: str, cli) -> None:
    done = cli("train", "sample:credit?rows=500", "--target", "approved", "--trials", "2", "--json")
    found = json.loads(done.stdout)
    assert (
        found["trials"] == 2
        and found["measures"]["roc_auc"]["low"] < found["measures"]["roc_auc"]["high"]
        and done.stderr == ""
    )


# --- mitigation


@pytest.fixture(scope="module")
def learned() -> tuple[Any, Any, Any]:
    problem = pose(credit(5_000, seed=2), "approved", drop=["sex"])
    rows = Rows.of(problem, seed=0)
    return problem, rows, rows.estimator("lightgbm", {"n_estimators": 40, "num_leaves": 12}).fit(rows.X, rows.y)


@pytest.mark.parametrize("constraint", ["demographic_parity", "equal_opportunity", "equalized_odds"])
@pytest.mark.parametrize("by", [["sex"], ["sex", "age_group"]])
def test_thresholds_decide_as_fairlearn(learned: tuple, constraint: str, by: list[str]) -> None:
    from fairlearn.postprocessing import ThresholdOptimizer

    from aiplat.training.thresholds import CONSTRAINTS, GroupThresholds, _Given, group_names, out_of_fold

    problem, rows, base = learned
    model = GroupThresholds(base, by, problem.features, "1", constraint, smallest=1).fit(
        problem.train, rows.y, fitted=base
    )
    scores = out_of_fold(base, rows.X, rows.y, "1", 5, 0)
    theirs = ThresholdOptimizer(
        estimator=_Given().fit(None, None),
        constraints=CONSTRAINTS[constraint],
        prefit=True,
        predict_method="predict_proba",
    )
    theirs.fit(scores[:, None], rows.y, sensitive_features=group_names(problem.train, by))
    said = base.predict_proba(problem.test[list(problem.features)])[:, 1]
    expected = theirs._pmf_predict(said[:, None], sensitive_features=group_names(problem.test, by))[:, 1]
    assert np.abs(model.chance(problem.test) - expected).max() < 1e-12
    again = thaw(freeze(model))
    assert np.array_equal(again.predict(problem.test), model.predict(problem.test))
    assert np.allclose(model.predict_proba(problem.test)[:, 1], said)


def test_a_mixture_decides_as_fairlearn(learned: tuple) -> None:
    from aiplat.training.mixtures import RandomizedClassifier, solve_mixture
    from aiplat.training.thresholds import group_names

    problem, rows, _ = learned
    base = rows.estimator("linear", {"C": 1.0})
    model = RandomizedClassifier(base, ["sex"], problem.features, "1", iterations=5).fit(problem.train, rows.y)
    theirs = solve_mixture(
        base,
        rows.X,
        rows.y,
        group_names(problem.train, ["sex"]),
        constraint="demographic_parity",
        bound=0.01,
        iterations=5,
    )
    expected = theirs._pmf_predict(np.arange(len(rows.y))[:, None])[:, 1]
    assert np.abs(model.chance(rows.X) - expected).max() < 1e-9
    assert np.array_equal(thaw(freeze(model)).predict(problem.test), model.predict(problem.test))


def test_chance_decisions_come_out_at_their_rate_and_the_same_every_time(learned: tuple) -> None:
    from aiplat.training.thresholds import draws

    problem, _, _ = learned
    frame = problem.train
    numbers = ["income", "age", "savings"]
    drawn = draws(frame, numbers, ["housing"], 7)
    assert np.array_equal(drawn, draws(frame.copy(), numbers, ["housing"], 7)) and not np.array_equal(
        drawn, draws(frame, numbers, ["housing"], 8)
    )
    assert np.array_equal(
        drawn, draws(frame.astype({"housing": "category", "income": object}), numbers, ["housing"], 7)
    )
    shares, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert abs(shares / len(drawn) - 0.1).max() < 0.02


def test_small_and_unknown_groups_are_decided(learned: tuple) -> None:
    from aiplat.training.thresholds import GroupThresholds

    problem, rows, base = learned
    few = problem.train.assign(sex=problem.train.sex.where(problem.train.index > 20, "rare"))
    model = GroupThresholds(base, ["sex"], problem.features, "1").fit(few, rows.y, fitted=base)
    assert "rare" in model.groups_ and np.array_equal(model.rules_[model.groups_.index("rare")], model.rules_[-1])
    strange = problem.test.assign(sex=[None, "unheard of"] * (len(problem.test) // 2))
    assert 0.2 < model.predict(strange).mean() < 0.9
    with pytest.raises(UserError, match="'sex' is missing"):
        model.predict(problem.test.drop(columns="sex"))


@pytest.mark.parametrize("method", ["threshold_optimizer", "reweighing", "exponentiated_gradient"])
def test_mitigate_makes_a_run_of_its_own(ws, learned: tuple, method: str) -> None:
    import aiplat
    from aiplat.core import ledger
    from aiplat.core.refs import find_run, load_model
    from aiplat.training.runs import log_run

    problem, _, base = learned
    about: dict[str, Any] = dict(
        task="binary", target="approved", positive="1", features=problem.features, metric="roc_auc"
    )
    first = log_run(ws, "train", base, train=problem.train, test=problem.test, candidate="lightgbm", **about)
    found = aiplat.mitigate(first.run.id, by=["sex"], method=method)
    shift = {(row.name, row.by): row for row in found.criteria}["demographic_parity_ratio", "sex"]
    assert shift.before < 0.8 and shift.after > shift.before and shift.better
    run = find_run(ws, found.run)
    assert run.kind == "mitigate" and run.parent == first.run.id and find_run(ws, "last").id == run.id
    assert found.sensitive == (["sex"] if method == "threshold_optimizer" else [])
    assert json.loads(run.tags.get("aiplat.sensitive", "[]")) == found.sensitive
    assert ledger.entries(ws, action="mitigate", phase="done")[0].body["run"] == run.id
    audited = aiplat.audit(found.run, by=["sex"])
    measured = audited.to_dict()["criteria"]["demographic_parity_ratio"]["sex"]["value"]
    assert measured == pytest.approx(shift.after, abs=1e-12), "the table and the audit must say the same"
    again = load_model(ws, run)
    assert np.array_equal(again.predict(problem.test), load_model(ws, run).predict(problem.test))
    json.loads(found.to_json())


def test_what_cannot_be_mitigated_is_refused(ws) -> None:
    import aiplat
    from aiplat.training.runs import log_run

    table = odd_table()
    problem = pose(table, "multiclass", drop=["binary", "regression"])
    rows = Rows.of(problem, 0)
    model = rows.estimator("linear", {"C": 1.0}).fit(rows.X, rows.y)
    log_run(
        ws,
        "train",
        model,
        train=problem.train,
        test=problem.test,
        task="multiclass",
        target="multiclass",
        features=problem.features,
    )
    with pytest.raises(UserError, match="multiclass task") as caught:
        aiplat.mitigate("last", by=['"quoted"'])
    assert "two classes" in caught.value.todo


ADULT = Path(__file__).parent.parent.parent / "shared" / "data" / "adult" / "adult-train.csv"


@pytest.mark.skipif(not ADULT.exists(), reason="the Adult data is not on this machine")
def test_mitigation_on_adult() -> None:
    from aiplat.training.thresholds import GroupThresholds, group_names

    problem = pose(pd.read_csv(ADULT), "income")
    rows = Rows.of(problem, 0)
    base = rows.estimator("lightgbm", {"n_estimators": 100}).fit(rows.X, rows.y)
    model = GroupThresholds(base, ["sex", "race"], problem.features, ">50K").fit(problem.train, rows.y, fitted=base)
    said = pd.Series(model.predict(problem.test) == ">50K")
    for by, smallest in (("sex", 30), ("race", 200)):
        groups = pd.Series(group_names(problem.test, [by]))
        sizes = groups.value_counts()
        rates = said.groupby(groups).mean()[sizes[sizes >= smallest].index]
        assert rates.min() / rates.max() > 0.75, f"{by}: {rates.to_dict()}"
    assert (model.predict(problem.test) == problem.target_of(problem.test)).mean() > 0.84
