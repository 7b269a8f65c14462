"""The Operations page as people see it: a bad night, told in light and dark, on desk and phone; fresh while looked at, silent when hidden."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiplat.core import workspace
from aiplat.frontends import dashboards
from aiplat.operations.pipelines import tables
from tests.browser.conftest import PICTURES
from tests.nights import fortnight

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    ws, before = workspace.create(tmp_path_factory.mktemp("credit"), user="ana"), Path.cwd()
    fortnight(ws, time.time(), HOSTILE)
    os.chdir(ws.root)
    try:
        yield ws, dashboards.dashboard(background=True).address.replace("portfolio.ipynb", "operations.ipynb")
    finally:
        dashboards.end(ws)
        os.chdir(before)


def _keep(page: Any, name: str, tmp_path: Path) -> None:
    picture = Path(os.environ.get(PICTURES) or tmp_path) / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_morning_after_a_bad_night(served: Any, offline: Any, theme: str, tmp_path: Path) -> None:
    page = offline(f"{served[1]}&theme={theme}")
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.wait_for_selector(".aiplat-operations .wrong", timeout=120_000)
    text = page.inner_text(".aiplat-operations")
    for said in (
        "nightly failed in check", "income has 12 % gaps", "cell 4: checked = check(data, contract)", "aiplat pipeline resume",
        "2 of 6 steps", "cell 5 of 9: model = train", "1 run waits in the queue", "never run yet", "no scheduler runs: no schedule fires",
        "at 02:00", "paused 9 d ago", "Cluster", "memory of this machine", "a new snapshot of credit", HOSTILE,
    ):  # fmt: skip
        assert said in text, said
    assert page.locator("img[src=x]").count() == 0 and not wrong
    assert page.locator(".aiplat-operations :is(button, input:not([type=hidden]), a)").count() == 5, (
        "the ways to the pages, and nothing to press"
    )
    assert page.locator(".menu [aria-current=page]").inner_text() == "Operations"
    back = page.evaluate("getComputedStyle(document.querySelector('.aiplat-page section.all')).backgroundColor")
    assert (sum(int(part) for part in back.strip("rgba()").split(",")[:3]) < 200) == (theme == "dark")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 1600})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        _keep(page, f"operations-{theme}-{width}", tmp_path)


WATCH = """() => {
  window.changes = [];
  const home = document.querySelector('.aiplat-operations');
  new MutationObserver((all) => window.changes.push(...all.filter((m) => m.type !== 'characterData') // "4 min ago" may become "5 min ago"
    .map((m) => m.target.parentElement?.closest('[data-part]')?.dataset.part ?? '?')))
    .observe(home, { subtree: true, childList: true, characterData: true, attributes: true });
  window.kept = document.querySelector('.under h4');
  getSelection().selectAllChildren(window.kept);
}"""


def test_only_what_changes_is_changed(served: Any, offline: Any) -> None:
    import sqlalchemy as sa

    ws, address = served
    page = offline(address)
    page.wait_for_selector(".aiplat-operations .under", timeout=120_000)
    page.evaluate(WATCH)
    steps = tables.steps_table()
    one = steps.c.key == "train[segment=north]"
    with ws.engine().begin() as connection:
        before = connection.execute(sa.select(steps.c.cell, steps.c.line).where(one)).one()
        connection.execute(sa.update(steps).where(one).values(cell=7, line="model.score(rest)"))
    try:
        page.wait_for_function(
            "document.querySelector('.under').innerText.includes('cell 7 of 9: model.score(rest)')", timeout=60_000
        )
    finally:
        with ws.engine().begin() as connection:
            connection.execute(sa.update(steps).where(one).values(cell=before.cell, line=before.line))
    assert page.evaluate("window.kept.isConnected && getSelection().toString() === window.kept.innerText"), (
        "what was selected stays"
    )
    assert not {"pipelines", "schedules", "wrong", "style"} & set(page.evaluate("window.changes")), (
        "the rest was not touched"
    )


def test_a_hidden_page_asks_nothing(served: Any, offline: Any) -> None:
    page = offline("about:blank")
    sent: list[str] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame)) if "look" in str(frame) else None),
    )
    page.goto(served[1])
    page.wait_for_selector(".aiplat-operations .under", timeout=120_000)
    page.wait_for_timeout(100)
    asked = lambda: len(sent)  # noqa: E731
    deadline = time.monotonic() + 60
    while asked() < 2 and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert asked() >= 2, "it asks while it is seen"
    hide = "Object.defineProperty(document, 'hidden', { configurable: true, get: () => %s }); document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true")
    page.evaluate("window.ticks = 0; setInterval(() => window.ticks++, 1000)")
    before = asked()
    page.wait_for_function("window.ticks >= 8", timeout=60_000)
    assert asked() == before, "hidden, it asks nothing"
    page.evaluate(hide % "false")
    while asked() == before and time.monotonic() < deadline + 60:
        page.wait_for_timeout(200)
    assert asked() > before, "seen again, it asks at once"


def test_a_page_whose_server_is_gone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Any) -> None:
    ws = workspace.create(tmp_path / "new", user="ana")
    monkeypatch.chdir(ws.root)
    try:
        page = offline(dashboards.dashboard(background=True).address.replace("portfolio.ipynb", "operations.ipynb"))
        page.wait_for_selector(".aiplat-operations .start", timeout=120_000)
        assert "aiplat pipeline run nightly" in page.inner_text(".aiplat-operations")
        assert not (ws.state / "ledger.db").exists(), "looking makes nothing"
        _keep(page, "operations-empty", tmp_path)
    finally:
        dashboards.end(ws)
    page.wait_for_selector(".aiplat-operations[data-old]", timeout=90_000)
