"""The Production page as people see it: a real endpoint with a canary, its traffic, a drift that raised an alert, a version that was taken out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiplat.core import workspace
from aiplat.core.errors import UserError
from aiplat.frontends import dashboards
from tests.browser.homes import Homes, Visit
from tests.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HURT = '<img src=x onerror="window.hurt=1">'
DAYS = 8
RULES = """
[serving]
workers = 1
port = {port}
gate =

[rails]
limits = error_rate <= 0.05, p99 <= 900ms
minimum = 30

[monitor]
alerts = drift.psi.income > 0.2 for 2 windows, roc_auc < 0.5, impact_ratio.sex < 0.2, missing.savings > 0.5
window = 1d
minimum = 100
"""


def _models(ws: Any) -> Any:
    """Two versions; the second has learned less. One of their columns has a hostile name."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from aiplat.data.sample import credit
    from aiplat.release.versions import register
    from aiplat.training.runs import log_run

    people = (
        credit(rows=4000, seed=3).rename(columns={"age": HURT})[["income", "savings", HURT, "sex", "approved"]].dropna()
    )
    people = people.reset_index(drop=True)
    for strength in (1.0, 0.0005):
        columns = make_column_transformer((OneHotEncoder(), ["sex"]), (StandardScaler(), ["income", "savings", HURT]))
        model = make_pipeline(columns, LogisticRegression(C=strength)).fit(
            people[:1500].drop(columns="approved"), people["approved"][:1500]
        )
        about = {
            "task": "binary",
            "target": "approved",
            "positive": "1",
            "features": ["income", "savings", HURT, "sex"],
            "sensitive": ["sex"],
        }
        log_run(ws, "train", model, train=people[:1500], test=people[1500:2200], **about)
        register("last", "credit")
    ws.client().set_registered_model_alias("credit", "production", "1")
    return people[2200:].reset_index(drop=True)


def _past(ws: Any, people: Any) -> float:
    """Days of answers as the workers would have written them; income rises in the last three, and the truth of the last two is not known.

    The midnight with which they end, in UTC seconds.
    """
    import pandas as pd

    from aiplat.core.refs import find_model, load_model
    from aiplat.release.serving.answers import Answers
    from aiplat.release.serving.journal import Journal
    from aiplat.release.truth import truth

    version = find_model(ws, "credit/1")
    model, draw = load_model(ws, version), np.random.default_rng(4)
    journal = Journal(ws.state / "predictions", endpoint="credit", worker="past")
    midnight, known = time.time() // 86_400 * 86_400, []
    for day in range(DAYS):
        rows = people.sample(300, random_state=day).copy()
        if day >= DAYS - 3:
            rows["income"] *= 1.9
        rows.loc[draw.uniform(size=len(rows)) < 0.02 * day, "savings"] = np.nan
        X = rows.drop(columns="approved")
        scores = model.predict_proba(X.fillna({"savings": 4.0}))
        said = np.where(scores[:, 1] > 0.5, 1, 0)
        columns = {name: X[name].to_numpy(object if name == "sex" else float) for name in X}
        at = midnight - 86_400 * (DAYS - day) + 3_600
        assert journal.add(
            f"day-{day}", 1, version.model_digest, "champion", columns, Answers(said, scores, ("0", "1")), at, 0.002
        )
        if day < DAYS - 2:
            known.append(
                pd.DataFrame(
                    {"request_id": f"day-{day}", "row": range(len(rows)), "approved": rows["approved"].to_numpy()}
                )
            )
    journal.close()
    truth("credit", pd.concat(known), target="approved", row="row")
    return midnight


