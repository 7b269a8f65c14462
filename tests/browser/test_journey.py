"""The whole way from a search to production, by somebody who has a keyboard and nothing else; with a reload, a restart of the kernel and a crash of
the server in the middle. At the end the same tabs are looked at in the light."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.browser.homes import Homes, Visit, until, write_notebook
from tests.browser.test_forms import FIELD, FORM, JOB, TRAIN, job_of, reload, slow_notebook, wrong

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GATE = {
    "metrics": "roc_auc >= 0.55",
    "fairness": "demographic_parity_ratio >= 0.05 by sex",
    "approvals": "1 by risk",
    "max_age": "30d",
}
STORY = (
    ("%load_ext aiplat", ()),
    ("%aiplat train sample:credit --target approved --trials 400 --budget 10m --candidates linear", ()),
    ("%aiplat audit credit/1 --by sex", ()),
)
BOARD, AUDIT, CELL = ".aip-leaderboard", ".aip-explorer", ".jp-NotebookPanel:visible .jp-CodeCell"
COPY = ".jp-NotebookPanel:visible:has(.aip-copy-header)"
IDLE = "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
SHUT = "() => !document.querySelector('.lm-CommandPalette-input:focus')"
FOUND = f"""label => ({SHUT})() || document.querySelector('.lm-CommandPalette-item.lm-mod-active .lm-CommandPalette-itemLabel')
  ?.textContent.startsWith(label)"""
AWAY = re.compile(r"Failed to load resource|net::ERR_|WebSocket|Failed to fetch|NetworkError|Response error|[Kk]ernel")
WHERE = """() => { const at = document.activeElement;
  return `${at.tagName}.${at.className} ${at.getAttribute('aria-label') ?? ''} ${at.textContent.trim().slice(0, 60)}`; }"""


@pytest.fixture(scope="module")
def town(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """A workspace in which nothing has happened yet, with a gate that asks for the word of somebody else."""
    ws = models.governed(tmp_path_factory.mktemp("town"), rules=GATE)
    write_notebook(ws.root / "story.ipynb", STORY)
    served = Homes(ws.root, tmp_path_factory.mktemp("jupyter"))
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture
def walk(town: Homes, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    """Pages of that workspace."""
    opened = Visit(browser, town, Path(os.environ.get("SCREENSHOTS") or tmp_path))
    yield opened
    opened.close()


class Hands:
    """A person at a page without a mouse: everything goes to where the keyboard is."""

    def __init__(self, page: Any):
        self.page, self.press, self.type = page, page.keyboard.press, page.keyboard.type

    @property
    def where(self) -> str:
        """What has the keyboard."""
        return str(self.page.evaluate(WHERE))

    def choose(self, words: str, label: str) -> None:
        """A command of the palette. Lab 4.6 shuts it whenever any command runs, and runs one of its own when it hears of kernels, such
        as after a crash of the server (`helpmenu:get-kernel`): it is opened again then."""
        for _ in range(4):
            self.press("Control+Shift+C")
            self.page.wait_for_selector(".lm-CommandPalette-input:focus")
            self.press("Control+A")
            self.page.keyboard.insert_text(words)  # at once: letters that come late would be commands of a notebook
            self.page.wait_for_function(FOUND, arg=label)
            if not self.page.evaluate(SHUT):
                return self.press("Enter")
        raise AssertionError(f"the palette was shut again and again: {label}")

    def go(self, there: str, key: str = "Tab", most: int = 25) -> None:
        """Press a key until an element has the keyboard."""
        seen = []
        for _ in range(most):
            if self.page.evaluate("there => document.activeElement.matches(there)", there):
                return
            self.press(key)
            seen.append(self.where)
        raise AssertionError(f"{there} is not reached by {key}: {seen}")

    def form(self, verb: str, **fields: str) -> None:
        """Fill the form of a verb that was chosen, and press Enter in its last field; then its job's tab is there."""
        for name, text in fields.items():
            self.page.wait_for_function(f"() => ({FIELD})() !== null")
            self.go(f"[data-field={name}] input")
            self.press("Control+A")
            self.type(text)
        self.page.wait_for_selector(f"{FORM} >> .aip-line:text('%aiplat {verb}')")
        self.press("Enter")
        self.page.wait_for_selector(f"{JOB} .aip-state")

    def ended(self, state: str) -> str:
        """The text of the job's tab when it has ended as it should; the keyboard is in it."""
        self.page.wait_for_selector(f"{JOB} .aip-state:not(.aip-state-running)")
        said = str(self.page.inner_text(JOB))
        assert self.page.query_selector(f"{JOB} .aip-state-{state}"), said
        assert self.page.evaluate("() => !!document.activeElement.closest('.aip-tab')"), self.where
        return said

    def open(self, name: str) -> None:
        """A notebook, with its kernel at rest."""
        self.choose("open from path", "Open from Path")
        self.page.wait_for_selector(".jp-Dialog input:focus")
        self.type(name)
        self.press("Enter")
        self.page.wait_for_selector(f".lm-TabBar-tab.lm-mod-current:has-text('{name}')")
        self.page.wait_for_selector(CELL)
        self.page.wait_for_function(IDLE)

    def close_dialogs(self) -> None:
        """What Lab says about a server that went away."""
        while self.page.query_selector(".jp-Dialog"):
            self.press("Escape")
            self.page.wait_for_timeout(50)


