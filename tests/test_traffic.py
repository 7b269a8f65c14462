"""Traffic with real models and real servers: shares, sticky clients, gates, guard rails; killed verbs; requests by the ten thousand or by the million."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core import evidence, ledger
from aiplat.core.errors import Refused, UserError
from aiplat.core.workspace import workspace
from aiplat.operations import overview
from aiplat.operations.incidents import read_incidents
from aiplat.release.serving import meters, server
from aiplat.release.serving.changes import history, on_disk, settle, subject
from aiplat.release.serving.plans import WHOLE, Arm, Plan, allot, follow
from aiplat.release.serving.sequential import ALPHA, compare, log_evidence, rate_interval
from tests import warm
from tests.conftest import run_cli

CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))
COLUMNS = ["income", "age", "late_payments", "savings"]

# ---------------------------------------------------------------- plans


shares = st.lists(st.integers(1, 50), min_size=1, max_size=5)


def _weights(parts: list[int]) -> dict[int, int]:
    total = sum(parts)
    found = {version: max(1, WHOLE * part // total) for version, part in enumerate(parts, 1)}
    found[1] += WHOLE - sum(found.values())
    return found


@settings(deadline=None, max_examples=60)
@given(shares, shares)
def test_the_fewest_keys_move(before: list[int], after: list[int]) -> None:
    old, new = _weights(before), _weights(after)
    first = allot(old)
    second = allot(new, first)

    def owners(slots: dict[int, Any]) -> list[int]:
        line = [0] * WHOLE
        for version, ranges in slots.items():
            for low, high in ranges:
                line[low:high] = [version] * (high - low)
        return line

    line, then = owners(first), owners(second)
    assert Counter(line) == old and Counter(then) == new
    moved = sum(a != b for a, b in zip(line, then, strict=True))
    assert moved == sum(max(0, share - new.get(version, 0)) for version, share in old.items())


def test_shares_are_kept_and_keys_stay() -> None:
    plan = Plan("e", "m", 1, "ab", (Arm(1, 7000, "a", "a"), Arm(2, 2500, "b", "b"), Arm(3, 500, "c", "c")), salt="x")
    rng = random.Random(0)
    n = 40_000
    drawn = Counter(plan.choose(None, rng.random()).version for _ in range(n))
    sticky = {f"k{i}": plan.choose(f"k{i}", rng.random()).version for i in range(n)}
    for counted in (drawn, Counter(sticky.values())):
        for arm in plan.arms:
            p = arm.weight / WHOLE
            assert abs(counted[arm.version] - n * p) < 5 * (n * p * (1 - p)) ** 0.5
    assert all(plan.choose(key, rng.random()).version == version for key, version in sticky.items())
    grown = follow(
        plan, Plan("e", "m", 1, "ab", (Arm(1, 4000, "a", "a"), Arm(2, 5500, "b", "b"), Arm(3, 500, "c", "c"))), "y"
    )
    went = Counter((version, grown.choose(key, 0.0).version) for key, version in sticky.items())
    assert set(went) == {(1, 1), (1, 2), (2, 2), (3, 3)}
    shadowed = Plan("e", "m", 1, "shadow", (Arm(1, WHOLE, "a", "a"),), (Arm(2, 2500, "b", "b"),))
    copies = sum(len(shadowed.copies(rng.random())) for _ in range(n))
    assert abs(copies - n / 4) < 5 * (n * 3 / 16) ** 0.5


# ---------------------------------------------------------------- always valid


def test_intervals_hold_at_every_look() -> None:
    """Peeking after every request keeps the promised level: a ratio of rates, and a rate near zero."""
    rng, paths, n = np.random.default_rng(11), 300, 3000
    missed = 0
    for _ in range(paths):
        canary = rng.random(n) < 0.1
        rate = np.where(rng.random(n // 100) < 0.1, 0.4, 0.02).repeat(
            100
        )  # the same for both, and never the same for long
        error = rng.random(n) < np.where(canary, np.minimum(1.0, 2 * rate), rate)
        one, other = (error & canary).cumsum(), (error & ~canary).cumsum()
        looks = np.unique(np.concatenate([np.arange(20, 300, 20), np.arange(300, n, 150)]))
        prior = (1.0, 9.0)
        part = 2 * 0.1 / (2 * 0.1 + 0.9)  # of the errors, if the ratio is 2
        missed += bool((log_evidence(one, one + other, part, prior=prior) > np.log(1 / ALPHA)).any())
        last = looks[-1]
        found = compare((int(one[last]), int(other[last])), (0.1, 0.9))
        outside = not found.low <= 2 <= found.high
        exceeded = log_evidence(int(one[last]), int(one[last] + other[last]), part, prior=prior) > np.log(1 / ALPHA)
        assert outside == exceeded, "the interval is not the test turned around"
    assert missed <= paths * ALPHA
    rare = (rng.random((2000, 4000)) < 0.002).cumsum(1)
    ever = (log_evidence(rare, np.arange(1, 4001), 0.002) > np.log(1 / ALPHA)).any(1).mean()
    assert ever <= ALPHA
    assert rate_interval(0, 500)[0] == 0.0 and rate_interval(500, 500)[1] == 1.0


# ---------------------------------------------------------------- counting


def test_errors_of_the_five_hundredth_version_are_counted(tmp_path: Path) -> None:
    """A worker that lives through a new version every night counts each of them, for guard rails as well."""
    meter = meters.Meters(tmp_path, "0")
    for version in range(1, 501):
        for role in ("canary", "champion"):
            for route, status in (("/predict", 200), ("/predict", 422), ("/invocations", 200)):
                meter.done(version, role, route, status, 0.01, 1)
    for _ in range(1000):
        meter.done(501, "canary", "/predict", 500, 0.01)
    found = meters.loads(meters.read(tmp_path))
    assert len(found) == 1001 and {load.requests for key, load in found.items() if key[0] <= 500} == {3}
    assert found[501, "canary"].errors == found[501, "canary"].requests == 1000


def test_what_dead_workers_counted_is_kept_in_one_file(tmp_path: Path) -> None:
    """Replicas come and go under names of their own; no count is lost or told twice, and old versions become one."""
    for number in range(30):
        meter = meters.Meters(tmp_path, f"ray-{number}", keep={29, 30})
        meter.done(number, "champion", "/predict", 200, 0.01, 2)
        meter.done(30, "canary", "/predict", 500, 0.01, 1)
        meter.serves(number)
        if number % 2:
            meter.close()
        else:
            meter._numbers.close()  # it is killed, while it answers
            meter.began()
    last = meters.Meters(tmp_path, "ray-30", keep={29, 30})
    assert sorted(file.name for file in tmp_path.glob("*.meters")) == ["ended.meters", "ray-30.meters"]
    samples = meters.read(tmp_path)
    found = meters.loads(samples)
    assert set(found) == {(29, "champion"), (30, "canary")}
    assert found[29, "champion"].requests == 1 and found[30, "canary"].errors == 30
    assert sum(one.value for one in samples if one.name == "aiplat_requests") == 60
    assert sum(one.value for one in samples if one.name == "aiplat_rows") == 90
    assert {one.name: one.value for one in samples if one.name == "aiplat_in_flight"} == {"aiplat_in_flight": 0}
    assert b'aiplat_requests_total{role="earlier",route="/predict",status="200",version=""} 29.0' in last.text()


def test_a_reader_misses_nothing_while_the_dead_are_added_up(tmp_path: Path) -> None:
    """Whoever looks while workers end and begin sees every count once, also when one is killed in the middle of it."""
    one = meters.Meters(tmp_path, "0")
    for _ in range(100):
        one.done(1, "champion", "/predict", 500, 0.01)
    ended, wrong = threading.Event(), []

    def watch() -> None:
        while not ended.is_set():
            found = meters.loads(meters.read(tmp_path))[1, "champion"].requests
            wrong.extend([found] if found != 100 else [])

    looking = threading.Thread(target=watch)
    looking.start()
    for _ in range(200):
        one.close()
        one = meters.Meters(tmp_path, "0")
    ended.set()
    looking.join()
    assert not wrong
    one.done(1, "champion", "/predict", 200, 0.01)
    one.close()

    def killed(file: Path, missing_ok: bool = False) -> None:
        if file.suffix == ".meters":
            raise SystemExit

    with patch.object(Path, "unlink", killed), pytest.raises(SystemExit):
        meters.forget(tmp_path, "0")
    assert (tmp_path / "0.meters").exists() and meters.numbers(tmp_path / "ended.meters")
    for _ in range(2):
        assert meters.loads(meters.read(tmp_path))[1, "champion"].requests == 101
        meters.forget(tmp_path, "0")


# ---------------------------------------------------------------- servers


@dataclass
class Site:
    """A workspace with registered versions, and rows to ask."""

    ws: Any
    rows: list[dict[str, float]]
    truth: list[int]
    models: dict[int, Any] = field(default_factory=dict)

    def expected(self, version: int) -> Any:
        """Probabilities that a version gives to the rows."""
        import pandas as pd

        return self.models[version].predict_proba(
            pd.DataFrame(self.rows)[list(self.models[version].feature_names_in_)]
        )[:, 1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Versions of a model: 1 and 2 are good, 3 learned money in another unit, 4 learned nothing and does not pass the gate, 5 needs a column more."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from aiplat.core import workspace
    from aiplat.data.sample import credit
    from aiplat.release.serving import server
    from aiplat.release.versions import make_version
    from aiplat.training.runs import log_run

    home = tmp_path_factory.mktemp("traffic")
    rails = "\n".join([
        "[rails:guarded]", "limits = error_rate <= 0.05, accuracy >= 0.7", "minimum = 100", "every = 200ms",
        "[rails:refusing]", "limits = refused_rate <= 0.05", "minimum = 50", "every = 200ms",
    ])  # fmt: skip
    (home / "settings.ini").write_text(
        f"[aiplat]\nuser = ana\n[gate:production]\nmetrics = roc_auc >= 0.55\n[serving]\nworkers = 2\nport = 18900\n{rails}\n"
    )
    patch = pytest.MonkeyPatch()
    patch.chdir(home)
    ws = workspace.workspace(home)
    people = credit(rows=3000, seed=3).dropna()
    known = people[[*COLUMNS, "amount"]].astype(float)
    rng = np.random.default_rng(0)
    wealth = (known["income"].rank() + 0.5 * known["savings"].rank() + rng.normal(0, 300, len(known))) / len(known)
    known["approved"] = (wealth > wealth.median()).astype(float)
    made = Site(ws, known[COLUMNS].head(200).to_dict("records"), known["approved"].head(200).astype(int).tolist())
    for version in (1, 2, 3, 4, 5):
        frame = known.assign(approved=known["approved"].astype(int))
        if version == 3:
            frame = frame.assign(income=frame["income"] / 1000, savings=frame["savings"] / 1000)
        if version == 4:
            frame = frame.assign(approved=rng.integers(0, 2, len(frame)))
        columns = [*COLUMNS, "amount"] if version == 5 else COLUMNS
        train, test = frame[500:1500], frame[1500:]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01 if version == 2 else 1.0)).fit(
            train[columns], train["approved"]
        )
        about = {"task": "binary", "target": "approved", "positive": "1", "features": columns}
        run = log_run(ws, "train", model, train=train, test=test, **about).run
        found = _run(ws, run.id)
        with ledger.change(ws, "register", "model:credit", {"run": run.id}) as change:
            number = make_version(ws, "credit", found, change.entry)
            change.outcome |= {"version": number, "made": True, "run": run.id, "model_digest": found.model_digest}
        assert number == version
        made.models[version] = model
    patch.undo()
    yield made
    for name in [path.name for path in (ws.state / "endpoints").iterdir() if path.is_dir()]:
        server.stop(ws, name)


def _run(ws: Any, run_id: str) -> Any:
    from aiplat.core.refs import find_run

    return find_run(ws, run_id)


@pytest.fixture
def here(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site, with the working directory in it."""
    monkeypatch.chdir(site.ws.root)
    return site