def ask(url: str, rows: Any, name: str) -> None:
    """Send a request for each row."""
    for number, row in enumerate(rows.drop(columns="approved").to_dict("records")):
        request = urllib.request.Request(f"{url}/predict", json.dumps({"records": [row]}).encode())
        request.add_header("content-type", "application/json")
        request.add_header("x-request-id", f"{name}-{number}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["predictions"]) == 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, str, Any]]:
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.release import rails
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.serving.changes import history
    from aiplat.release.serving.limits import Found

    ws, before = workspace.create(tmp_path_factory.mktemp("credit"), user="ana"), Path.cwd()
    with (ws.root / "settings.ini").open("a") as file:
        file.write(RULES.format(port=free_port()))
    ws = workspace.workspace(ws.root)
    os.chdir(ws.root)
    try:
        people = _models(ws)
        midnight = _past(ws, people)
        deploy("credit", reason="the first")
        deploy("credit", canary="2=10%", reason="smaller weights")
        broke = Found(
            "error_rate <= 0.05",
            2,
            False,
            "31 of 200 are 15.5 % (always between 9.02 and 24.2 %)",
            {"value": 0.155, "n": 200},
        )
        assert rails.act(ws, "credit", history(ws, "credit")[-1].plan, broke), "as the watcher would"
        url = deploy("credit", canary="2=30%", reason="mended").url
        ask(url, people[:120], "now")
        # not by the clock, to which today may have become a ninth day meanwhile
        check_endpoint(ws, "credit", midnight + 60)
        yield ws, dashboards.dashboard(background=True).address, url, people
    finally:
        dashboards.end(ws)
        with contextlib.suppress(UserError):  # when it was never deployed
            undeploy("credit")
        os.chdir(before)


@pytest.fixture
def visit(served: Any, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    place, _, token = served[1].partition("/voila/render/portfolio.ipynb?token=")
    here = type("Served", (), {"address": place, "token": token})()
    opened = Visit(browser, here, Path(os.environ.get("SCREENSHOTS") or tmp_path))  # type: ignore[arg-type]
    yield opened
    opened.close()


def _open(visit: Visit, theme: str = "light", more: str = "") -> Any:
    page = visit.page(f"/voila/render/production.ipynb?theme={theme}{more}", 1280)
    page.wait_for_selector(".aiplat-production :is(.endpoint, .start)", timeout=120_000)
    return page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_canary_a_drift_and_a_version_that_was_taken_out(served: Any, visit: Visit, theme: str) -> None:
    page = _open(visit, theme)
    text = page.inner_text(".aiplat-production")
    for said in (
        "1 of 1", "answers at http://127.0.0.1", "1 of 1 worker", "credit/1", "champion", "credit/2", "canary", "70 %", "30 %",
        "1 gets 70 %, 2 gets 30 %", "by ana: mended", "a version was taken out", "credit/2 broke error_rate <= 0.05", "ledger #", "guard rails",
        "drift.psi.income is not as it should be", "aiplat monitor report credit", "8 windows of 1d", "impact ratio by sex", "estimated",
        "savings", "How good it is", "Its columns moved", "worst first", "the truth is known of", HURT,
    ):  # fmt: skip
        assert said in text, said
    columns = page.locator(".group:has-text('Its columns moved') .course h4").all_inner_texts()
    assert columns[0] == "income" and HURT in columns, "the worst first"
    pictures = page.locator(".course [role=img]")
    names = [
        page.evaluate("e => document.getElementById(e.getAttribute('aria-labelledby')).textContent", each)
        for each in pictures.element_handles()
    ]
    assert any(name.startswith("income: ") and "its alert stands" in name for name in names), names
    assert page.locator(".menu [aria-current=page]").inner_text() == "Production"
    assert page.locator(".aiplat-production :is(button, input:not([type=hidden]), a)").count() == 6, (
        "ways to pages, and nothing to press"
    )
    assert page.evaluate("[window.hurt, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    back = page.evaluate("getComputedStyle(document.querySelector('.aiplat-page section.endpoint')).backgroundColor")
    assert (sum(int(part) for part in back.strip("rgba()").split(",")[:3]) < 200) == (theme == "dark")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 1600})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        visit.keep(page, f"production-{theme}-{width}", full_page=True)
        assert not visit.axe(page, ".aiplat-production")
    assert not visit.wrong(page)


def test_it_keeps_itself_fresh_and_leaves_alone_what_did_not_change(served: Any, visit: Visit) -> None:
    _, _, url, people = served
    page = _open(visit)
    count = "Number(document.querySelectorAll('.figure dd')[1].innerText.replaceAll(',', ''))"
    before = page.evaluate(count)
    page.evaluate("""() => {
      window.touched = new Set();
      new MutationObserver((all) => all.forEach((m) => window.touched.add((m.target.closest ?? (() => null)).call(m.target, '[data-part]')?.dataset.part
        ?? m.target.parentElement?.closest('[data-part]')?.dataset.part))).observe(document.querySelector('.aiplat-production'), { subtree: true, childList: true, characterData: true });
      window.kept = document.querySelector('.course h4');
    }""")
    ask(url, people[120:160], "later")
    page.wait_for_function(f"{count} === {before + 40}", timeout=60_000)
    assert page.evaluate("window.kept.isConnected")
    assert "then-0" not in page.evaluate("[...window.touched]"), "the pictures were not touched"


@pytest.fixture(scope="module")
def stream(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same model answers messages of a Redis; three of sixty cannot be answered."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: pip install 'aiplat[streams]'")
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server here: apt-get install redis-server")
    from aiplat.release.stream import folder_of
    from aiplat.release.streaming.running import reports
    from tests.test_stream import Redis, streaming, until

    ws, _, _, people = served
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    rows = people.drop(columns="approved").to_dict("records")[:60]
    for number, row in enumerate(rows):
        server.client().xadd("applications", {"data": b"no JSON" if number % 20 == 7 else json.dumps(row).encode()})
    words = ("credit", "--from", server.uri("applications"), "--to", server.uri("decisions"), "--name", "letters")
    try:
        with streaming(*words) as process:
            told = lambda: [(each.answered, each.buried) for each in reports(folder_of(ws, "letters"))]  # noqa: E731
            until(lambda: told() == [(57, 3)], process)  # what was done is told now and then
            assert server.client().xlen("decisions") == 57
            yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.stop()


def test_the_panel_of_jupyterlab_shows_who_answers(
    served: Any, stream: Any, browser: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ws, _, url, people = served
    homes = Homes(ws.root, tmp_path_factory.mktemp("jupyter"))
    opened = Visit(browser, homes.start(), Path(os.environ.get("SCREENSHOTS") or tmp_path))
    try:
        page = opened.lab()
        opened.command(page, "aiplat:show-panel")
        rows = "#aiplat-endpoints .aip-Row"
        page.wait_for_selector(f"{rows} >> text=credit/2")
        ask(url, people[160:200], "panel")
        page.wait_for_function(
            "document.querySelector('#aiplat-endpoints .aip-Row').innerText.match(/[1-9][0-9.]*\\/s/)"
        )
        page.wait_for_selector(f"{rows} >> text=0 waiting", timeout=60_000)
        first, champion, canary, letters = page.locator(rows).all_inner_texts()
        assert "1 alert" in first and "champion" in champion and "70 %" in champion and "30 %" in canary
        assert all(said in letters for said in ("letters", "3 dead", "0 waiting")), letters
        page.locator(rows).nth(3).click()
        page.wait_for_selector(".aip-Detail .aiplat :text('1 process runs')", timeout=120_000)
        told = page.inner_text(".aip-Detail:visible")
        assert f"redis://127.0.0.1:{stream.port}/applications" in told and "0 messages wait" in told
        for theme in ("light", "dark"):
            opened.dress(page, theme)
            opened.keep(page, f"panel-stream-{theme}")
            assert not opened.axe(page, ".aip-Panel") and not opened.axe(page, ".aip-DetailTab")
        page.focus("#aiplat-endpoints .aip-List")
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        page.wait_for_selector(".aip-Detail .aiplat h4:has-text('Guard rails')", timeout=120_000)
        told = page.inner_text(".aip-Detail:visible")
        for said in (
            "answers at http://127.0.0.1",
            "credit/1",
            "champion",
            "Changes of traffic",
            "aiplat monitor report credit",
            HURT,
        ):
            assert said in told, said
        for theme in ("light", "dark"):
            opened.dress(page, theme)
            opened.keep(page, f"panel-endpoints-{theme}")
            assert not opened.axe(page, ".aip-Panel") and not opened.axe(page, ".aip-DetailTab")
        assert page.evaluate("[window.hurt, document.querySelectorAll('img[src=x]').length]") == [None, 0]
        page.click("[title='Open the dashboards: Production']")
        way = page.locator(".aip-Dashboards a:has-text('Production')")
        way.wait_for(timeout=120_000)  # a job asks the server of the dashboards for its address, or starts it
        assert "/voila/render/production.ipynb?token=" in (way.get_attribute("href") or "")
        for theme in ("light", "dark"):
            opened.dress(page, theme)
            opened.keep(page, f"panel-dashboards-{theme}")
        assert not opened.wrong(page)
    finally:
        opened.close()
        homes.stop()


def test_a_stream_how_far_it_is_and_what_it_could_not_answer(served: Any, stream: Any, visit: Visit) -> None:
    page = _open(visit)
    page.wait_for_selector(".stream :text('0 messages wait')", timeout=60_000)
    text = page.inner_text(".stream")
    for said in (
        "letters",
        "1 process answers with credit/1",
        f"redis://127.0.0.1:{stream.port}/applications",
        "decisions.dead",
        "Processes",
    ):
        assert said in text, said
    cells = page.locator(".stream .processes tbody tr").first.locator("td").all_inner_texts()
    assert cells[1:4] == ["credit/1", "57", "3"], cells
    assert "3 messages could not be answered" in page.inner_text(".steps.good")
    assert "endpoints and streams that answer" in page.inner_text(".aiplat-production") and "2 of 2" in page.inner_text(
        ".figure"
    )
    for theme in ("light", "dark"):
        page = _open(visit, theme)
        page.wait_for_selector(".stream :text('0 messages wait')", timeout=60_000)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 1600})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
            page.locator(".stream").scroll_into_view_if_needed()
            visit.keep(page, f"production-stream-{theme}-{width}")
            assert not visit.axe(page, ".stream")
    stream.stop()
    try:
        page.wait_for_selector(".stream.unwell", timeout=90_000)
        assert "2 of 2" in page.inner_text(".figure:nth-child(1)"), "the process waits for its server"
        assert "aiplat stream status letters" in page.inner_text(".steps.must")
        assert not visit.wrong(page)
    finally:
        stream.start()  # for whoever asks next