def look(walk: Visit, page: Any, within: str, name: str) -> None:
    """Nothing hinders a screen reader; a picture is kept."""
    assert page.locator(f"{within}:visible").count(), f"{within} is not in sight"
    assert not walk.axe(page, within)
    walk.keep(page, f"journey-{name}")


def search_and_stop(walk: Visit, hands: Hands, town: Homes) -> None:
    """Train from a form, reload in the middle, stop, look at the run, register it."""
    page = hands.page
    hands.choose("train: search", "train:")
    hands.form("train", data="sample:credit", target="approved", trials="5000", budget="30m", candidates="linear")
    page.wait_for_selector(f"{JOB} .aip-progress :text('trials')")
    reload(walk, page, f"aiplat-jobs:{job_of(town)['id']}")
    page.wait_for_selector(f"{JOB} .aip-progress :text('trials')")
    look(walk, page, ".aip-job", "search")
    hands.go(".aip-stop")
    hands.press("Enter")
    assert "linear predicts approved" in hands.ended("stopped")
    hands.go(".aip-job .aip-buttons button")
    assert "Open run" in hands.where
    hands.press("Enter")
    page.wait_for_selector(".aip-Detail:visible .aiplat")
    look(walk, page, ".aip-Detail", "run")
    page.wait_for_function(TRAIN)
    hands.choose("register:", "register:")
    hands.form("register", ref="last", name="credit")
    assert "credit/1" in hands.ended("done")


def watch_in_a_notebook(walk: Visit, hands: Hands) -> None:
    """Watch a leaderboard fill, restart the kernel in the middle, stop the next search, open the audit."""
    page = hands.page
    hands.open("story.ipynb")
    hands.press("Shift+Enter")
    hands.press("Shift+Enter")
    page.wait_for_selector(f"{BOARD} tr.leader")
    hands.press("0")
    hands.press("0")
    page.wait_for_selector(".jp-Dialog button.jp-mod-accept:focus")
    hands.press("Enter")
    page.wait_for_selector(".jp-Dialog", state="detached")
    page.wait_for_function(IDLE)
    hands.press("ArrowUp")
    hands.press("ArrowUp")
    hands.press("Shift+Enter")
    hands.press("Shift+Enter")
    page.wait_for_selector(f"{BOARD} .count:text-matches('^[2-9] of 400')")
    look(walk, page, BOARD, "leaderboard")
    hands.go(f"{BOARD} button", "Shift+Tab")
    hands.press("Enter")
    page.wait_for_selector(BOARD, state="detached")
    page.wait_for_selector(
        ".jp-NotebookPanel:visible >> text=the search was interrupted; this is the best of what there was"
    )
    assert "jp-Cell" in hands.where, hands.where  # not lost with the button
    page.wait_for_function(IDLE)
    hands.press("ArrowDown")
    hands.press("Control+Enter")
    page.wait_for_selector(f"{AUDIT} select")
    hands.go(f"{AUDIT} select")
    hands.press("ArrowDown")  # the next criterion
    page.wait_for_function(
        "() => document.querySelector('.aip-explorer select').value === 'demographic_parity_difference'"
    )
    page.wait_for_selector(f"{AUDIT} li.gap")
    look(walk, page, AUDIT, "audit")


