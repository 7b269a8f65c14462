"""The views as people use them: an audit, runs side by side, a data profile and a pipeline run, alive in Lab and Voila, still in a saved file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aiplat.frontends.widgets.comparison import Comparing
from aiplat.frontends.widgets.profile import Profiling
from aiplat.training.comparison import difference
from aiplat.trust.intervals import Measure
from tests.browser.homes import DONE, SLOW, write_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
HOSTILE = "<img src=x onerror=alert(1)>"
VIEWS = ".aip-explorer, .aip-comparison, .aip-profile"

MADE = f"""%load_ext aiplat
import numpy as np
from aiplat.data.sample import credit
people = credit(rows=2000, seed=4)
people["sex"] = people["sex"].replace("female", {HOSTILE!r})
people[{HOSTILE!r}] = "one"
people["\\u202eright to left"] = np.where(np.arange(len(people)) % 5 == 0, 1.5, np.nan)
people["x" * 10_000] = "emoji \\U0001f9ea" * 500"""
CELLS = (
    (MADE, ()),
    ("found = %aiplat audit credit/1 --by sex,age_group --data people\nfound", ()),
    ("%aiplat compare credit/1 credit/2 --more last", ()),
    ("%aiplat data describe people", ()),
)
WAITS = """\
import pathlib, time
while not pathlib.Path("go").exists():
    time.sleep(0.1)
