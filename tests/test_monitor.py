"""Monitors for real: a year with known changes, checks that are killed, late truth, the scheduler, alerts that start a retraining."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tests import warm
from tests.conftest import DATA, run_cli
from tests.years import START, answer, first_model, simulate

GATE = "[gate:production]\nmetrics = roc_auc >= 0.5\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A workspace whose settings the test adds to: ``home('[monitor]\\nalerts = …')``."""
    from aiplat.core import workspace

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIPLAT_HOME", str(tmp_path))

    def make(more: str = "", gate: str = GATE):
        file = tmp_path / "settings.ini"
        file.write_text(f"[aiplat]\nuser = ana\n\n{gate}\n{more}\n")
        return workspace.workspace(tmp_path)

    return make


def people(rows: int, seed: int, *, poorer: float = 1.0, turned: bool = False) -> pd.DataFrame:
    """Applications of which the rule is known, and can be turned round."""
    rng = np.random.default_rng(seed)
    income, debt, age = (
        rng.lognormal(0, 0.5, rows) * poorer,
        rng.normal(size=rows),
        rng.integers(18, 80, rows).astype(float),
    )
    chance = 4 * np.log(income / poorer) + (4 if turned else -4) * debt + rng.logistic(size=rows)
    return pd.DataFrame({"income": income, "debt": debt, "age": age, "granted": (chance > 0).astype(int)})


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=500)


YEAR_RULES = (
    ", ".join(f"drift.psi.{name} > 0.2 for 2 windows" for name in ("income", "debt", "age")) + ", roc_auc < 0.85"
)


CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_year_with_known_changes(home, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """People become poorer for a while, and much later the rule turns round: each is told within two windows, and nothing else is.

    A window is a week; the campaign lives through all 52, `make test` through 24.
    """
    monkeypatch.setenv("AIPLAT_RAY", ray_address)
    ws = home(f"[monitor:loans]\nwindow = 1w\nalerts = {YEAR_RULES}")
    poor, rich, turned, end = (15, 25, 36, 52) if CAMPAIGN else (5, 10, 15, 24)
    weeks = [people(400, 100 + w, poorer=0.6 if poor <= w < rich else 1.0, turned=w >= turned) for w in range(end)]
    frame = pd.concat([people(2000, 1), *weeks], ignore_index=True)
    year = simulate(
        ws,
        "loans",
        frame,
        "granted",
        first=2000,
        per=400,
        make=logistic,
        retrain_on="roc_auc",
        candidates=["linear"],
        trials=1,
    )
    assert (poor + 1, "drift.psi.income", "raised") in year.told and (
        rich + 1,
        "drift.psi.income",
        "cleared",
    ) in year.told
    assert (turned + 1, "roc_auc", "raised") in year.told, "the truth of a week is known in the next"
    assert year.false_alarms([poor, turned], patience=2) == []
    assert [promoted for _, _, promoted in year.retrained] == [True] and year.versions[-1] == 2
    areas = year.figures(ws, "roc_auc")
    assert np.mean(areas[rich + 1 : turned]) > 0.9 > 0.6 > areas[turned], "it was good, and then it was not"
    after = next(w for w, version in enumerate(year.versions) if version == 2)
    assert after <= turned + 3 and np.mean([a for a in areas[after:] if a is not None]) > 0.9, "retraining recovers"
    assert [what for _, figure, what in year.told if figure == "roc_auc"] == ["raised", "cleared"]


def _real(name: str, file: str) -> pd.DataFrame:
    if not (DATA / name / file).exists():
        pytest.skip(f"{name} is not here")
    return pd.read_csv(DATA / name / file)


SEA = (8.0, 9.0, 7.0, 9.5)  # thresholds of the four concepts of Street and Kim (2001)


def sea(rows: int, seed: int = 0) -> pd.DataFrame:
    """SEA concepts: three numbers from 0 to 10, the first two decide against a threshold that changes three times; a tenth of the labels is noise."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 10, (rows, 3))
    bound = np.repeat(SEA, -(-rows // 4))[:rows]
    label = (values[:, 0] + values[:, 1] > bound) ^ (rng.random(rows) < 0.1)
    return pd.DataFrame({**{f"attrib{i + 1}": values[:, i] for i in range(3)}, "class": label.astype(int)})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not CAMPAIGN, reason="a campaign: make campaign")
def test_a_stream_without_a_change_raises_no_alarm(home) -> None:
    """The SEA stream as it is handed around (scikit-multiflow's sea_stream.csv) holds one concept alone: 75 windows, no alert."""
    frame = _real("sea_drift", "sea_stream.csv")
    ws = home("[monitor:sea]\nwindow = 1w\nalerts = " + ", ".join(
        f"drift.psi.attrib{i} > 0.2" for i in (1, 2, 3)) + ", accuracy < 0.84 surely, roc_auc < 0.88 surely")  # fmt: skip
    year = simulate(ws, "sea", frame, "class", first=2500, per=500, make=logistic)
    assert len(year.versions) == 75 and year.told == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not CAMPAIGN, reason="a campaign: make campaign")
def test_sea_concepts_are_noticed_and_learned(home, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the concepts that its name promises, accuracy falls at the change that costs most, and a retrained model wins it back."""
    monkeypatch.setenv("AIPLAT_RAY", ray_address)
    ws = home(
        "[monitor:sea]\nwindow = 1w\nalerts = drift.psi.attrib1 > 0.2, drift.psi.attrib2 > 0.2, accuracy < 0.85 for 2 windows"
    )
    frame, per, first = sea(40_000, 3), 500, 2500
    changes = [(10_000 * k - first) // per for k in (1, 2, 3)]
    year = simulate(
        ws,
        "sea",
        frame,
        "class",
        first=first,
        per=per,
        make=logistic,
        retrain_on="accuracy",
        candidates=["linear"],
        trials=1,
        metric="accuracy",
    )
    assert not year.raised("drift."), "no column drifts; the concept does"
    assert any(window - changes[1] <= 4 and window >= changes[1] for window, _ in year.raised("accuracy"))
    assert year.false_alarms(changes, patience=5) == []
    accuracy = [a for a in year.figures(ws, "accuracy")[-10:] if a is not None]
    assert year.versions[-1] > 1 and np.mean(accuracy) > 0.86


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not CAMPAIGN, reason="a campaign: make campaign")
def test_the_market_of_elec2_opens(home) -> None:
    """Victoria's price, demand and transfer stand still until the market opens in May 1997: that fortnight is told, and not one before it."""
    frame = _real("elec2", "elec.csv")
    opened = int(np.flatnonzero(frame["vicdemand"].to_numpy() != frame["vicdemand"].iloc[0])[0])
    first, per = 4032, 672
    change = (opened - first) // per
    ws = home(
        "[monitor:power]\nwindow = 1w\nalerts = drift.psi.vicdemand > 0.2, drift.psi.transfer > 0.2, drift.psi.vicprice > 0.2"
    )
    year = simulate(ws, "power", frame, "class", first=first, per=per, make=logistic, most=change + 6)
    assert min(window for window, _ in year.raised()) >= change and len(year.raised()) == 3
    assert max(window for window, _ in year.raised()) <= change + 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not CAMPAIGN, reason="a campaign: make campaign")
def test_weather_with_a_reference_of_the_same_season(home, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty years of weather, a window a year long: seasons are no drift when a window holds all of them, and a retrained model is no worse."""
    monkeypatch.setenv("AIPLAT_RAY", ray_address)
    frame = _real("weather_drift", "weather.csv")
    ws = home("[monitor:rain]\nwindow = 1w\nalerts = accuracy < 0.74")
    year = simulate(
        ws,
        "rain",
        frame,
        "target",
        first=1460,
        per=365,
        make=logistic,
        retrain_on="accuracy",
        holdout=0.3,
        candidates=["linear"],
        trials=1,
        most=40,
    )
    assert len(year.versions) == 40 and len(year.raised()) <= 6
    assert all(candidate for _, candidate, _ in year.retrained)


# ---- killed, in parallel, late


NOW = START + timedelta(days=14, minutes=1)


def _fortnight(ws, days: int = 14) -> None:
    """Two weeks of records: from the tenth day on people are poorer."""
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    for day in range(days):
        rows = people(250, 500 + day, poorer=0.5 if day >= 9 else 1.0)
        answer(ws, "loans", rows, "granted", START + timedelta(days=day), timedelta(days=1))


_DEADLY = """
import os, sys
import aiplat.operations.monitoring.alerting as a
name, nth, when, now = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
kept, calls = getattr(a, name), [0]
def deadly(*args, **options):
    calls[0] += 1
    if calls[0] == nth and when == "before":
        os.kill(os.getpid(), 9)
    found = kept(*args, **options)
    if calls[0] == nth and when == "after":
        os.kill(os.getpid(), 9)
    return found
setattr(a, name, deadly)
from aiplat.core.workspace import workspace
a.check_endpoint(workspace(), "loans", now)
"""
MONITOR = "[monitor:loans]\nwindow = 1d\nalerts = drift.psi.income > 0.2 for 2 windows, missing.age > 0.5\n"


@pytest.mark.timeout(300)
def test_a_check_that_is_killed_anywhere_goes_on(home) -> None:
    from aiplat.operations.incidents import read_incidents, read_messages
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.operations.monitoring.windows import forget, kept

    ws = home("[alerts]\nwebhook = http://127.0.0.1:9/nobody\n" + MONITOR)
    _fortnight(ws)
    whole = check_endpoint(ws, "loans", (START + timedelta(days=9, minutes=1)).timestamp())
    assert whole.looked == 9 and not whole.rules[0].told
    forget(ws, "loans")
    deaths = [("keep", 4, "after"), ("keep", 3, "before"), ("_leave_evidence", 1, "before"), ("raise_alert", 1, "before"),
              ("raise_alert", 1, "after"), ("tell", 1, "after")]  # fmt: skip
    for name, nth, when in deaths:
        done = run_cli("-c", _DEADLY, name, str(nth), when, str(NOW.timestamp()), check=False)
        assert done.returncode == -signal.SIGKILL, (name, nth, when)
    last = check_endpoint(ws, "loans", NOW.timestamp())
    windows = kept(ws, "loans")
    assert (
        [w.rows for w in windows] == [250] * 14
        and last.looked == 0
        and last.rules[0].state == "raised"
        and not last.rules[0].told
    )
    (incident,) = read_incidents(ws)
    assert incident.name == "monitor:loans:drift.psi.income" and len(read_messages(ws, [incident.id])) == 1, "told once"
    assert incident.text["parameters"]["start"].startswith((START + timedelta(days=9)).strftime("%Y-%m-%d"))
    forget(ws, "loans")
    check_endpoint(ws, "loans", NOW.timestamp())
    assert [w.figures["drift.psi.income"] for w in kept(ws, "loans")] == [
        w.figures["drift.psi.income"] for w in windows
    ]


@pytest.mark.timeout(300)
def test_two_checks_at_once_tell_once_and_wrong_settings_name_their_line(home) -> None:
    from aiplat.operations.incidents import read_incidents
    from aiplat.operations.monitoring.windows import kept

    ws = home(MONITOR)
    _fortnight(ws)
    line = "from aiplat.core.workspace import workspace as w; from aiplat.operations.monitoring.alerting import check_endpoint as c; c(w(), 'loans', {})"
    both = [warm.begin(["-c", line.format(NOW.timestamp())]) for _ in range(2)]
    assert [each.wait(120) for each in both] == [0, 0]
    assert len(kept(ws, "loans")) == 14 and [each.count for each in read_incidents(ws)] == [1]

    said = json.loads(
        run_cli(
            "monitor",
            "report",
            "loans",
            "--since",
            START.isoformat(),
            "--until",
            NOW.isoformat(),
            "--json",
            cwd=ws.root,
        ).stdout
    )
    assert "income" in said["inputs"]["drifted"] and said["rows"] == 14 * 250 and said["evidence"] > 0
    page = ws.root / "loans.html"
    run_cli(
        "monitor", "report", "loans", "--since", "2025-01-15", "--until", "2025-01-20", "--out", str(page), cwd=ws.root
    )
    assert "drifted" in page.read_text() and "<script" not in page.read_text()

    ws.settings.file.write_text(ws.settings.file.read_text().replace("missing.age > 0.5", "\n    missing.age < 0.5"))
    wrong = run_cli("monitor", "check", cwd=ws.root, check=False)
    number = next(i for i, text in enumerate(ws.settings.file.read_text().splitlines(), 1) if text.startswith("alerts"))
    assert (
        wrong.returncode == 1
        and f"settings.ini, line {number}" in wrong.stderr
        and "a rule says what is wrong" in wrong.stderr
    )
    nobody = run_cli("monitor", "report", "lons", cwd=ws.root, check=False)
    assert nobody.returncode == 1 and "did you mean 'loans'" in nobody.stderr


def test_late_truth_raises_an_alert_of_a_window_that_was_judged_before(home) -> None:
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.release.truth import truth

    ws = home("[monitor:loans]\nwindow = 1d\nalerts = roc_auc < 0.85\nminimum = 100\n")
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    came = [
        answer(
            ws, "loans", people(300, 60 + d, turned=d == 2), "granted", START + timedelta(days=d), timedelta(days=1)
        )[1]
        for d in range(4)
    ]
    now = (START + timedelta(days=4, minutes=1)).timestamp()
    before = check_endpoint(ws, "loans", now)
    assert before.looked == 4 and before.rules[0].state == "unknown" and "truth" in before.rules[0].why
    truth("loans", came[0], target="came_true", row="row")
    assert check_endpoint(ws, "loans", now).rules[0].state == "well"
    truth("loans", came[2], target="came_true", row="row")
    told = check_endpoint(ws, "loans", now)
    assert told.renewed == 1 and told.rules[0].told == "raised" and told.rules[0].value < 0.3
    truth("loans", came[3], target="came_true", row="row")
    assert check_endpoint(ws, "loans", now).rules[0].told == "cleared"
    assert check_endpoint(ws, "loans", now).renewed == 0


def test_truth_is_judged_however_late_and_whenever_it_is_corrected(home) -> None:
    """Truth of eighty windows ago, a correction that leaves the count as it was, rows written after the look: each is looked at again, once."""
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.operations.monitoring.windows import kept
    from aiplat.release.truth import truth

    ws = home("[monitor:loans]\nwindow = 1d\nalerts = roc_auc < 0.75\nminimum = 40\n")
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    _, came = answer(ws, "loans", people(60, 60, turned=True), "granted", START, timedelta(days=1))
    now = START + timedelta(days=80, minutes=1)
    assert check_endpoint(ws, "loans", now.timestamp()).looked == 80

    truth("loans", came, target="came_true", row="row")
    late = check_endpoint(ws, "loans", now.timestamp())
    assert late.renewed == 1 and late.rules[0].told == "raised"
    truth("loans", came.assign(came_true=1 - came["came_true"]), target="came_true", row="row")
    corrected = check_endpoint(ws, "loans", now.timestamp())
    assert corrected.renewed == 1 and corrected.rules[0].told == "cleared"
    assert (corrected.rules[0].value or 0.0) > 0.75

    answer(ws, "loans", people(50, 61), "granted", START + timedelta(days=70), timedelta(days=1))
    assert check_endpoint(ws, "loans", now.timestamp()).renewed == 1
    assert [w.rows for w in kept(ws, "loans") if w.rows] == [60, 50]
    assert check_endpoint(ws, "loans", now.timestamp()).renewed == 0
    gone = now + timedelta(days=30)  # the log is kept for 90 days: what it has lost is not looked at again
    assert truth("loans", came[:50], target="came_true", row="row").corrected == 50
    assert check_endpoint(ws, "loans", gone.timestamp()).renewed == 0


def test_a_check_is_due_when_there_is_something_to_see(home, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiplat.operations.monitoring import alerting, triggers
    from aiplat.release.forgetting import tidy
    from aiplat.release.truth import truth

    ws = home("[monitor:loans]\nwindow = 1d\nalerts = roc_auc < 0.85\nminimum = 100\n")
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    _, came = answer(ws, "loans", people(140, 60), "granted", START, timedelta(days=1))
    day = (START + timedelta(hours=12)).timestamp()
    assert triggers.due(ws, day) == ["loans"], "never checked"
    assert alerting.check_endpoint(ws, "loans", day).looked == 0
    assert triggers.due(ws, day) == [], "the first window goes on"
    later = (START + timedelta(days=3, hours=12)).timestamp()
    assert triggers.due(ws, later) == ["loans"]
    alerting.check_endpoint(ws, "loans", later)
    assert triggers.due(ws, later) == []

    for part in np.array_split(np.arange(len(came)), 10):
        truth("loans", came.iloc[part], target="came_true", row="row")
    assert triggers.due(ws, later) == ["loans"]
    with monkeypatch.context() as dying:
        dying.setattr(alerting, "settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            alerting.check_endpoint(ws, "loans", later)
    assert triggers.due(ws, later) == ["loans"], "a check that died has not been"
    alerting.check_endpoint(ws, "loans", later)
    assert triggers.due(ws, later) == [], "truth of an older window than the newest is no reason to look for ever"
    tidy(ws, "loans", now=START)
    assert triggers.due(ws, later) == [], "packed files bring no news"


def test_one_strange_truth_hides_nothing(home) -> None:
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.operations.monitoring.figures import look
    from aiplat.operations.monitoring.references import References
    from aiplat.operations.monitoring.rules import watch
    from aiplat.release.truth import truth

    ws = home("[monitor:loans]\nwindow = 1d\nalerts = roc_auc < 0.85\nminimum = 100\n")
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    _, came = answer(ws, "loans", people(300, 60, turned=True), "granted", START, timedelta(days=1))
    came["came_true"] = came["came_true"].astype(str).where(came.index != 5, "unknown")
    assert truth("loans", came, target="came_true", row="row").strange == {"unknown": 1}
    (rule,) = check_endpoint(ws, "loans", (START + timedelta(days=1, minutes=1)).timestamp()).rules
    assert rule.told == "raised" and (rule.value or 1.0) < 0.3
    seen = look(ws, watch(ws.settings, "loans"), START, START + timedelta(days=1), References(ws, "loans"))
    assert seen.metrics["roc_auc"].n == 299
    assert seen.notes == ["1 truths are no class of the model and were left out: 'unknown' (1)"]
    strange = came.assign(came_true=came["came_true"].map({"0": "no", "1": "yes"}).fillna("unknown"))
    truth("loans", strange, target="came_true", row="row")
    (rule,) = check_endpoint(ws, "loans", (START + timedelta(days=1, minutes=1)).timestamp()).rules
    assert rule.state == "unknown" and "truth is known" in rule.why, "no truth is missing"


def test_an_alert_outlives_neither_its_windows_nor_a_death(home) -> None:
    """Other windows in the settings, or a death between telling and writing it down: whoever is well again is told so."""
    from aiplat.operations.incidents import read_incidents
    from aiplat.operations.monitoring.alerting import check_endpoint, settle
    from aiplat.operations.monitoring.rules import Figure, watch
    from aiplat.operations.monitoring.windows import Window, keep, tell

    rules = "[monitor:loans]\nwindow = {}\nminimum = 100\nalerts = drift.psi.income > 0.2\n"
    ws = home(rules.format("1d"))
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    for day in range(7):
        rows = people(250 if day == 0 else 700, 500 + day, poorer=0.5 if day == 0 else 1.0)
        answer(ws, "loans", rows, "granted", START + timedelta(days=day), timedelta(days=1))
    assert check_endpoint(ws, "loans", (START + timedelta(days=1, minutes=1)).timestamp()).rules[0].told == "raised"
    ws = home(rules.format("1w"))
    assert check_endpoint(ws, "loans", (START + timedelta(days=7, minutes=1)).timestamp()).rules[0].told == "cleared"
    assert read_incidents(ws, open_only=True) == []

    watched, at = watch(ws.settings, "loans"), START.timestamp()
    for bad, told in ((True, "raised"), (False, "cleared")):
        figures: dict[str, Figure] = {"drift.psi.income": (0.3 if bad else 0.1, None, None)}
        keep(ws, Window("loans", at, at + 604800, 1, 300, figures=figures))
        assert settle(ws, watched)[0].told == told
        tell(ws, "loans", "drift.psi.income", "", 0.0)  # as if it had died before
    assert read_incidents(ws, open_only=True) == []


def test_an_alert_stands_however_many_windows_follow(home) -> None:
    from aiplat.operations.monitoring.alerting import settle
    from aiplat.operations.monitoring.rules import Figure, watch
    from aiplat.operations.monitoring.windows import Window, keep

    ws = home("[monitor:loans]\nalerts = drift.psi.income > 0.2 until 0.1\n")
    watched, start = watch(ws.settings, "loans"), START.timestamp()
    for number in range(1002):
        value = 0.3 if number == 0 else 0.15
        figures: dict[str, Figure] = {"drift.psi.income": (value, None, None)}
        keep(ws, Window("loans", start + 86400 * number, start + 86400 * (number + 1), 1, 300, figures=figures))
        if number in (0, 1001):
            (line,) = settle(ws, watched)
            assert line.state == "raised" and line.since == START.isoformat()
    assert not line.told


def test_whoever_sees_few_windows_knows_an_alert_that_stood_before_them(home) -> None:
    """An alert that is held by its ``until`` for longer than a report or a page looks back, and then is cleared."""
    from aiplat.frontends.answering import Kept, answering
    from aiplat.frontends.endpointview import courses_of
    from aiplat.operations.monitoring.alerting import settle
    from aiplat.operations.monitoring.report import report
    from aiplat.operations.monitoring.rules import Figure, watch
    from aiplat.operations.monitoring.windows import Window, keep
    from aiplat.release.serving.plans import Arm, Plan

    figure, day = "drift.psi.income", timedelta(days=1)
    ws = home(f"[monitor:loans]\nalerts = {figure} > 0.2 until 0.1\n")
    (ws.state / "predictions" / "loans" / "date=2025-01-06").mkdir(parents=True)
    plan = Plan("loans", "loans", 1, "single", (Arm(1, 10_000, "b1", "1" * 64),))
    watched = watch(ws.settings, "loans")

    def pass_day(number: int, value: float) -> None:
        start, figures = (START + number * day).timestamp(), dict[str, Figure]({figure: (value, None, None)})
        keep(ws, Window("loans", start, start + day.total_seconds(), 1, 300, figures=figures))
        settle(ws, watched)

    def reported(number: int) -> tuple[str, Sequence[tuple[float, float]]]:
        """What a report says that ends with this day: in words, and in its picture."""
        last = START + number * day
        found = report("loans", since=last.isoformat(), until=(last + day).isoformat())
        return found.alerts[f"monitor:loans:{figure}"], next(t.raised for t in found.tracks if t.name == figure)

    for number in range(100):
        pass_day(number, 0.3 if number == 3 else 0.15)
    began, end = START + 3 * day, (START + 100 * day).timestamp()
    words, raised = reported(99)
    assert words.startswith(f"raised since {began:%Y-%m-%d}") and len(raised) == 1 and raised[0][1] == end
    seen = answering(ws, "loans", Kept(), None, plan)
    assert seen is not None and len(seen.windows) == 30
    (column,) = courses_of(seen)[3]
    assert column.stands and column.rule == watched.rules[0].text

    pass_day(100, 0.05)
    pass_day(101, 0.15)
    assert reported(101)[0].startswith(f"well since {START + 100 * day:%Y-%m-%d}")
    assert reported(101)[1][0][1] == end, "its picture shows the day when it was cleared"
    assert reported(90)[0].startswith(f"raised since {began:%Y-%m-%d}"), "as it was then"
    assert reported(2)[0].startswith("well since")
    seen = answering(ws, "loans", Kept(), None, plan)
    assert seen is not None and not courses_of(seen)[3][0].stands and courses_of(seen)[3][0].raised[0][1] == end


def test_an_endpoint_that_cannot_be_checked_stops_no_other(home) -> None:
    from aiplat.core.errors import UserError
    from aiplat.core.workspace import workspace
    from aiplat.operations.incidents import read_incidents
    from aiplat.operations.monitoring import alerting, triggers

    ws = home("[monitor]\nwindow = 1d\nminimum = 100\nalerts = drift.psi.income > 0.2\n")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for name in ("aaa", "loans"):
        first_model(ws, name, people(1600, 1), "granted", logistic)
        answer(ws, name, people(250, 5, poorer=0.5), "granted", midnight - timedelta(days=2), timedelta(days=1))
    next((ws.state / "predictions" / "aaa").glob("date=*/*.parquet")).write_bytes(b"not parquet, of some length")
    with pytest.raises(UserError, match="the check of aaa failed: the predictions of aaa cannot be read") as said:
        alerting.check(home=ws.root)
    assert [each.name for each in read_incidents(ws, open_only=True)] == ["monitor:loans:drift.psi.income"]
    assert "loans: 1 alert" in str(said.value.result)

    keeper, now = triggers.Keeper(ws), time.time()
    assert keeper.look(now) and keeper.child is not None and keeper.child.wait(120) == 1
    with pytest.raises(UserError, match="a check has failed"):
        keeper.look(now)
    assert not keeper.look(now), "not at once again"
    assert "the predictions of aaa cannot be read" in (ws.state / "monitor.log").read_text()

    ws.settings.file.write_text(ws.settings.file.read_text() + "[monitor:aaa]\nalerts = roc_auc > 0.88\n")
    slipped = workspace(ws.root)
    assert triggers.due(slipped, now) == ["aaa"], "nothing new, but somebody must hear of it"
    assert triggers.due(slipped, now + 2 * 86_400) == ["aaa", "loans"]
    with pytest.raises(UserError, match=r"the check of aaa failed: .*'roc_auc > 0.88' would tell when") as said:
        alerting.check(home=ws.root)
    assert "loans: 1 alert" in str(said.value.result)


def flats(rows: int, seed: int, *, larger: float = 1.0, dearer: float = 1.0) -> pd.DataFrame:
    """Flats with their prices: errors grow with size, and are twice as large in the centre."""
    rng = np.random.default_rng(seed)
    size = np.clip(rng.gamma(6, 12 * larger, rows), 20, 240)
    where = rng.choice(["centre", "north", "south"], rows, p=[0.3, 0.3, 0.4])
    scatter = 0.12 * size * np.where(where == "centre", 2.0, 1.0)
    price = dearer * (30 + 3.0 * size + 0.004 * size**2) + scatter * rng.normal(size=rows)
    return pd.DataFrame({"size": size, "where": where, "price": price})


def test_the_error_of_a_regression_model_is_estimated_before_the_truth_is_known(home) -> None:
    """Larger flats come: the estimate says how wrong the model will be. Then all prices rise, and nothing but the truth can show it."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    from aiplat.core.refs import find_model, load_model
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.operations.monitoring.performance import look
    from aiplat.release.registry import register
    from aiplat.release.serving.answers import Answers
    from aiplat.release.serving.journal import Journal
    from aiplat.release.truth import truth
    from aiplat.training.runs import log_run

    ws = home("[monitor:flats]\nwindow = 1d\nalerts = estimated.mae > 12\nminimum = 100\n")
    rows, columns = flats(4000, 1), ["size", "where"]
    model = make_pipeline(make_column_transformer(("passthrough", ["size"])), LinearRegression())
    model.fit(rows[columns][:2000], rows["price"][:2000])
    log_run(
        ws, "train", model, train=rows[:2000], test=rows[2000:], task="regression", target="price", features=columns
    )
    register("last", "flats")
    version = find_model(ws, "flats/1")
    served, journal, came = load_model(ws, version), Journal(ws.state / "predictions", endpoint="flats", worker="w"), []
    days = [
        flats(600, 50 + d, larger=1.35 if d in (3, 4, 5) else 1.0, dearer=1.33 if d == 6 else 1.0) for d in range(7)
    ]
    for number, day in enumerate(days):
        at = (START + timedelta(days=number, hours=1)).timestamp()
        asked = {"size": day["size"].to_numpy(float), "where": day["where"].to_numpy(object)}
        journal.add(f"d{number}", 1, version.model_digest, "champion", asked, Answers(served.predict(day[columns]), None, ()), at, 0.001)  # fmt: skip
        came.append(pd.DataFrame({"request_id": f"d{number}", "row": range(len(day)), "came": day["price"]}))
    journal.close()

    checked = check_endpoint(ws, "flats", (START + timedelta(days=6, minutes=1)).timestamp())
    assert checked.rules[0].state == "raised" and checked.rules[0].since.startswith(
        f"{START + timedelta(days=3):%Y-%m-%d}"
    )
    before = look(ws, "flats", name="mae")
    assert len(before.stretches) == 7 and all(each.truths == 0 for each in before.stretches)
    truth("flats", pd.concat(came), target="came", row="row")
    after = look(ws, "flats", name="mae")
    usual = after.stretches[0].measured["mae"].value
    off, stale = [], []
    for early, each in list(zip(before.stretches, after.stretches, strict=True))[:6]:
        said, real = early.estimated["mae"], each.measured["mae"].value
        assert said.low <= real * 1.1 and said.high >= real * 0.9, (each.since, said, real)
        off.append(abs(said.value / real - 1))
        stale.append(abs(usual / real - 1))
    print(
        f"mae: off by {np.mean(off):.1%} on average, {np.mean(off[3:]):.1%} after the change; held-out figure {np.mean(stale[3:]):.1%}"
    )
    assert np.mean(off[3:]) < 0.5 * np.mean(stale[3:]), "the estimate follows the change"
    held = [each.held("mae") for each in after.stretches]
    assert sum(map(bool, held[:6])) >= 4 and held[6] is False, "what nothing in the columns shows, the truth shows"
    assert after.stretches[6].measured["mae"].value > 3 * after.stretches[6].foreseen["mae"].high
    assert "rows that look alike" in str(after)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_scheduler_checks_and_an_alert_starts_a_retraining(
    home, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From records to a new version in production, and nobody types anything: scheduler, check, alert, pipeline, retraining, gate."""
    import shutil

    from aiplat.core.refs import find_model
    from aiplat.core.workspace import shipped
    from aiplat.operations.pipelines import tables
    from aiplat.release.truth import truth

    monkeypatch.setenv("AIPLAT_RAY", ray_address)
    ws = home("[monitor:loans]\nwindow = 1d\nalerts = roc_auc < 0.85\nminimum = 100\n")
    shutil.copytree(shipped("tutorials", "monitoring"), ws.root / "pipelines")
    first_model(ws, "loans", people(1600, 1), "granted", logistic)
    run_cli("schedule", "add", "pipelines/retraining.toml", "--on", "alert:monitor:loans:roc_auc", cwd=ws.root)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (3, 2, 1):
        _, came = answer(
            ws,
            "loans",
            people(700, 70 + day, turned=True),
            "granted",
            midnight - timedelta(days=day),
            timedelta(days=1),
        )
        truth("loans", came, target="came_true", row="row")
    scheduler = warm.begin(["scheduler", "run", "--runs", "1"], ws.root, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while (
            not (ended := [run for run in tables.read_runs(ws) if run.state in ("done", "failed")])
            and time.monotonic() < deadline
        ):
            assert scheduler.poll() is None
            time.sleep(0.5)
    finally:
        scheduler.terminate()
        scheduler.wait(60)
    assert [run.state for run in ended] == ["done"], (ws.state / "monitor.log").read_text()[-2000:]
    assert find_model(ws, "loans@production").version == 2