def test_the_model_and_the_portfolio_lead_here_and_back(served: Any, visit: Visit) -> None:
    for name, ready in (("portfolio", ".seat"), ("model", ".posts")):
        page = visit.page(f"/voila/render/{name}.ipynb?model=credit%2F1&theme=dark", 1280)
        page.wait_for_selector(f".aiplat-page {ready}", timeout=120_000)
        assert "answers people at the endpoint credit: champion" in page.inner_text(".aiplat-page")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 1600})
            visit.keep(page, f"way-{name}-{width}")
        way = page.locator("button:has-text('credit in production')")
        way.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".aiplat-production .endpoint", timeout=120_000)
        assert "endpoint=credit" in page.url and "theme=dark" in page.url
        page.locator("button:has-text('all about credit/1')").press("Enter")
        page.wait_for_selector(".aiplat-model .posts", timeout=120_000)
        # whoever leaves a page tells Voila so; Voila answers 403 to a page that it has let go already
        assert not [said for said in visit.wrong(page) if "/voila/api/shutdown/" not in said]
        page.close()


def test_one_endpoint_and_none(served: Any, visit: Visit) -> None:
    page = _open(visit, more="&endpoint=debit")
    text = page.inner_text(".aiplat-production")
    assert "there is no endpoint 'debit'" in text and "aiplat deploy NAME" in text
    page.close()
    page = _open(visit, more="&endpoint=credit")
    assert "answers at" in page.inner_text(".aiplat-production")


def test_without_an_endpoint_it_says_what_to_do_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Any
) -> None:
    ws = workspace.create(tmp_path / "new", user="ana")
    monkeypatch.chdir(ws.root)
    try:
        page = offline(dashboards.dashboard(background=True).address.replace("portfolio.ipynb", "production.ipynb"))
        page.wait_for_selector(".aiplat-production .start", timeout=120_000)
        assert "aiplat deploy NAME --canary 2=10%" in page.inner_text(".aiplat-production")
        assert not (ws.state / "ledger.db").exists() and not (ws.state / "endpoints").exists(), "looking makes nothing"
    finally:
        dashboards.end(ws)