"""
PIPELINE = """\
[steps.wait]
notebook = "wait.ipynb"
[steps.then]
notebook = "then.ipynb"
needs = ["wait"]
"""


@pytest.fixture(scope="module")
def views(homes: Any) -> Iterator[Any]:
    """The notebook of all views, and a pipeline that waits until a file is there."""
    write_notebook(homes.root / "views.ipynb", CELLS)
    folder = homes.root / "waiting"
    write_notebook(
        folder / "wait.ipynb", [("steps = 3", ("parameters",)), (WAITS.replace('"go"', repr(str(folder / "go"))), ())]
    )
    write_notebook(folder / "then.ipynb", [("print('and then')", ())])
    (folder / "waiting.toml").write_text(PIPELINE)
    write_notebook(
        homes.root / "watch.ipynb", [("%load_ext aiplat", ()), ("%aiplat pipeline run waiting/waiting.toml", ())]
    )
    yield homes


def _overflows(page: Any) -> list[str]:
    """Widgets that are wider than their place."""
    return page.evaluate(
        "() => [...document.querySelectorAll('.aip')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.className)"
    )


def test_views_live_in_lab_and_are_still_in_the_saved_file(views: Any, visit: Any) -> None:
    name = visit.fresh("views.ipynb")
    page = visit.lab(name, height=3600, width=1280)
    visit.run_all(page)
    for each in ("explorer", "comparison", "profile"):
        page.wait_for_selector(f".aip-{each}", timeout=SLOW)
    assert page.locator("[data-aiplat-still]:visible").count() == 0, "the still forms make way"

    # the audit, seen from another group: by keyboard, answered by the kernel
    menu = page.locator(".aip-explorer select[data-key=reference]")
    menu.focus()
    own = page.locator(".aip-explorer .forest .gap").first.get_attribute("aria-label")
    menu.select_option(HOSTILE if own and not own.startswith(HOSTILE) else "male")
    page.wait_for_function(
        "() => document.querySelector('.aip-explorer .verdict')?.innerText.includes('which is your choice')"
    )
    assert page.evaluate("document.activeElement.dataset.key") == "reference", "the keyboard stays where it was"
    page.locator(".aip-explorer .forest .gap").first.focus()
    assert "against" in page.locator(".aip-explorer .detail").inner_text()

    # the runs, from another baseline
    said = page.locator(".aip-comparison .said[role=status]")
    page.locator(".aip-comparison select[data-key=baseline]").select_option("2")
    assert page.locator(".aip-comparison thead .badge").count() == 1 and "baseline" in said.inner_text()
    rows = page.locator(".aip-comparison tbody tr").count()
    page.locator(".aip-comparison .tick input").focus()
    page.keyboard.press("Space")
    assert (
        page.locator(".aip-comparison tbody tr").count() > rows and page.locator(".aip-comparison tr.alike").count() > 0
    )

    # the data
    page.locator(".aip-profile input[type=text]").fill("AGE")
    page.wait_for_function("() => document.querySelectorAll('.aip-profile button.open').length === 2")
    page.locator(".aip-profile button.open").first.focus()
    page.keyboard.press("Enter")
    bars = page.locator(".aip-profile .histogram")
    bars.focus()
    page.keyboard.press("End")
    assert "rows" in (bars.get_attribute("aria-valuetext") or "") and bars.get_attribute("aria-valuenow") != "1"
    page.locator(".aip-profile input[type=text]").fill("")
    page.locator(".aip-profile .tick input").check()
    assert page.locator(".aip-profile button.open").count() >= 3

    for theme in ("dark", "light"):
        visit.dress(page, theme)
        assert page.locator("img[src=x]").count() == 0 and not _overflows(page)
        assert not visit.axe(page, VIEWS), theme
        visit.keep(page, f"views-lab-{theme}")
    assert not visit.wrong(page)
    visit.command(page, "docmanager:save")
    path = views.root / name
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    saved = path.read_text()
    assert saved.count("data-aiplat-still") >= 3 and "Figures" not in saved
    for session in views.ask("/api/sessions"):
        views.ask(f"/api/sessions/{session['id']}", "DELETE")
    again = visit.notebook(name, height=3600, width=1280)
    again.wait_for_selector("[data-aiplat-still]", timeout=SLOW)
    again.wait_for_function(
        "() => [...document.querySelectorAll('[data-aiplat-still]')].every(e => e.checkVisibility())"
    )
    assert again.locator(".aiplat-live").count() == 0
    assert again.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_views_fit_a_phone(views: Any, visit: Any, theme: str) -> None:
    page = visit.voila("views.ipynb", theme=theme, width=390, height=1600)
    for name in ("explorer", "comparison", "profile"):
        page.wait_for_selector(f".aip-{name}", timeout=SLOW)
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-aiplat-still]')].every(e => !e.checkVisibility())"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and not _overflows(page)
    assert not visit.axe(page, VIEWS) and page.locator("img[src=x]").count() == 0
    visit.keep(page, f"views-voila-{theme}-390", full_page=True)


def test_a_run_is_a_graph_while_its_cell_drives_it(views: Any, visit: Any) -> None:
    page = visit.lab("watch.ipynb", height=1400, width=1280)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=SLOW)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    box = page.locator(".aip-graph g[data-step=wait]")
    box.wait_for(timeout=SLOW)
    page.wait_for_function(
        "() => document.querySelector('.aip-graph g[data-step=wait]')?.getAttribute('aria-label').includes('running')",
        timeout=SLOW,
    )
    box.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".aip-graph section[data-of=wait]:visible")
    assert "wait.ipynb" in page.locator(".aip-graph section[data-of=wait]").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.step") == "then"
    page.wait_for_function(
        "() => document.querySelector('.aip-graph section[data-of=wait]')?.innerText.includes('cell 2 of 2')",
        timeout=SLOW,
    )
    assert not visit.axe(page, ".aip-graph")
    visit.keep(page, "graph-running")
    page.evaluate("window.watched = document.querySelector('.aip-graph')")
    (views.root / "waiting" / "go").write_text("")
    page.wait_for_function(DONE, timeout=SLOW)
    # the one that watched goes, perhaps after it has shown the end, and perhaps after the result has come
    page.wait_for_function("() => !window.watched.isConnected", timeout=SLOW)
    page.wait_for_selector(".aip-graph .progress.done", timeout=SLOW)
    assert "2 of 2 steps done" in page.locator(".aip-graph").inner_text()
    assert page.locator(".aip-graph").count() == 1
    visit.keep(page, "graph-done")
    assert not visit.wrong(page)


ASK = """async ([script, name, asked]) => {
  const view = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  return asked.map((given) => view[name](...given));
}"""


def test_the_browser_tells_runs_apart_as_python_does(browser: Any) -> None:
    sides = [
        None,
        Measure(None),
        Measure(0.5),
        Measure(0.8, 0.7, 0.9, 90),
        Measure(0.85, 0.8, 0.9, 90),
        Measure(0.95, 0.91, 0.97, 90),
    ]
    pairs = [(name, a, b) for name in ("roc_auc", "log_loss", "unheard of") for a in sides for b in sides]
    best = {"roc_auc": "high", "log_loss": "low", "unheard of": ""}
    page = browser.new_page()
    try:
        asked = [[best[name], a and vars(a), b and vars(b)] for name, a, b in pairs]
        told = page.evaluate(ASK, [str(Comparing._esm), "difference", asked])
        lines = page.evaluate(
            ASK, [str(Comparing._esm), "changedLines", [["a\nb\nc", "a\nc\nd"], ["", "x"], ["same", "same"]]]
        )
        columns = [
            {"name": n, "type": "text", "missing": m, "distinct": 3, "notes": ["!"] * k}
            for n, m, k in (("Age", 0, 0), ("income", 0.5, 1), ("page", 0.1, 2))
        ]
        ways = [
            {"order": order, "only": only, "search": word}
            for order, only, word in (
                ("place", False, ""),
                ("missing", False, ""),
                ("notes", True, ""),
                ("place", False, " AGE "),
            )
        ]
        found = page.evaluate(ASK, [str(Profiling._esm), "chosen", [[columns, way] for way in ways]])
        shares = page.evaluate(ASK, [str(Profiling._esm), "portion", [[0], [0.0004], [0.046], [0.5], [0.9999], [1]]])
    finally:
        page.close()
    for (name, a, b), said in zip(pairs, told, strict=True):
        change, apart, better = difference(name, a, b)
        assert said == {
            "change": None if change is None else pytest.approx(change),
            "apart": apart,
            "better": better,
        }, (name, a, b)
    assert lines == [[[" ", "a"], ["-", "b"], [" ", "c"], ["+", "d"]], [["+", "x"]], [[" ", "same"]]]
    assert [[column["name"] for column in each] for each in found] == [
        ["Age", "income", "page"], ["income", "page", "Age"], ["page", "income"], ["Age", "page"],
    ]  # fmt: skip
    assert shares == ["0 %", "< 0.1 %", "4.6 %", "50 %", "> 99.9 %", "100 %"]
