"""A day at home in JupyterLab, as the README tells and shows it: what a version is worth, a form, a review, a notebook as a pipeline, the pages.

`make pictures` keeps what these tests see (`tour-*.png`) as the pictures of the README and the tutorials.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiplat.frontends import dashboards
from tests.browser.homes import SLOW, Homes, Visit
from tests.story import story

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SIZE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The workspace of the credit team."""
    folder = tmp_path_factory.mktemp("tour") / "credit-risk"
    folder.mkdir()
    return story(folder)


@pytest.fixture(scope="module")
def team(told: Any, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """Its Jupyter server, at which Ana sits."""
    served = Homes(told.root, tmp_path_factory.mktemp("jupyter"), environment={"AIPLAT_USER": "ana"})
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture
def tour(team: Homes, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    opened = Visit(browser, team, Path(os.environ.get("SCREENSHOTS") or tmp_path))
    yield opened
    opened.close()


def _still(page: Any) -> None:
    """Nothing that only a pointer or a short message leaves on a picture."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    page.evaluate("document.fonts.ready.then(() => null)")


def test_the_panel_says_what_a_version_is_worth(tour: Visit) -> None:
    page = tour.lab(width=1280, height=900)
    tour.command(page, "aiplat:show-panel")
    page.locator("#aiplat-models .aip-Row", has_text="credit").first.locator(".aip-Row-twisty").click()
    version = page.locator("#aiplat-models .aip-Row[data-id='credit/2']")
    version.wait_for()
    assert "production" in version.inner_text()
    page.locator("#aiplat-runs .aip-Row", has_text="thresholds by sex").wait_for()
    page.locator("#aiplat-pipelines-and-schedules .aip-Row", has_text="nightly").first.wait_for()
    page.locator("#aiplat-cluster .aip-Cluster-fact", has_text="CPU").wait_for(timeout=SLOW)
    version.click()
    page.wait_for_selector(".aip-Detail .aiplat")
    text = page.inner_text(".aip-Detail")
    for said in ("credit/2", "roc_auc >= 0.75", "demographic_parity_ratio >= 0.8 by sex", "1 by rosa"):
        assert said in text, (said, text)
    _still(page)
    tour.keep(page, "tour-panel")
    assert not tour.axe(page, ".aip-Place, .aip-DetailTab") and not tour.wrong(page)


def test_a_form_teaches_its_line(tour: Visit) -> None:
    page = tour.lab(**SIZE)
    page.wait_for_function("() => window.jupyterapp.commands.hasCommand('aiplat:verb-train')")
    page.wait_for_selector(".jp-Launcher:visible")
    tour.command(page, "aiplat:verb-train")
    for field, value in {"data": "sample:credit", "target": "approved", "budget": "60s", "name": "with income"}.items():
        page.fill(f".aip-form:visible [data-field={field}] input", value)
    page.wait_for_selector(".aip-form:visible .aip-line:has-text('--budget 60s')")
    page.locator(".aip-form:visible [data-field=data]").scroll_into_view_if_needed()
    page.evaluate(
        "document.querySelectorAll('.aip-form *').forEach(each => { if (each.scrollTop) each.scrollTop = 0; })"
    )
    _still(page)
    tour.keep(page, "tour-form")
    assert not tour.wrong(page)


def test_a_review_is_alive_in_the_notebook(tour: Visit) -> None:
    page = tour.lab(tour.fresh("review.ipynb"), **{**SIZE, "height": 1600})
    tour.command(page, "application:toggle-left-area")
    tour.run_all(page)
    audit, gate = (page.locator(".jp-Notebook .jp-CodeCell").nth(at) for at in (1, 2))
    audit.locator(".forest .gap").first.wait_for()
    gate.locator(".aip-gateboard").wait_for()
    assert "female" in audit.locator(".forest").inner_text()
    audit.locator("select").nth(1).select_option("age_group")
    audit.locator(".forest .gap", has_text="18-29").wait_for()
    assert "INSUFFICIENT" in audit.inner_text() or "FAIL" in audit.inner_text(), audit.inner_text()
    for said in ("the gate is closed", "demographic_parity_ratio >= 0.8 by sex", "1 approval by risk", "rosa, ali"):
        assert said in gate.inner_text(), (said, gate.inner_text())
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    _still(page)
    for name, cell in (("audit", audit), ("gate", gate)):
        cell.screenshot(path=tour.pictures / f"tour-{name}.png")
    assert not tour.axe(page, ".jp-OutputArea-output") and not tour.wrong(page)


def test_pages_for_people_who_open_no_notebook(
    told: Any, offline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(told.root)
    pictures = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    rosa = dashboards.dashboard(background=True, people=["ana", "rosa"]).people["rosa"]
    try:
        for name, ready, width, height, more in (
            ("portfolio", ".aiplat-page .seat", 1280, 1000, ""),
            ("operations", ".aiplat-operations .wrong", 1280, 1000, ""),
            ("model", ".aiplat-model .proofs", 390, 844, "&model=credit/3"),
        ):
            page = offline(rosa.replace("portfolio.ipynb", f"{name}.ipynb") + more, width, height)
            page.wait_for_selector(ready, timeout=SLOW)
            text = page.inner_text("body")
            for said in {
                "portfolio": ("credit · version 2", "all 4 rules hold", "promoted by ana"),
                "operations": ("nightly failed in check", "aiplat pipeline resume"),
                "model": ("credit · version 3", "you are rosa (risk)", "Approve for production"),
            }[name]:
                assert said in text, (name, said, text)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=pictures / f"tour-{name}.png")
    finally:
        dashboards.end(told)


def test_a_notebook_runs_as_a_pipeline(tour: Visit, told: Any) -> None:
    page = tour.lab("night.ipynb", **SIZE)
    tour.command(page, "application:toggle-left-area")
    page.wait_for_selector(".jp-NotebookPanel:visible .jp-CodeCell")
    page.click(".jp-NotebookPanel:visible >> text=Run as pipeline")
    page.fill(".aip-form:visible [data-field=segment] input", "south")
    page.uncheck(".aip-form:visible [data-field=draft] input")
    page.click(".aip-form:visible button[type=submit]")
    copy = page.locator(".jp-NotebookPanel:visible:has(.aip-copy-header)")
    copy.locator(".jp-OutputArea-output", has_text="south: at most 5,000 applications").wait_for(timeout=SLOW)
    copy.locator(".aip-copy-text", has_text="cell 4 of 5").wait_for(timeout=SLOW)
    _still(page)
    tour.keep(page, "tour-pipeline")
    (told.root / "applications.csv").touch()
    copy.locator(".jp-OutputArea-output", has_text="scored for good").wait_for(timeout=SLOW)
    copy.locator(".aip-state-done").wait_for(timeout=SLOW)
    assert not tour.wrong(page)
