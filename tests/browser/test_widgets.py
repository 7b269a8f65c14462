"""Live results as people meet them: a search that is watched and stopped, a gate that is asked, answered and passed, in Lab and in Notebook 7."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.homes import SLOW, Visit, write_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest_plugins = ["tests.browser.homes"]

BOARD = ".aip-leaderboard"
LONG = "%aiplat train sample:credit --target approved --trials 400 --budget 10m --candidates linear,hist_gradient_boosting"
WHOLE = """n => [...document.querySelectorAll('.aip-leaderboard tbody tr.leader')].length > 0 &&
  Number(document.querySelector('.aip-leaderboard .count').textContent.split(' ')[0]) >= n"""


def _open(visit: Visit, home: str, name: str, **how: Any) -> Any:
    return visit.lab(name, **how) if home == "lab" else visit.notebook(name, **how)


def _begin(visit: Visit, page: Any) -> None:
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")


@pytest.mark.parametrize(("home", "theme", "width"), [("lab", "dark", 1280), ("notebook", "light", 1100)])
def test_a_search_fills_its_board_and_stops_with_what_it_has(visit: Visit, home: str, theme: str, width: int) -> None:
    name = f"search-{home}.ipynb"
    write_notebook(visit.homes.root / name, [("%load_ext aiplat", ()), (f"found = {LONG}\nfound", ())])
    page = _open(visit, home, name, theme=theme, width=width)
    _begin(visit, page)
    page.wait_for_selector(f"{BOARD} button", timeout=SLOW)
    page.wait_for_function(WHOLE, arg=2, timeout=SLOW)
    visit.keep(page, f"leaderboard-{home}-{theme}")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(BOARD, state="detached", timeout=SLOW)
    page.wait_for_selector("text=the search was interrupted; this is the best of what there was", timeout=SLOW)
    visit.keep(page, f"leaderboard-{home}-{theme}-stopped")
    print(visit.wrong(page))


def test_a_gate_board_is_read_answered_and_passed(visit: Visit) -> None:
    name = "gate.ipynb"
    write_notebook(visit.homes.root / name, [("%load_ext aiplat", ()), ("%aiplat gate credit/2 --to production", ()), ("%env AIPLAT_USER=rosa\n%aiplat gate credit/2 --to production", ())])
    page = visit.lab(name, theme="light", width=1280, height=1400)
    _begin(visit, page)
    board = page.locator(".aip-gateboard").nth(0)
    board.wait_for(timeout=SLOW)
    rosas = page.locator(".aip-gateboard").nth(1)
    rosas.wait_for(timeout=SLOW)
    visit.keep(page, "gateboard-light")
    rosas.locator(".cite").first.click()
    rosas.locator(".record pre").wait_for()
    rosas.get_by_role("button", name="Refuse for production").click()
    visit.keep(page, "gateboard-light-form")
    print(visit.wrong(page), visit.axe(page, ".aip-gateboard"))
