"""Live results as people meet them: a search that is watched and stopped, a gate that is asked and answered, in Lab and in Notebook 7."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.homes import DONE, SLOW, Visit, write_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BOARD, GATE = ".aip-leaderboard", ".aip-gateboard"
LONG = "%aiplat train sample:credit --target approved --trials 400 --budget 10m --candidates linear"
READY = "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
LEADS = """() => document.querySelectorAll('.aip-leaderboard tbody tr.leader').length > 0"""
KEPT = "text=the search was interrupted; this is the best of what there was"
KERNELS = "/lab/api/settings/@jupyterlab/apputils-extension:kernels-settings"


def _begin(visit: Visit, page: Any) -> None:
    """Run all cells without waiting for their end."""
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function(READY, timeout=SLOW)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")


def _search(visit: Visit, name: str, home: str, **how: Any) -> tuple[Any, list[str]]:
    """A page with a search under way that has a leader, and the interrupts that the page asks its server for."""
    write_notebook(visit.homes.root / name, [("%load_ext aiplat", ()), (f"found = {LONG}\nfound", ())])
    page = visit.lab(name, **how) if home == "lab" else visit.notebook(name, **how)
    interrupts: list[str] = []
    page.on("request", lambda request: interrupts.append(request.url) if request.url.endswith("/interrupt") else None)
    _begin(visit, page)
    page.wait_for_selector(f"{BOARD} button", timeout=SLOW)
    page.wait_for_function(LEADS, timeout=SLOW)
    return page, interrupts


@pytest.mark.parametrize(("home", "theme", "width"), [("lab", "dark", 1280), ("notebook", "light", 390)])
def test_a_search_fills_its_board_and_stops_with_what_it_has(visit: Visit, home: str, theme: str, width: int) -> None:
    page, interrupts = _search(visit, f"search-{home}.ipynb", home, theme=theme, width=width)
    assert page.locator("[data-aiplat-still]").count() and not page.locator("[data-aiplat-still]").first.is_visible()
    assert "linear" in page.locator(f"{BOARD} tr.leader").inner_text()
    assert not visit.axe(page, BOARD)
    visit.keep(page, f"leaderboard-{home}-{theme}")
    page.locator(f"{BOARD} button").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(BOARD, state="detached", timeout=SLOW)
    page.wait_for_selector(KEPT, timeout=SLOW)
    page.wait_for_function(DONE, timeout=SLOW)
    assert not interrupts, "the press itself was heard, in a subshell of the busy kernel"
    assert page.locator("[data-aiplat-still] >> text=/trials.*best linear/").first.is_visible(), "one line stays"
    visit.command(page, "docmanager:save")
    page.reload()
    visit.ready(page)
    page.wait_for_selector(KEPT, timeout=SLOW)
    assert page.locator("[data-aiplat-still]").first.is_visible() and not page.locator("text=model not found").count()
    visit.keep(page, f"leaderboard-{home}-{theme}-stopped")
    assert not visit.wrong(page)


def test_where_there_are_no_subshells_the_server_interrupts_the_kernel(visit: Visit) -> None:
    visit.homes.ask(KERNELS, "PUT", {"raw": json.dumps({"commsOverSubshells": "disabled"})})
    try:
        page, interrupts = _search(visit, "search-interrupt.ipynb", "lab", width=1280)
        page.get_by_role("button", name="Stop", exact=False).click()
        page.wait_for_selector(KEPT, timeout=SLOW)
        page.wait_for_function(DONE, timeout=SLOW)
        assert len(interrupts) == 1 and not visit.wrong(page)
    finally:
        visit.homes.ask(KERNELS, "PUT", {"raw": "{}"})


def _say(board: Any, button: str, reason: str) -> None:
    """Press a button of the board and give the reason, by keyboard alone."""
    from playwright.sync_api import expect

    act = board.get_by_role("button", name=f"{button}…")
    act.wait_for(timeout=SLOW)
    expect(act).to_be_enabled(timeout=SLOW)  # redrawn when the kernel has answered
    act.focus()
    act.press("Enter")
    words = board.locator("textarea")
    words.wait_for()
    assert words.evaluate("node => node === document.activeElement"), "the form has the keyboard"
    words.press_sequentially(reason)
    words.press("Tab")
    board.page.keyboard.press("Enter")


def test_a_gate_is_read_refused_and_answered(visit: Visit) -> None:
    """By one who may not speak and one who may; at the end all words are taken back, since others look at this workspace too."""
    asks = "%aiplat gate credit/2 --to production"
    cells = [("%load_ext aiplat", ()), (asks, ()), (f"%env AIPLAT_USER=rosa\n{asks}", ())]
    write_notebook(visit.homes.root / "gate.ipynb", cells)
    page = visit.lab("gate.ipynb", theme="light", width=1280, height=1400)
    _begin(visit, page)
    ana, rosa = page.locator(GATE).nth(0), page.locator(GATE).nth(1)
    rosa.wait_for(timeout=SLOW)
    page.wait_for_function(DONE, timeout=SLOW)
    assert "is closed" in ana.inner_text() and not ana.get_by_role("button", name="Approve").count()
    cite = rosa.locator(".cite").nth(1)
    cite.focus()
    cite.press("Enter")
    rosa.locator(".record pre").wait_for()
    assert "roc_auc" in rosa.locator(".record pre").inner_text() and not visit.axe(page, GATE)
    cite.press("Enter")
    _say(rosa, "Refuse for production", "<img src=x onerror=alert(1)> wrong branch")
    rosa.locator("text=no refusal stands").first.wait_for(timeout=SLOW)
    assert "wrong branch" in rosa.inner_text() and not page.locator("img[src=x]").count()
    visit.keep(page, "gateboard-light")
    _say(rosa, "Withdraw your refusal for production", "looked again")
    rosa.get_by_role("button", name="Approve for production…").wait_for(timeout=SLOW)
    _say(rosa, "Approve for production", "the figures are good")
    rosa.locator(".badge", has_text="the gate is open").wait_for(timeout=SLOW)
    assert rosa.get_by_role("button", name="Promote").count()
    ana.get_by_role("button", name="Ask again").click()
    ana.locator(".badge", has_text="the gate is open").wait_for(timeout=SLOW)
    page.set_viewport_size({"width": 900, "height": 1400})
    visit.homes.theme("dark")
    visit.command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
    page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
    assert not visit.axe(page, GATE)
    visit.keep(page, "gateboard-dark")
    _say(rosa, "Withdraw your approval for production", "only to see")
    rosa.locator(".badge", has_text="the gate is closed").wait_for(timeout=SLOW)
    assert not visit.wrong(page)