def to_production(walk: Visit, hands: Hands, town: Homes) -> None:
    """Promote and be refused, have it approved by somebody else, promote again."""
    page = hands.page
    hands.choose("promote:", "promote:")
    hands.form("promote", model="credit/1", to="production", reason="it is time")
    said = hands.ended("refused")
    assert "1 approval by risk" in said and "→ aiplat approve credit/1" in said
    look(walk, page, ".aip-job", "refused")
    done = town.run("approve", "credit/1", "--to", "production", "--reason", "looked at the audit", person="rosa")
    assert done.returncode == 0, done.stdout + done.stderr
    hands.go(".aip-job .aip-buttons button:last-child")
    assert "Change and run again" in hands.where
    hands.press("Enter")
    page.wait_for_selector(f"{FORM} >> [data-field=model] input:focus")
    hands.form("promote", reason="rosa has looked at it")
    assert "credit/1 is production now" in hands.ended("done")
    look(walk, page, ".aip-job", "promoted")


def run_as_a_pipeline(walk: Visit, hands: Hands, town: Homes, gate: Path) -> None:
    """Run a notebook as a pipeline, through a crash of the server."""
    page = hands.page
    hands.open("night.ipynb")
    hands.choose("run as pipeline", "Run as Pipeline")
    page.wait_for_selector(f"{FORM} >> [data-field=rows] input:focus")
    hands.type("12")
    page.wait_for_selector(f"{FORM} >> .aip-line:text('-p rows 12')")
    hands.press("Enter")
    page.wait_for_selector(f"{COPY} >> .aip-copy-text:has-text('cell 4 of 5')")
    look(walk, page, ".aip-copy-header", "pipeline")
    town.restart(signal.SIGKILL)
    until(page, "() => fetch('/api/status').then(answer => answer.ok, () => false)")
    hands.close_dialogs()
    gate.touch()
    page.wait_for_selector(f"{COPY} >> .aip-state-done")
    hands.close_dialogs()
    look(walk, page, ".aip-copy-header", "pipeline-done")


def in_the_light(walk: Visit, hands: Hands) -> None:
    """Every tab of the way once more, in the other theme."""
    page, seen = hands.page, set[str]()
    hands.choose("use theme jupyterlab light", "Use Theme: JupyterLab Light")
    page.wait_for_selector("body[data-jp-theme-light=true]", state="attached")
    tabs = page.locator("#jp-main-dock-panel .lm-TabBar-tab").count()
    for number in range(tabs):
        hands.press("Control+Shift+[")
        for view in (".aip-job", ".aip-form", ".aip-Detail", ".aip-copy-header", AUDIT):
            if page.locator(f"{view}:visible").count():
                look(walk, page, view, f"light-{number}")
                seen.add(view)
    assert seen == {".aip-job", ".aip-form", ".aip-Detail", ".aip-copy-header", AUDIT}, seen


def wrong_but_away(walk: Visit, page: Any) -> list[str]:
    """What went wrong, without what the browser and Lab say of a server that was killed, and its kernels with it."""
    return [said for said in wrong(walk, page) if not AWAY.search(said)]


def test_from_a_search_to_production_by_keyboard(walk: Visit, town: Homes) -> None:
    page = walk.lab(theme="dark")
    page.wait_for_function(TRAIN)
    page.wait_for_selector(".jp-Launcher:visible")
    hands, gate = Hands(page), town.root / "night.go"
    slow_notebook(town.root, "night", gate)
    try:
        search_and_stop(walk, hands, town)
        watch_in_a_notebook(walk, hands)
        to_production(walk, hands, town)
        assert not wrong(walk, page)
        run_as_a_pipeline(walk, hands, town, gate)
    finally:
        gate.touch()
    assert not wrong_but_away(walk, page)
    in_the_light(walk, hands)
