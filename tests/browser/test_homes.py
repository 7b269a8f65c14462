"""At home in JupyterLab, Notebook 7 and Voila: no error on any console, alive after a reload and a restart, nothing hostile executes, nothing
hinders a screen reader."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiplat.frontends import dashboards
from tests.browser.homes import DONE, SLOW, Homes, Visit, write_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HURT = '<img src=x onerror="window.hurt=1">'
RIGHT = "\u202eعمود من اليمين\u202c"
EMOJI = "👩🏽‍🚀 crew 🎉"
LONG = "long_" * 2_000
WORDS = [HURT, RIGHT, EMOJI, LONG]
CELLS = (
    ("%load_ext aiplat\nimport pandas as pd\npeople = pd.read_parquet('people.parquet')\ngroups = [str(name) for name in people.columns[:4]]", ()),
    ("%aiplat data describe people", ()),
    ("%aiplat audit people --by $groups --target approved --prediction guess", ()),
    ("%aiplat explore credit/1", ()),
    ("%aiplat models", ()),
    ("%aiplat runs", ()),
    ("%aiplat show credit/1", ()),
    ("%aiplat compare credit/1 credit/2", ()),
    ("%aiplat gate credit/1 --to production", ()),
    ("%aiplat pipeline runs", ()),
    ("%aiplat pipeline show last", ()),
    ("%aiplat schedule list", ()),
    (f"bad = {HURT + RIGHT!r}\n%aiplat promote $bad --to production", ("raises-exception",)),
)  # fmt: skip
SAFE = "() => [window.hurt ?? null, document.querySelectorAll('img[src=x]').length]"
# What is cut off or pushes its neighbours: an output wider than its cell, unless it scrolls by itself.
WIDE = """within => [...document.querySelectorAll(within)].filter(e => e.offsetParent).flatMap(home => {
  const right = home.getBoundingClientRect().right + 2;
  const scrolls = e => { for (let at = e; at && at !== home; at = at.parentElement)
    if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(at).overflowX)) return true; return false; };
  return [...home.querySelectorAll('*')].filter(e => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().right > right && !scrolls(e.parentElement))
    .slice(0, 3).map(e => `${e.tagName}.${String(e.className.baseVal ?? e.className).slice(0, 40)} ${Math.round(e.getBoundingClientRect().right - right)} px: ${e.textContent.slice(0, 60)}`);
})"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace whose columns, groups, runs and errors are named by somebody who means no good."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from aiplat.release.registry import register
    from aiplat.training.runs import log_run
    from aiplat.trust.audit import audit
    from tests import models
    from tests.nights import fortnight

    home, before = tmp_path_factory.mktemp("hostile"), Path.cwd()
    ws = models.governed(home)
    os.chdir(home)
    try:
        draw = np.random.default_rng(1)
        people = pd.DataFrame({name: draw.choice(WORDS, 900) for name in WORDS} | {"income": draw.normal(size=900)})
        people["approved"] = (people["income"] + (people[HURT] == HURT) + draw.normal(size=900) > 0.3).astype(int)
        people["guess"] = (people["income"] > 0).astype(int)
        people.to_parquet("people.parquet")
        used = [HURT, RIGHT, EMOJI, "income"]
        for number, name in enumerate((HURT + RIGHT, EMOJI + LONG[:200])):
            columns = make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), used[: 3 - number]), remainder="passthrough"
            )
            rows = people.drop(columns="guess")[[*used, "approved"]]
            model = make_pipeline(columns, LogisticRegression()).fit(
                rows[:400][used[: 3 - number] + ["income"]], rows[:400]["approved"]
            )
            about: dict[str, Any] = {
                "task": "binary",
                "target": "approved",
                "features": used[: 3 - number] + ["income"],
                "positive": "1",
            }
            logged = log_run(ws, "train", model, train=rows[:400], test=rows[400:], name=name, **about)
            register(logged.run.id, "credit")
            audit(logged.run.id, by=[HURT, EMOJI])
        fortnight(ws, time.time(), HURT + RIGHT)
    finally:
        os.chdir(before)
    write_notebook(home / "hostile.ipynb", CELLS)
    return ws


