"""The explorer and the fairness page as people use them: served by Voila, offline, dragged, typed at, light and dark, desk and phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiplat.trust.operating import gaps, operating
from tests.browser.conftest import PICTURES
from tests.test_pictures import HOSTILE, tried

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """Two audited models, one of them in production, and a group with a hostile name; served by Voila."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from aiplat.core import workspace
    from aiplat.data.sample import credit
    from aiplat.frontends import dashboards
    from aiplat.frontends.explore import explore
    from aiplat.release.registry import register
    from aiplat.training.runs import log_run

    home, before = tmp_path_factory.mktemp("credit"), Path.cwd()
    ws = workspace.create(
        home, user="ana", gates={"production": {"fairness": "demographic_parity_ratio >= 0.8 by sex"}}
    )
    os.chdir(home)
    people = credit(rows=3000, seed=1).dropna().reset_index(drop=True)
    people["sex"] = people["sex"].replace("female", HOSTILE)
    train, test = people.iloc[:1600], people.iloc[1600:]
    try:
        for without in ("", "sex"):
            used = [name for name in people if name not in ("approved", without)]
            text = [name for name in used if people[name].dtype.kind not in "biuf"]
            rest = [name for name in used if name not in text]
            columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), (StandardScaler(), rest))
            model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(train[used], train["approved"])
            about: dict[str, Any] = {"task": "binary", "target": "approved", "features": used, "positive": "1"}
            logged = log_run(ws, "train", model, train=train, test=test, name=f"without {without}", **about)
            register(logged.run.id, "credit")
            explore(logged.run.id, by=["sex", "age_group"])
        ws.client().set_registered_model_alias("credit", "production", "1")
        address = dashboards.dashboard(background=True).address
        yield ws, address.replace("portfolio.ipynb", "fairness.ipynb")
    finally:
        dashboards.end(ws)
        os.chdir(before)


def _keep(page: Any, name: str, tmp_path: Path) -> None:
    picture = Path(os.environ.get(PICTURES) or tmp_path) / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 20_000


def _watch(page: Any) -> list[str]:
    """What goes wrong in our own script; Voila and other extensions have errors of their own when offline."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: (
            wrong.append(said.text)
            if said.type == "error" and "explorer" in said.text.lower() + str(said.location)
            else None
        ),
    )
    return wrong


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_thresholds_can_be_dragged_on_the_fairness_page(
    served: Any, offline: Any, theme: str, width: int, tmp_path: Path
) -> None:
    _, address = served
    page = offline(f"{address}&theme={theme}", width)
    wrong = _watch(page)
    page.wait_for_selector(".aiplat-explorer .cards", timeout=120_000)
    ratio, output = page.locator(".card b").first, page.locator(".slide output")
    assert output.inner_text() == "0.50" and page.locator(".aiplat-explorer td").count() > 5
    before = ratio.inner_text()
    page.locator(".slide input").scroll_into_view_if_needed()
    box = page.locator(".slide input").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.85, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert float(output.inner_text()) > 0.75 and ratio.inner_text() != before
    page.locator(".slide input").focus()
    at = float(output.inner_text())
    page.keyboard.press("ArrowLeft")
    assert float(output.inner_text()) == pytest.approx(at - 0.01)
    page.locator("input[type=radio]").nth(1).check()
    assert page.locator(".sliders input").count() == 2
    page.locator(".sliders input").nth(0).focus()
    page.keyboard.press("Home")
    assert page.locator(".aiplat-explorer tbody tr").nth(0).locator("td").nth(2).inner_text() == "100.0 %"
    page.get_by_role("tab", name="Gaps").click()
    page.locator(".forest .gap").first.focus()
    assert HOSTILE in page.locator(".detail").inner_text() and "n " in page.locator(".detail").inner_text()
    text = page.inner_text(".aiplat-fairness")
    for said in (
        "Who is treated how?",
        "Could we decide otherwise?",
        "What does fairness cost?",
        "credit/1 · production",
    ):
        assert said in text or said in page.inner_text(".widget-dropdown"), said
    assert page.locator("img[src=x]").count() == 0 and not wrong
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    _keep(page, f"fairness-{theme}-{width}", tmp_path)


def test_another_model_is_shown_without_a_reload(served: Any, offline: Any) -> None:
    _, address = served
    page = offline(f"{address}&model=credit%2F2")
    page.wait_for_selector(".aiplat-explorer .cards", timeout=120_000)
    chosen = page.locator(".widget-dropdown select")
    assert "credit/2" in chosen.evaluate("e => e.selectedOptions[0].text"), "the address chooses"
    before = page.locator(".answer").inner_text()
    chosen.select_option(index=0)
    page.wait_for_function(
        "before => document.querySelector('.answer').innerText !== before", arg=before, timeout=30_000
    )
    assert "Not fair enough" in page.locator(".answer").inner_text()


def test_the_browser_computes_what_python_computes(browser: Any) -> None:
    from aiplat.frontends.widgets.kit import beside

    frame, said = tried()
    found = operating(frame, said, ["sex", "old"])
    assert found is not None
    script = "\n".join(map(beside, ("kit.js", "figures.js", "explorer.js")))
    page = browser.new_page()
    told = page.evaluate(
        """async ([script, kept, minimum]) => {
          const explorer = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
          return Object.fromEntries(Object.entries(kept.groupings).map(([by, curves]) => [by, kept.thresholds.map((_, i) =>
            explorer.totals(curves, curves.map((_, k) => (i + 7 * k) % kept.thresholds.length), minimum))]));
        }""",
        [script, found.to_dict(), 30],
    )
    page.close()
    for by, curves in found.curves.items():
        for i in range(len(found.thresholds)):
            expected = gaps(curves, [(i + 7 * k) % len(found.thresholds) for k in range(len(curves))], 30)
            for name, value in expected.items():
                assert told[by][i][name] == (None if value is None else pytest.approx(value, abs=1e-12)), (by, i, name)
