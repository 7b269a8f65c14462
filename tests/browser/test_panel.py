"""The side panel as people use it: live, with ten thousand runs, by keyboard, over a restarted server, light and dark, in Lab and Notebook 7."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import crowd, models
from tests.browser.conftest import PICTURES
from tests.browser.homes import HELD, SLOW, Homes, Visit, until, write_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RUNS, VERSIONS = 10_000, 500
NAMED = "() => document.querySelector('.lm-DockPanel-tabBar .lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel')?.innerText.includes('zebra')"
PANEL, LIST = ".aip-Panel", "#aiplat-{} .aip-List"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace with many runs and versions, and a notebook that waits for a file in its second cell and for another in its third."""
    ws = models.governed(tmp_path_factory.mktemp("panel") / "credit-risk")
    crowd.crowd(ws, RUNS, VERSIONS)
    wait = "import time\nfrom pathlib import Path\nwhile not Path('{}').exists():\n    time.sleep(0.05)"
    waits = [(wait.format(name), ()) for name in ("on", "go")]
    write_notebook(ws.root / "night.ipynb", [("rows: int = 3", ("parameters",)), *waits, ("print(rows)", ())])
    return ws


@pytest.fixture(scope="module")
def home(busy: Any, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    own = {"AIPLAT_USER": "ana", "AIPLAT_RAY": "local"}  # Ray is started and stopped from the panel
    served = Homes(busy.root, tmp_path_factory.mktemp("jupyter"), environment=own)
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture
def look(home: Homes, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    opened = Visit(browser, home, Path(os.environ.get(PICTURES) or tmp_path))
    yield opened
    opened.close()


def show(look: Visit, page: Any) -> None:
    """Open the panel and wait for what it asks the server."""
    look.command(page, "aiplat:show-panel")
    for section in ("models", "runs"):
        page.wait_for_selector(LIST.format(section) + " .aip-Row", timeout=SLOW)
    page.wait_for_selector("#aiplat-cluster .aip-Cluster-line", timeout=SLOW)
    page.wait_for_function(
        "() => document.querySelector('.aip-Where-place')?.textContent === 'credit-risk'", timeout=SLOW
    )


def row(page: Any, section: str, text: str) -> Any:
    return page.locator(f"{LIST.format(section)} .aip-Row", has_text=text)


def focused(page: Any) -> str:
    """The name of the row on which the keyboard is."""
    return page.evaluate("""() => { const list = document.activeElement;
        const row = document.getElementById(list?.getAttribute('aria-activedescendant') ?? '');
        return row?.getAttribute('aria-label') ?? ''; }""")


def to_the_end(page: Any, rows: str, last: str) -> None:
    """Press End, and again when more has come, until the last row of all is the current one."""
    height = "document.querySelector(rows + ' .aip-List-space').style.height"
    for _ in range(RUNS):
        before = page.evaluate(f"rows => {height}", rows)
        page.press(rows, "End")
        if focused(page).startswith(last):
            return
        page.wait_for_function(f"([rows, before]) => {height} !== before", arg=[rows, before], timeout=SLOW)


@pytest.mark.parametrize("where", ["lab", "notebook"])
def test_looks_right_and_runs_nothing(look: Visit, busy: Any, where: str) -> None:
    page = look.lab() if where == "lab" else look.notebook("night.ipynb")
    show(look, page)
    row(page, "models", "credit").first.locator(".aip-Row-twisty").click()
    row(page, "models", f"v{VERSIONS}").wait_for(timeout=SLOW)
    for text in (crowd.MARKUP, "zebra", "xxxx", "مرحبا"):
        row(page, "runs", text).first.wait_for(timeout=SLOW)
    for theme in ("light", "dark"):
        look.dress(page, theme)
        assert not look.axe(page, ".aip-Place"), theme
        look.keep(page, f"panel-{where}-{theme}")
    row(page, "runs", crowd.MARKUP).first.click()
    page.wait_for_selector(".aip-Detail .aiplat", timeout=SLOW)
    for theme in ("dark", "light"):
        look.dress(page, theme)
        assert not look.axe(page, ".aip-DetailTab"), theme
        look.keep(page, f"panel-detail-{where}-{theme}")
    assert page.evaluate("window.__ran") is None
    wide = page.evaluate("""() => [...document.querySelectorAll('.aip-Place, .aip-List')]
        .filter(each => each.scrollWidth > each.clientWidth + 1).length""")
    assert wide == 0
    assert not look.wrong(page)


def test_follows_what_others_do(look: Visit, busy: Any, home: Homes) -> None:
    page = look.lab(script=HELD)
    show(look, page)
    run = crowd.log(busy, "begun elsewhere", state="RUNNING")
    mine = row(page, "runs", "begun elsewhere")
    mine.locator(".aip-mod-busy").wait_for(timeout=SLOW)
    page.wait_for_function("() => document.querySelector('.jp-AccordionPanel-title[data-id=aiplat-runs], "
                           ".jp-AccordionPanel-title:has(+ #aiplat-runs)')?.textContent.includes('1 running')", timeout=SLOW)  # fmt: skip
    # the time that it takes is drawn anew every second, and a click that lasts longer is one all the same
    box = mine.bounding_box()
    page.mouse.move(box["x"] + 90, box["y"] + 12)
    page.mouse.down()
    page.wait_for_function(
        "([row, said]) => row.textContent !== said", arg=[mine.element_handle(), mine.inner_text()], timeout=SLOW
    )
    page.mouse.up()
    page.wait_for_selector(".aip-Detail", timeout=SLOW)
    busy.client().log_metric(run, "roc_auc", 0.8125)
    busy.client().set_terminated(run)
    mine.locator(".aip-mod-good").wait_for(timeout=SLOW)
    assert "0.8125" in mine.inner_text()

    busy.client().set_registered_model_alias("credit", "challenger", str(VERSIONS))
    page.locator(f"{LIST.format('models')} .aip-Row[aria-label*='challenger is version {VERSIONS}']").wait_for(
        timeout=SLOW
    )

    command = [sys.executable, "-m", "aiplat", "pipeline", "run", "night.ipynb"]
    night = subprocess.Popen(
        command, cwd=home.root, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        runs = page.locator("#aiplat-pipelines-and-schedules .aip-Row[data-kind=pipeline-run]")
        runs.filter(has_text="cell 2/4").locator(".aip-mod-busy").wait_for(timeout=SLOW)
        # what was told while the server answered is newer than the answer, and may be told for the last time
        page.evaluate("window.__hold = '/aiplat/api/pipelines'")
        page.locator(".aip-Where button").click()
        page.wait_for_function("() => window.__held > 0", timeout=SLOW)
        (home.root / "on").touch()
        going = runs.filter(has_text="cell 3/4")
        going.locator(".aip-mod-busy").wait_for(timeout=SLOW)
        page.evaluate("window.__hold = null")
        page.wait_for_timeout(500)
        assert going.locator(".aip-Row-bar").count() == 1
        look.keep(page, "panel-pipeline")
        (home.root / "go").touch()
        page.locator("#aiplat-pipelines-and-schedules .aip-Row[data-kind=pipeline-run] .aip-mod-good").wait_for(
            timeout=SLOW
        )
        assert night.wait(60) == 0
    finally:
        (home.root / "on").touch()
        (home.root / "go").touch()
        if night.poll() is None:
            night.kill()
    assert not look.wrong(page)


def test_ten_thousand_runs_scroll(look: Visit, busy: Any) -> None:
    page = look.lab(script=HELD)
    show(look, page)
    to_the_end(page, LIST.format("runs"), "run 0,")
    assert focused(page).startswith("run 0,")
    assert page.locator(LIST.format("runs") + " .aip-Row").count() < 80
    last = page.locator(LIST.format("runs") + " .aip-Row[aria-label^='run 0,']")
    assert int(last.get_attribute("aria-setsize")) >= RUNS and last.get_attribute(
        "aria-posinset"
    ) == last.get_attribute("aria-setsize")
    look.keep(page, "panel-bottom")
    # a change does not move what is looked at, and what is looked at is asked again
    crowd.log(busy, "came while at the end")
    title = page.locator(LIST.format("runs") + " .aip-Row[aria-label^='run 0,']")
    page.wait_for_function("n => Number(document.querySelector('#aiplat-runs .aip-Row[aria-label^=\"run 0,\"]')?.getAttribute('aria-setsize')) > n",
                           arg=int(last.get_attribute("aria-setsize") or 0) - 1, timeout=SLOW)  # fmt: skip
    assert title.is_visible()
    page.keyboard.press("Home")
    row(page, "runs", "came while at the end").wait_for(timeout=SLOW)

    row(page, "models", "credit").first.locator(".aip-Row-twisty").click()
    row(page, "models", f"v{VERSIONS}").wait_for(timeout=SLOW)
    # more comes also when all was asked anew while it was on its way
    page.evaluate("window.__hold = '/aiplat/api/models?name='")
    page.press(LIST.format("models"), "End")
    page.wait_for_function("() => window.__held > 0", timeout=SLOW)
    anew = lambda answer: "/aiplat/api/models?" in answer.url and "name=" not in answer.url  # noqa: E731
    with page.expect_response(anew, timeout=SLOW):
        busy.client().set_registered_model_alias("credit", "rival", str(VERSIONS))
    page.wait_for_timeout(500)  # until it is shown
    height = "document.querySelector('#aiplat-models .aip-List-space').clientHeight"
    before = page.evaluate(height)
    page.evaluate("window.__hold = null")
    page.wait_for_function(f"before => {height} > before", arg=before, timeout=SLOW)
    to_the_end(page, LIST.format("models"), "v1,")
    page.locator(LIST.format("models") + " .aip-Row[aria-label^='v1,']").wait_for(timeout=SLOW)
    assert page.locator(LIST.format("models") + " .aip-Row").count() < 80
    assert not look.wrong(page)


def test_an_answer_older_than_a_change_is_asked_again(look: Visit, busy: Any, home: Homes) -> None:
    page = look.lab(script=HELD)
    show(look, page)
    newest = home.ask("/aiplat/api/runs?limit=110")["runs"]
    known = page.evaluate("document.querySelector('#aiplat-runs .aip-List-space').clientHeight")
    # the next page of runs is on its way when one of them changes, and the list is asked for anew
    page.evaluate("window.__hold = 'before='")
    page.press(LIST.format("runs"), "End")
    page.wait_for_function("() => window.__held > 0", timeout=SLOW)
    with page.expect_response(
        lambda answer: "/runs?limit=100" in answer.url and "before=" not in answer.url, timeout=SLOW
    ):
        busy.client().set_terminated(newest[104]["id"], "FAILED")
        busy.client().update_run(newest[9]["id"], name="renamed while a page was on its way")
    page.wait_for_timeout(3000)  # until it is shown, and nothing else is told
    page.evaluate("window.__hold = null")
    page.wait_for_function(
        "known => document.querySelector('#aiplat-runs .aip-List-space').clientHeight > known", arg=known, timeout=SLOW
    )
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    row(page, "runs", newest[104]["name"]).locator(".aip-mod-bad").wait_for(timeout=SLOW)
    assert not look.wrong(page)


def test_a_job_that_ends_before_its_start_is_answered(look: Visit, busy: Any) -> None:
    from aiplat.core import stack

    stack.record(busy, ray={"address": "127.0.0.1:9", "processes": [{"pid": 2**22 + 1, "created": 0.0}], "folder": ""})
    page = look.lab(script=HELD)
    show(look, page)
    page.locator(".aip-Cluster-line", has_text="Ray has died").wait_for(timeout=SLOW)
    stop, start = (page.locator(f".aip-Panel button[title='{what} the cluster']") for what in ("Stop", "Start"))
    page.evaluate("window.__hold = '/aiplat/api/jobs'")
    stop.click()
    news = page.locator(".aip-Cluster-news")
    news.filter(has_text="Stopping").wait_for(timeout=SLOW)
    page.locator(".aip-Cluster-line", has_text="Ray does not run").wait_for(timeout=SLOW)
    news.filter(has_not_text="Stopping").wait_for(state="attached", timeout=SLOW)
    page.evaluate("window.__hold = null")
    page.wait_for_timeout(500)
    assert not news.inner_text() and start.is_enabled()
    assert not look.wrong(page)


def test_a_question_that_failed_is_asked_again(look: Visit, busy: Any) -> None:
    """A proxy may lose answers while it keeps the line of events: nothing else would ask then."""
    page = look.lab()
    show(look, page)
    asked = re.compile(r"/aiplat/api/(\?.*|runs\?.*)?$")
    page.route(asked, lambda route: route.fulfill(status=504))
    crowd.log(busy, "told while a proxy lost it")
    page.locator(".aip-Where button").click()
    banner, problem = page.locator(".aip-Banner"), page.locator("#aiplat-runs .aip-Section-problem")
    for told in (banner, problem):
        told.filter(has_text="504").wait_for(timeout=SLOW)
    page.unroute(asked)
    row(page, "runs", "told while a proxy lost it").wait_for(timeout=SLOW)
    for told in (banner, problem):
        told.wait_for(state="hidden", timeout=SLOW)
    assert all("504" in said for said in look.wrong(page))


def test_by_keyboard_alone(look: Visit, busy: Any) -> None:
    page = look.lab()
    page.wait_for_selector(".jp-LauncherCard", timeout=SLOW)
    page.keyboard.press("Control+Shift+C")
    page.wait_for_selector(".lm-CommandPalette-input:focus", timeout=SLOW)
    page.keyboard.type("panel of aiplat")
    page.wait_for_selector(".lm-CommandPalette-item.lm-mod-active[data-command='aiplat:show-panel']", timeout=SLOW)
    page.keyboard.press("Enter")
    page.wait_for_selector(LIST.format("models") + " .aip-Row", timeout=SLOW)
    page.wait_for_function("() => document.activeElement?.classList.contains('aip-List')", timeout=SLOW)
    while not focused(page).startswith("credit"):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"{LIST.format('models')} .aip-Row[data-id='credit/{VERSIONS}']", timeout=SLOW)
    page.keyboard.press("ArrowRight")
    assert focused(page).startswith(f"v{VERSIONS}")
    page.keyboard.press("ArrowLeft")
    assert focused(page).startswith("credit")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+F10")
    page.wait_for_selector(".lm-Menu-item[data-command='aiplat:verb-of-row']", timeout=SLOW)
    assert "Promote…" in page.inner_text(".lm-Menu")
    look.keep(page, "panel-menu")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".aip-Detail .aiplat", timeout=SLOW)
    page.wait_for_function("() => document.activeElement?.classList.contains('aip-Detail')", timeout=SLOW)
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('.jp-Toolbar') !== null")
    # from section to section with the Tab key alone
    page.focus(LIST.format("models"))
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.closest('.aip-Section')?.id ?? document.activeElement.className")
        )
        if "aiplat-cluster" in str(reached):
            break
    assert "aiplat-runs" in reached
    assert not look.wrong(page)