def ask(url: str, rows: list[dict[str, Any]], headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any], Any]:
    """Status, body and headers of an answer."""
    body = json.dumps({"records": rows}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}"), error.headers


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What a condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def sound(ws: Any, name: str) -> Plan | None:
    """The ledger and the workers' file agree, and nothing is half-done; the plan in force."""
    settle(ws, name)
    stack = history(ws, name)
    assert not ledger.unfinished(ws, subject(name)) and ledger.breaks(ws) == []
    assert on_disk(ws, name) == (stack[-1].plan if stack else None)
    return stack[-1].plan if stack else None


pytestmark = pytest.mark.timeout(600 if not CAMPAIGN else 7200)


@pytest.mark.slow
def test_from_the_first_version_to_the_last(here: Site) -> None:
    """Single, canary, side by side, shadow, back, back, gone: every change in the ledger, the right version's answer every time."""
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.traffic import endpoints, traffic

    first = deploy("credit/1", endpoint="life", reason="to begin with")
    url = first.url
    status, said, headers = ask(url, here.rows[:50])
    assert status == 200 and headers["x-model-version"] == "1" and len(headers["x-model-digest"]) == 64
    assert np.allclose([row["probability"] for row in said["predictions"]], here.expected(1)[:50], atol=1e-5)
    assert not deploy("credit/1", endpoint="life").moved
    steps = [
        ({"canary": "2=20%"}, {1, 2}),
        ({"canary": "2=60%"}, {1, 2}),
        ({"ab": "1=50,2=50"}, {1, 2}),
        ({"shadow": "2"}, {1}),
    ]
    for options, versions in steps:
        made = deploy("credit/1", endpoint="life", **options)
        assert made.url == url
        seen = Counter()
        for row, right in zip(here.rows[:60], zip(here.expected(1), here.expected(2), strict=True), strict=False):
            status, said, headers = ask(url, [row])
            version = int(headers["x-model-version"])
            assert status == 200 and abs(said["predictions"][0]["probability"] - right[version - 1]) < 1e-5
            seen[version] += 1
        assert set(seen) == versions, seen
        sound(here.ws, "life")
    assert traffic("life", back=True, reason="enough").mode == "ab"
    assert traffic("life", back=True).mode == "canary" and history(here.ws, "life")[-1].origin == 3
    shown = traffic("life")
    assert shown.url == url and "20 %" not in shown.traffic and "60 %" in shown.traffic
    assert [entry["name"] for entry in endpoints().endpoints if entry["name"] == "life"] == ["life"]
    done = [e.action for e in ledger.entries(here.ws, subject=subject("life"), phase="done")]
    assert done == ["deploy"] * 5 + ["traffic"] * 2
    undeploy("life", reason="the test is over")
    assert sound(here.ws, "life") is None
    with pytest.raises(OSError, match="refused"):
        ask(url, here.rows[:1])
    with pytest.raises(UserError, match="no endpoint"):
        traffic("life")