@pytest.fixture(scope="module")
def lair(hostile: Any, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """Lab, Notebook 7 and Voila on the hostile workspace."""
    served = Homes(hostile.root, tmp_path_factory.mktemp("jupyter"))
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture
def wary(lair: Homes, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    """Pages of the hostile workspace."""
    opened = Visit(browser, lair, Path(os.environ.get("SCREENSHOTS") or tmp_path))
    yield opened
    opened.close()


def _shade(page: Any, selector: str) -> int:
    """How bright the background of an element is, from 0 to 765."""
    said = page.evaluate(
        """selector => { for (let at = document.querySelector(selector); at; at = at.parentElement) {
          const colour = getComputedStyle(at).backgroundColor; if (!/, 0\\)$|transparent/.test(colour)) return colour; } return 'rgb(255,255,255)'; }""",
        selector,
    )
    return sum(int(float(part)) for part in said.partition("(")[2].strip(")").split(",")[:3])


OUTPUT = ".jp-OutputArea-output"
LIVE = ".aiplat-live, .aiplat-explorer"


def test_a_notebook_with_magics_is_alive_everywhere(visit: Visit) -> None:
    lab = visit.lab(visit.fresh("session.ipynb"))
    visit.run_all(lab)
    book = visit.notebook(visit.fresh("session.ipynb"))
    visit.run_all(book)
    for theme in ("light", "dark"):
        visit.dress(lab, theme)
        visit.dress(book, theme)
        voila = visit.voila("session.ipynb", theme)
        for name, page in (("lab", lab), ("notebook", book), ("voila", voila)):
            page.wait_for_selector(LIVE, timeout=SLOW)
            text = page.inner_text("body")
            for said in ("credit/1", "by hand 3", "1 of 5", "production"):
                assert said in text, (name, said)
            shade = _shade(page, LIVE.split(",")[0] if name == "voila" else ".jp-Notebook")
            assert (shade < 400) == (theme == "dark"), (name, theme, shade)
            visit.keep(page, f"home-{name}-{theme}", full_page=name == "voila")
            assert not visit.wrong(page), (name, theme)
            assert not visit.axe(page, OUTPUT), (name, theme)
        voila.close()


def test_a_reload_in_the_middle(visit: Visit) -> None:
    page = visit.lab(visit.fresh("session.ipynb"))
    visit.run_all(page)
    page.wait_for_selector(LIVE)
    visit.command(page, "docmanager:save")
    page.reload(wait_until="load")
    visit.ready(page)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector(f":is({LIVE}, [data-aiplat-still]):visible")
    assert "demographic parity" in page.inner_text(".jp-Notebook").lower(), "live again, or still"
    page.wait_for_selector(LIVE, timeout=SLOW)  # while Lab fetches the models, a new run would take them away from it
    visit.run_all(page)
    page.wait_for_selector(LIVE)
    assert not visit.wrong(page)


def test_a_restart_of_the_kernel_in_the_middle(visit: Visit) -> None:
    page = visit.lab(visit.fresh("session.ipynb"))
    visit.run_all(page)
    page.wait_for_selector(LIVE)
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    page.wait_for_function(
        "['idle', 'unknown'].includes(window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status)"
    )
    chosen = page.locator(f":is({LIVE}) select").first
    if chosen.count():  # the live form works without its kernel, or the still one stands in its place
        chosen.select_option(index=1)
    assert "demographic parity" in page.inner_text(".jp-Notebook").lower()
    visit.command(page, "notebook:run-all-cells")
    page.wait_for_function(DONE)
    page.wait_for_selector(LIVE)
    assert not visit.wrong(page)


# The page closes its channel for states as soon as it has them, before it makes models of them: there it stands still for longer than
# ipywidgets looks for a model. Large outputs on a slow machine do the same.
STANDS = """window.stood = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  send.call(this, data);
  if (!(typeof data === 'string' ? data : new TextDecoder().decode(data)).includes('comm_close')) return;
  for (const until = performance.now() + 2500; performance.now() < until;);
  window.stood += 1;
};"""


def test_widgets_in_voila_whose_models_come_while_the_page_stands_still(visit: Visit) -> None:
    page = visit.voila("session.ipynb", script=STANDS)
    page.wait_for_function(f"document.querySelectorAll({LIVE!r}).length === 2")
    assert page.evaluate("window.stood") == 1
    assert not visit.wrong(page)


# A kernel that takes longer for an answer than Lab waits for it by itself.
THINKS = """import time
_asked = get_ipython().Completer.completions
get_ipython().Completer.completions = lambda *given: (time.sleep(1.5), _asked(*given))[1]"""


def test_completion_and_help_in_lab(visit: Visit) -> None:
    page = visit.lab(visit.fresh("session.ipynb"))
    visit.run_all(page)
    kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    page.evaluate(f"code => {kernel}.requestExecute({{ code, silent: true }}).done.then(() => null)", THINKS)
    visit.command(page, "notebook:insert-cell-below")
    visit.command(page, "notebook:enter-edit-mode")
    page.keyboard.type("%aiplat promote credit/2 --to ")
    page.keyboard.press("Tab")
    page.locator(".jp-Completer:visible", has_text="production").wait_for(timeout=20000)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+A")
    page.keyboard.type("%aiplat show ")
    page.keyboard.press("Tab")
    page.wait_for_selector(".jp-Completer:visible")
    shown = page.inner_text(".jp-Completer").replace("\xa0", " ").replace("\n", "")
    assert "last" in shown and "by hand 3" in shown and "credit@production" in shown
    visit.keep(page, "completion")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+A")
    page.keyboard.type("%aiplat mitigate --help")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function("document.querySelector('.jp-Notebook').innerText.includes('Sensitive columns')")
    visit.keep(page, "help")
    page.keyboard.type("%%aiplat train people\nfrom sklearn.svm import SVC")
    assert page.locator(".jp-mod-active .cm-line").nth(1).locator("span").count() >= 2, "coloured as Python"
    assert not visit.wrong(page)


def _harmless(visit: Visit, page: Any, within: str, width: int = 0) -> None:
    """Nothing was executed, nothing is wider than its place, nothing hinders a screen reader, nothing went wrong."""
    assert page.evaluate(SAFE) == [None, 0]
    assert not page.evaluate(WIDE, within)
    if width:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert not visit.axe(page, within)
    assert not visit.wrong(page)


def test_nothing_hostile_executes_in_lab(wary: Visit) -> None:
    page = wary.lab(wary.fresh("hostile.ipynb"))
    wary.run_all(page)
    text = page.inner_text(".jp-Notebook")
    assert "onerror" in text and EMOJI in text and "there is no registered model" in text
    wary.command(page, "aiplat:show-panel")
    page.wait_for_selector("#aiplat-runs .aip-Row")
    page.wait_for_selector("#aiplat-models .aip-Row")
    for theme in ("light", "dark"):
        wary.dress(page, theme)
        wary.keep(page, f"hostile-lab-{theme}")
        _harmless(wary, page, OUTPUT)
        _harmless(wary, page, ".aip-Panel")
    page.locator("#aiplat-runs .aip-Row").first.dblclick()
    page.wait_for_selector(".aip-Detail .aiplat")
    for theme in ("dark", "light"):
        wary.dress(page, theme)
        wary.keep(page, f"hostile-detail-{theme}")
        _harmless(wary, page, ".aip-Detail")


CUT = """() => [...document.querySelectorAll('.aip-Section')].filter(e => e.offsetParent)
    .filter(e => [...e.children].some(part => part.scrollHeight > part.clientHeight)).map(e => e.id.replace('aiplat-', ''))"""
TITLE = ".aip-Panel .jp-AccordionPanel-title[data-id=aiplat-{}]"


def _cut(page: Any, *sections: str) -> None:
    """Wait until these sections of the panel hold more than they show, and no others."""
    page.wait_for_function(f"sections => String(({CUT})()) === String(sections)", arg=list(sections))


def test_sections_of_the_panel_scroll_only_where_they_must(visit: Visit) -> None:
    page = visit.lab()
    visit.command(page, "aiplat:show-panel")
    page.wait_for_selector("#aiplat-cluster .aip-Cluster-line")
    many = "pipelines-and-schedules"
    for width, height in ((1400, 900), (1000, 600)):
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            visit.dress(page, theme)
            _cut(page, many)
            assert not visit.axe(page, ".aip-Panel"), (width, theme)
            visit.keep(page, f"panel-heights-{width}-{theme}")
    page.locator("#aiplat-models .aip-Row-twisty").first.click()
    page.wait_for_selector("#aiplat-models .aip-Row[data-id='credit/2']")
    page.set_viewport_size({"width": 1400, "height": 900})
    _cut(page, many)
    page.locator(TITLE.format(many)).click()
    _cut(page)
    page.locator(TITLE.format(many)).click()
    _cut(page, many)
    # where there is not enough for all, what is not a list can be scrolled by keyboard too
    page.set_viewport_size({"width": 1000, "height": 400})
    _cut(page, "models", "endpoints", "runs", many, "cluster")
    page.locator(TITLE.format("cluster")).focus()
    while page.evaluate("document.activeElement.closest('.jp-AccordionPanel-title') !== null"):
        page.keyboard.press("Tab")
    state = page.locator(".aip-Cluster:focus-visible")
    assert state.get_attribute("aria-label") == "State of the cluster"
    assert state.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("End")
    page.wait_for_function("() => document.activeElement.scrollTop > 0")
    assert not visit.axe(page, ".aip-Panel")
    visit.keep(page, "panel-heights-low")
    page.keyboard.press("Shift+Tab")
    page.set_viewport_size({"width": 1400, "height": 900})
    _cut(page, many)
    assert page.locator(".aip-Cluster").get_attribute("tabindex") is None
    # and what somebody has dragged stays as it is, also when more rows come
    handle = page.locator(".aip-Panel .lm-SplitPanel-handle:not(.lm-mod-hidden)").last.bounding_box()
    page.mouse.move(handle["x"] + 50, handle["y"] + 2)
    page.mouse.down()
    page.mouse.move(handle["x"] + 50, handle["y"] + 60, steps=4)
    page.mouse.up()
    _cut(page, many, "cluster")
    page.locator("#aiplat-models .aip-Row-twisty").first.click()
    page.wait_for_selector("#aiplat-models .aip-Row[data-id='credit/2']", state="detached")
    page.locator("#aiplat-models .aip-Row-twisty").first.click()
    page.wait_for_selector("#aiplat-models .aip-Row[data-id='credit/2']")
    assert not visit.axe(page, ".aip-Panel") and not visit.wrong(page)
    _cut(page, many, "cluster")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_hostile_executes_in_voila(wary: Visit, theme: str) -> None:
    page = wary.voila("hostile.ipynb", theme, width=1280)
    page.wait_for_selector(LIVE)
    page.wait_for_function("document.body.innerText.includes('old-report')")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        wary.keep(page, f"hostile-voila-{theme}-{width}", full_page=True)
        _harmless(wary, page, OUTPUT, width)


def test_nothing_hostile_executes_on_the_dashboards(
    hostile: Any, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page of the dashboards, as wide as a desk and as a phone, two of them in the dark."""
    monkeypatch.chdir(hostile.root)
    hostile.client().set_registered_model_alias("credit", "production", "1")
    address = dashboards.dashboard(background=True).address
    place, _, token = address.partition("/voila/render/portfolio.ipynb?token=")
    served = type("Served", (), {"address": place, "token": token})()
    visit = Visit(browser, served, Path(os.environ.get("SCREENSHOTS") or tmp_path))  # type: ignore[arg-type]
    try:
        for name, ready, theme in (
            ("portfolio", ".seat", "light"),
            ("operations", ".wrong", "dark"),
            ("fairness", ".aiplat-explorer", "light"),
            ("model", "h2", "dark"),
            ("production", ".start", "dark"),
        ):
            page = visit.page(f"/voila/render/{name}.ipynb?theme={theme}&model=credit%2F1", 1280)
            page.wait_for_selector(f".aiplat-page {ready}, .aiplat-fairness {ready}, .aiplat-model {ready}")
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 900})
                visit.keep(page, f"hostile-{name}-{theme}-{width}", full_page=True)
                _harmless(visit, page, "body", width)
            page.close()
    finally:
        visit.close()
        dashboards.end(hostile)