def test_tabs_come_back_after_a_reload(look: Visit, busy: Any) -> None:
    page = look.lab()
    show(look, page)
    row(page, "runs", "zebra").first.click()
    page.wait_for_selector(".aip-Detail .aiplat", timeout=SLOW)
    page.wait_for_function(NAMED, timeout=SLOW)  # the tab is named a frame later than it is filled
    # the layout itself is saved last, when the tab has its place in front
    until(
        page,
        """() => fetch('/lab/api/workspaces/' + location.pathname.split('/').pop()).then(answer => answer.json())
        .then(saved => saved.data?.['layout-restorer:data']?.main?.current?.startsWith('aiplat-detail:run:'))""",
    )
    page.reload(wait_until="load")
    look.ready(page)
    page.wait_for_selector(".aip-Detail .aiplat", timeout=SLOW)
    page.wait_for_function(NAMED, timeout=SLOW)
    assert not look.wrong(page)


def test_hidden_it_asks_nothing(look: Visit, busy: Any) -> None:
    page = look.lab()
    asked: list[str] = []
    own = re.compile(r"/aiplat/api/(?!incidents/events)")  # what goes wrong is told without the panel
    page.on("request", lambda request: asked.append(request.url) if own.search(request.url) else None)
    show(look, page)
    assert any("/aiplat/api/events" in url for url in asked)
    with page.expect_event("requestfailed", lambda request: "/aiplat/api/events" in request.url, timeout=SLOW):
        look.command(page, "application:toggle-left-area")
    asked.clear()
    other = look.lab()
    show(look, other)
    crowd.log(busy, "seen in the other window")
    row(other, "runs", "seen in the other window").wait_for(timeout=SLOW)
    assert not asked
    look.command(page, "application:toggle-left-area")
    row(page, "runs", "seen in the other window").wait_for(timeout=SLOW)
    assert not look.wrong(page) and not look.wrong(other)


def test_a_server_that_dies_and_comes_back(look: Visit, busy: Any, home: Homes) -> None:
    page = look.lab()
    show(look, page)
    page.evaluate("window.__same = true")
    home.stop(signal.SIGKILL)
    page.locator(".aip-Banner", has_text="Jupyter server").wait_for(timeout=SLOW)
    look.keep(page, "panel-away")
    crowd.log(busy, "while it was away")
    home.start()
    row(page, "runs", "while it was away").wait_for(timeout=SLOW)
    page.locator(".aip-Banner").wait_for(state="hidden", timeout=SLOW)
    crowd.log(busy, "after it came back")
    row(page, "runs", "after it came back").wait_for(timeout=SLOW)
    assert page.evaluate("window.__same")