@pytest.mark.slow
def test_clients_stay_with_their_version(here: Site) -> None:
    """The same client meets the same version, in every worker and after the canary has grown; only to the canary anybody moves."""
    from aiplat.release.endpoint import deploy, undeploy

    deploy("credit/1", endpoint="sticky")
    url = deploy("credit/1", endpoint="sticky", canary="2=20%", key="header:x-customer").url

    def met() -> dict[str, int]:
        return {str(i): int(ask(url, here.rows[:1], {"x-customer": str(i)})[2]["x-model-version"]) for i in range(150)}

    once = met()
    assert once == met() and 8 <= sum(version == 2 for version in once.values()) <= 60
    deploy("credit/1", endpoint="sticky", canary="2=50%", key="header:x-customer")
    later = met()
    assert {(once[key], later[key]) for key in once} == {(1, 1), (1, 2), (2, 2)}
    undeploy("sticky")


@pytest.mark.slow
def test_a_column_made_private_is_told_and_written_down_no_more(here: Site) -> None:
    """From the next deploy on: not in the description, not in the example, and not as the key under which an answer is kept."""
    import pandas as pd

    from aiplat.core import workspace as homes
    from aiplat.release import predictions
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.serving.effects import take_over
    from aiplat.release.traffic import traffic

    def told(url: str) -> str:
        with urllib.request.urlopen(f"{url}/openapi.json", timeout=20) as answer:
            return json.dumps(json.load(answer)["components"]["schemas"]["Record"]["properties"]["late_payments"])

    def kept(value: float) -> str | None:
        before = len(predictions.read(here.ws, "hidden")) if "hidden" in predictions.recorded(here.ws) else 0
        ask(url, [{**here.rows[0], "late_payments": value}])
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if "hidden" in predictions.recorded(here.ws) and len(now := predictions.read(here.ws, "hidden")) > before:
                key = now.sort_values("time")["key"].iloc[-1]
                return None if pd.isna(key) else str(key)
            time.sleep(0.1)
        raise AssertionError("nothing was recorded")

    file = here.ws.root / "settings.ini"
    was = file.read_text()
    url = deploy("credit/1", endpoint="hidden", ab="1=50,2=50", key="late_payments").url
    assert "learned" in told(url) and kept(7) == "7"
    try:
        file.write_text(was.replace("[serving]", "[serving]\nprivate = age,\n  late_payments"))
        ws = homes.workspace(here.ws.root)
        with pytest.raises(UserError, match=r"late_payments: .* private"):
            deploy("credit/1", endpoint="hidden", ab="1=50,2=50", key="late_payments")
        assert take_over(ws, "hidden")["private"]
        assert kept(8) is None, "the workers wrote a private value down as the key"
        changed = deploy("credit/1", endpoint="hidden", ab="1=50,2=50")
        assert changed.moved and changed.example["late_payments"] == 0.0 and "learned" not in told(url)
        assert not deploy("credit/1", endpoint="hidden", ab="1=50,2=50").moved  # nothing is made anew without a reason
        traffic("hidden", back=True)
        assert "learned" not in told(url) and kept(9) is None, "the step back brought private values back"
    finally:
        file.write_text(was)
        undeploy("hidden")


@pytest.mark.slow
def test_a_model_that_refuses_what_stands_for_many_texts_is_deployed(here: Site) -> None:
    """Of a column with very many texts the preparation knows no example that tells nothing; the model may refuse any other text."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.versions import register
    from aiplat.training.runs import log_run

    cities = [f"city {i}" for i in range(300)]
    frame = pd.DataFrame({"city": cities * 3, "age": [20.0 + i % 50 for i in range(900)]})
    frame["approved"] = (frame["age"] > 40).astype(int)
    encoder = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression()).fit(frame[["city", "age"]], frame["approved"])
    about: dict[str, Any] = {"task": "binary", "target": "approved", "positive": "1", "features": ["city", "age"]}
    register(log_run(here.ws, "train", model, train=frame, test=frame[:300], **about).run.id, "cities")
    made = deploy("cities/1")
    try:
        assert made.moved and ask(made.url, [{"city": "city 7", "age": 30}])[0] == 200
        assert ask(made.url, [{"city": "nowhere", "age": 30}])[0] in (400, 422)
    finally:
        undeploy("cities")


@pytest.mark.slow
def test_what_passed_no_gate_answers_nobody(here: Site) -> None:
    from aiplat.release.endpoint import deploy, undeploy

    url = deploy("credit/1", endpoint="gated").url
    before = sound(here.ws, "gated")
    for options in ({"canary": "4=1%"}, {"ab": "1=50,4=50"}):
        with pytest.raises(Refused, match="may not answer people"):
            deploy("credit/1", endpoint="gated", **options)
    with pytest.raises(Refused):
        deploy("credit/4", endpoint="gated")
    assert sound(here.ws, "gated") == before
    deploy("credit/1", endpoint="gated", shadow="4")
    assert {ask(url, here.rows[:1])[2]["x-model-version"] for _ in range(20)} == {"1"}
    from aiplat.release import predictions

    rows = wait(
        lambda: (
            len(found) if len(found := predictions.read(here.ws, "gated", versions=[4], roles=["shadow"])) >= 20 else 0
        )
    )
    assert rows >= 20
    undeploy("gated")


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_changes_nothing(here: Site) -> None:
    """Its files are damaged after they were made ready: the workers say so, and the plan before is in force again."""
    from aiplat.core.refs import find_model
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.serving.effects import ready

    url = deploy("credit/1", endpoint="damaged").url
    [bundle] = ready(here.ws, "damaged", [find_model(here.ws, "credit/2")]).values()
    for file in bundle.folder.iterdir():
        if file.name != "bundle.json":
            file.write_bytes(b"not this")
    with pytest.raises(UserError):
        deploy("credit/1", endpoint="damaged", canary="2=50%")
    plan = sound(here.ws, "damaged")
    assert plan is not None and plan.versions == (1,) and plan.generation == 3
    assert {ask(url, here.rows[:1])[2]["x-model-version"] for _ in range(20)} == {"1"}
    undeploy("damaged")


# ---------------------------------------------------------------- guard rails


@pytest.mark.slow
def test_a_canary_that_does_worse_is_taken_out_by_itself(here: Site) -> None:
    """Version 3 passed its gate on rows with the same mistake. In production it is wrong; the truth arrives; nobody does anything."""
    import pandas as pd

    from aiplat.release import predictions
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.truth import truth

    deploy("credit/1", endpoint="guarded")
    url = deploy("credit/1", endpoint="guarded", canary="2=50%").url

    def shop() -> None:
        """Every row is asked twice, and the truth about each is delivered."""
        known = []
        for number, (row, right) in enumerate(zip(here.rows * 2, here.truth * 2, strict=True)):
            name = f"{time.time_ns()}-{number}"
            assert ask(url, [row], {"x-request-id": name})[0] == 200
            known.append({"request_id": name, "approved": right})
        ids = {one["request_id"] for one in known}
        wait(lambda: ids <= set(predictions.read(here.ws, "guarded", columns=[])["request_id"]))
        truth("guarded", pd.DataFrame(known), target="approved")

    shop()
    from aiplat.release.rails import look_once

    found, step = look_once(here.ws, "guarded")
    assert step is None and not [one for one in found if one.ok is False], "a healthy canary was taken out"
    deploy("credit/1", endpoint="guarded", canary="3=50%", reason="money in thousands")
    shop()
    wait(lambda: (step := history(here.ws, "guarded")[-1]).plan.by == "guard rails" and step)
    plan = sound(here.ws, "guarded")
    assert plan is not None and 3 not in plan.versions and "accuracy" in plan.reason
    [record] = evidence.find(here.ws, "rail", subject=subject("guarded"))
    assert record.outcome == "fail" and record.measured["version"] == 3 and len(record.model_digest) == 64
    moved = [e for e in ledger.entries(here.ws, action="traffic", phase="intent") if e.subject == subject("guarded")]
    assert moved[-1].body["evidence"] == [record.seq] and moved[-1].body["rail"] == "accuracy >= 0.7"
    assert 3 not in {int(ask(url, here.rows[:1])[2]["x-model-version"]) for _ in range(30)}
    told_of_a_rollback(here, record.seq)
    undeploy("guarded")
    assert run_cli("monitor", "check", "--json").returncode == 0
    assert [each.closed is not None for each in read_incidents(here.ws, name="rail:guarded")] == [True]


def told_of_a_rollback(here: Site, seq: int) -> None:
    """The scheduler's pass sends one message, however often it looks; `status` names the incident."""
    received: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    try:
        env = {"AIPLAT_ALERTS_WEBHOOK": f"http://127.0.0.1:{hook.server_port}/in"}
        for _ in range(2):
            done = run_cli("scheduler", "run", "--once", env=env)
            assert done.returncode == 0, done.stderr
        wait(lambda: received)
    finally:
        hook.shutdown()
        hook.server_close()
    [incident] = read_incidents(here.ws, name="rail:guarded")
    assert incident.closed is None and incident.count == 1 and incident.text["parameters"]["entry"] == seq
    assert len(received) == 1 and "version 3 broke accuracy >= 0.7" in json.dumps(received), received
    assert [what for what, _ in overview.status().problems if "rail:guarded" in what]


@pytest.mark.slow
def test_a_deploy_takes_changed_settings_over(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same line again: nothing at first, and with other settings the workers are new and the address may be."""
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.traffic import endpoints

    first = deploy("credit/1", endpoint="kept")
    again = deploy("credit/1", endpoint="kept")
    assert not again.moved and again.settings == {} and "nothing was changed" in str(again)
    monkeypatch.setenv("AIPLAT_SERVING_TOKENS", "always")
    made = deploy("credit/1", endpoint="kept")
    assert not made.moved and made.settings == {"tokens": "off → on"} and made.token and "tokens off → on" in str(made)
    assert ask(first.url, here.rows[:1])[0] == 401, "every worker wants a token now"
    [left] = [e for e in ledger.entries(here.ws, action="settings") if e.subject == subject("kept")]
    assert left.body["changed"] == made.settings
    monkeypatch.delenv("AIPLAT_SERVING_TOKENS")
    monkeypatch.setenv("AIPLAT_SERVING_PORT", str(int(os.environ.get("AIPLAT_SERVING_PORT", "8080")) + 40))
    moved = deploy("credit/2", endpoint="kept", canary="1=10%")
    assert moved.moved and moved.moved_from == first.url != moved.url and set(moved.settings) == {"tokens", "port"}
    assert ask(moved.url, here.rows[:1])[0] == 200 and moved.generation == made.generation + 1
    plan = sound(here.ws, "kept")
    processes = wait(lambda: server.running(here.ws, "kept")).pids
    for number in (signal.SIGSTOP, signal.SIGKILL):  # at once: who lives on for a moment would replace the first
        for pid in processes:
            os.kill(pid, number)
    wait(lambda: server.running(here.ws, "kept") is None)
    assert "aiplat up" in str(endpoints())
    now = workspace(here.ws.root)  # with the settings as they are
    assert server.revive(now) == (["kept"], []) and ask(moved.url, here.rows[:1])[0] == 200
    assert sound(here.ws, "kept") == plan, "coming back is no change of traffic"
    undeploy("kept")
    assert server.revive(here.ws) == ([], [])


@pytest.mark.slow
def test_a_canary_that_refuses_what_clients_send(here: Site) -> None:
    """Version 5 wants a column that clients do not send. They get 4xx only for as long as it takes to be certain."""
    from aiplat.release.endpoint import deploy, undeploy

    deploy("credit/1", endpoint="refusing")
    url = deploy("credit/1", endpoint="refusing", canary="5=30%").url
    codes: Counter[int] = Counter()

    def out() -> bool:
        codes.update(ask(url, [here.rows[len(codes) % 100]])[0] for _ in range(20))
        return history(here.ws, "refusing")[-1].plan.by == "guard rails"

    wait(out)
    plan = sound(here.ws, "refusing")
    assert plan is not None and plan.versions == (1,) and set(codes) == {200, 422}
    assert {ask(url, here.rows[:1])[0] for _ in range(30)} == {200}
    undeploy("refusing")


# ---------------------------------------------------------------- killed verbs


@pytest.mark.slow
def test_a_change_killed_at_many_moments(here: Site) -> None:
    """`kill -9` of the verb, anywhere: the endpoint answers all the time, by one plan, and the next command knows which."""
    from aiplat.release.endpoint import deploy, undeploy

    url = deploy("credit/1", endpoint="killed").url

    def change(number: int) -> list[str]:
        return ["deploy", "credit/1", "--endpoint", "killed", "--canary", f"2={10 + number}%"]

    began = time.monotonic()
    run_cli(*change(0), cwd=here.ws.root)
    whole = time.monotonic() - began
    moments, seen = random.Random(1), Counter()
    for number in range(1, 1 + (60 if CAMPAIGN else 4)):
        process = warm.begin(
            change(number), here.ws.root, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + whole * moments.uniform(0.5, 1.0)
        while time.monotonic() < end and process.poll() is None:
            assert ask(url, here.rows[:1])[0] == 200
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        left = ledger.unfinished(here.ws, subject("killed"))
        seen["half-done" if left else "whole"] += 1
        assert len(left) <= 1
        plan = sound(here.ws, "killed")
        assert plan is not None and plan.arms[1].weight in {1000 + 100 * n for n in range(number + 1)}
        wait(lambda plan=plan: _generations(here.ws, "killed") == {plan.generation})
        assert {int(ask(url, here.rows[:1])[2]["x-model-version"]) for _ in range(10)} <= set(plan.versions)
    run_cli(*change(99)[:-1], "2=99%", cwd=here.ws.root)
    assert sound(here.ws, "killed").arms[1].weight == 9900
    if CAMPAIGN:
        assert seen["half-done"], "no moment was in the middle of the work"
    undeploy("killed")


def _generations(ws: Any, name: str) -> set[int]:
    from aiplat.release.serving import server

    found = server.running(ws, name)
    return set(found.generations.values()) if found else set()
