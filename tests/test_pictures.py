"""Pictures: well-formed whatever the names, legible without colour, said in words; and the live one, dragged in a real browser."""

from __future__ import annotations

import json
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core.show import Svg, to_html, to_markdown, to_text
from aiplat.trust import charts
from aiplat.trust.charts import Point, Row
from aiplat.trust.drawing import STYLES
from aiplat.trust.intervals import Measure, share
from aiplat.trust.metrics import outcome
from aiplat.trust.operating import Curve, Operating, gaps, operating, restored, roc_picture, threshold_picture
from tests.browser.conftest import PICTURES
from tests.browser.conftest import browser as browser  # fixtures
from tests.browser.conftest import offline as offline

HOSTILE = "<img src=x onerror=alert(1)>"

# ---- any names, any figures

names = st.text(max_size=80)
numbers = st.one_of(
    st.none(), st.floats(-2, 3), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, 1e9, -1e9, 1e-12])
)
measures = st.builds(Measure, numbers, numbers, numbers, st.integers(0, 10**7), st.one_of(st.none(), names))
verdicts = st.sampled_from(["", "pass", "fail", "insufficient", "undefined", "reference", "something new"])
rows = st.lists(st.builds(Row, names, st.one_of(st.none(), measures), st.booleans(), verdicts, names), max_size=8)


def parsed(svg: str) -> ET.Element:
    """The picture as XML; whatever was drawn must be somewhere."""
    root = ET.fromstring(svg)
    for node in root.iter():
        for name, value in node.attrib.items():
            assert not re.search(r"\b(nan|inf|None)\b", value), (node.tag, name, value)
    assert not root.findall(".//{*}script") and not root.findall(".//{*}image")
    return root


@given(
    rows,
    names,
    st.booleans(),
    st.sampled_from(["", "below", "above", "outside"]),
    st.sampled_from([None, 0.0, 0.8, 0.1]),
)
@settings(max_examples=60, deadline=None)
def test_forests_hold_any_name_and_any_figure(
    rows: list[Row], title: str, ratio: bool, fails: str, bound: float | None
) -> None:
    parsed(charts.forest(rows, title=title))
    about: dict[str, Any] = {"title": title, "bound": bound, "ratio": ratio, "fails": fails}
    drawn = parsed(charts.comparisons(rows, **about))
    assert len(drawn.findall("./{*}g[@class='row']")) >= len(rows)
    assert charts.comparisons_alt(rows, **about)


pairs = st.lists(st.tuples(st.floats(0, 1), st.one_of(st.floats(0, 1), st.just(math.nan))), max_size=12)


@given(st.dictionaries(names, pairs, max_size=11), names, st.one_of(st.none(), st.floats(0, 1)))
@settings(max_examples=40, deadline=None)
def test_lines_hold_any_name_and_any_figure(series: dict[str, Any], title: str, mark: float | None) -> None:
    about: dict[str, Any] = {"across": "threshold", "up": "rate", "title": title, "mark": mark}
    drawn = parsed(charts.lines(series, **about, diagonal=True))
    assert len(drawn.findall(".//{*}polyline")) <= len(STYLES)
    assert charts.lines_alt(series, **about, diagonal=True)


points = st.fixed_dictionaries(
    {
        "predicted": st.floats(0, 1),
        "value": st.floats(0, 1),
        "low": st.floats(0, 1),
        "high": st.floats(0, 1),
        "n": st.integers(0, 99),
    }
)


@given(st.dictionaries(names, st.lists(points, max_size=6), max_size=15), names)
@settings(max_examples=30, deadline=None)
def test_calibration_holds_any_name(panels: dict[str, Any], title: str) -> None:
    parsed(charts.calibration_by_group(panels, title))
    assert charts.calibration_alt(panels, title)


wide = st.one_of(st.floats(-1e12, 1e12), st.sampled_from([math.nan, math.inf, -math.inf]))
spots = st.builds(Point, names, wide, wide, st.booleans(), st.booleans(), numbers, numbers)


@given(st.lists(spots, max_size=9), names, st.booleans(), st.sampled_from([None, 0.1, 0.8]))
@settings(max_examples=40, deadline=None)
def test_tradeoffs_hold_any_name_and_any_figure(
    spots: list[Point], title: str, ratio: bool, bound: float | None
) -> None:
    about: dict[str, Any] = {"across": "disparity", "up": "accuracy", "title": title, "ratio": ratio, "bound": bound}
    parsed(charts.tradeoff(spots, **about))
    assert charts.tradeoff_alt(spots, **about)


# ---- what a reader needs

GAPS = [
    Row("sex, against Male"),
    Row("Female", Measure(0.46, 0.42, 0.5, 5421), verdict="fail"),
    Row("Other", Measure(0.9, 0.6, 1.3, 50), verdict="insufficient", note="about 210 more would settle it"),
    Row("Unknown", Measure(0.95, 0.86, 1.05, 900), verdict="pass"),
]


def test_verdicts_are_told_without_colour() -> None:
    svg = charts.comparisons(GAPS, title="selection rate", bound=0.8, ratio=True)
    grey = re.sub(r'(fill|stroke)="[^"]*"', "", svg)
    for word in ("✗ fail", "? insufficient", "✓ pass"):
        assert word in grey
    shapes = {row.get("style"): [e.tag.split("}")[1] for e in row.iter() if e.tag.endswith(("circle", "polygon"))] for row in ET.fromstring(svg).iter() if row.get("class") == "row"}  # fmt: skip
    drawn = [tuple(found) for found in shapes.values() if found]
    assert len(drawn) == 3 and ("circle", "circle") in drawn, "a pass is a circle, for a desk and for a phone"
    points = [e.get("points") for e in ET.fromstring(svg).iter() if e.tag.endswith("polygon")]
    assert len({len(p.split()) for p in points if p}) == 2, "a failure is a diamond and what is open a triangle"


def test_words_say_the_figures_and_failures_come_first() -> None:
    words = charts.comparisons_alt(GAPS, title="selection rate", bound=0.8, ratio=True)
    assert "1 fail, 1 insufficient, 1 pass" in words and "0.460 (0.420–0.500), fail" in words
    assert words.index("Female") < words.index("Other")
    many = [Row(f"group {i}", Measure(1.0, 0.9, 1.1, 99), verdict="pass") for i in range(40)] + [GAPS[1]]
    assert "Female" in charts.comparisons_alt(many, title="t") and "29 more" in charts.comparisons_alt(many, title="t")


def test_a_hatched_side_is_the_side_that_fails() -> None:
    def hatched(**about: Any) -> list[tuple[float, float]]:
        root = ET.fromstring(charts.comparisons(GAPS, title="t", **about))
        row = next(r for r in root.iter() if r.get("class") == "row" and "Female" in "".join(r.itertext()))
        plot = next(e for e in row if e.get("class") == "p")
        found = [e for e in plot if e.get("stroke-dasharray") == "1 5"]
        return [(float(str(e.get("x1"))[:-1]), float(str(e.get("x2"))[:-1])) for e in found]

    assert [ends[0] for ends in hatched(bound=0.8, ratio=True)] == [0.0]
    assert len(hatched(bound=0.8, ratio=True, fails="outside")) == 2
    ((_, right),) = hatched(bound=0.8, ratio=True, fails="above")
    assert right == 100.0
    assert not hatched(bound=None, ratio=True)


def test_pictures_shrink_and_letters_do_not_scroll() -> None:
    picture = charts.lines({"a": [(0, 0), (1, 1)]}, across="x", up="y", title="t")
    assert re.search(r'style="width:100%;max-width:\d+px;height:auto"', picture)
    forest = charts.forest([Row("a", share(3, 9, ""))], title="t")
    assert "viewBox" not in forest.partition(">")[0] and "@media screen and (max-width" in forest, (
        "letters keep their size"
    )


def test_words_stand_where_a_picture_cannot() -> None:
    block = Svg(charts.forest([Row(HOSTILE, share(3, 9, ""))]), f"rates: {HOSTILE} 0.333")
    page = to_html([block])
    assert HOSTILE not in page and 'hidden="hidden"' in page and page.count("rates: &lt;img") == 2
    assert "rates: " in to_text([block]) and "<img" not in to_markdown([block])


# ---- operating points


def tried(n: int = 700, seed: int = 0) -> tuple[Any, Any]:
    import pandas as pd

    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"sex": rng.choice(["f", "m", HOSTILE], n, p=[0.5, 0.46, 0.04]), "old": rng.random(n) < 0.3})
    truth = rng.random(n) < 0.4
    score = np.clip(np.round(truth * 0.2 + rng.random(n) * 0.8, 2), 0, 1)
    return frame, outcome(truth.astype(int), (score >= 0.5).astype(int), score, task="binary", positive=1)


@pytest.mark.parametrize("seed", range(3))
def test_operating_points_agree_with_counting_rows(seed: int) -> None:
    frame, said = tried(seed=seed)
    found = operating(frame, said, ["sex", "old"])
    assert found is not None and restored(json.loads(json.dumps(found.to_dict()))) == found
    for curve in found.curves["sex & old"]:
        sex, _, old = curve.group.rpartition(" & ")
        own = ((frame["sex"] == sex) & (frame["old"].astype(str).str.lower() == old.lower())).to_numpy()
        assert own.any()
        for place, threshold in enumerate(found.thresholds):
            above = own & (said.scores >= threshold - 1e-12)
            assert curve.found[place] == (above & (said.truth == 1)).sum()
            assert curve.alarms[place] == (above & (said.truth == 0)).sum()
    for picture in (threshold_picture(found, "sex"), roc_picture(found, "sex")):
        parsed(picture.svg)
        assert "f 0." in picture.alt and "m 0." in picture.alt


def test_no_threshold_in_use_when_the_model_decides_otherwise() -> None:
    frame, said = tried()
    other = outcome(said.truth, (said.scores >= 0.37).astype(int), said.scores, task="binary", positive=1)
    assert operating(frame, said, ["sex"]).used == 0.5 and operating(frame, other, ["sex"]).used is None  # type: ignore[union-attr]


def test_gaps_compare_only_groups_that_are_large_enough() -> None:
    large, small = Curve("a", 40, 60, (40, 20), (60, 20)), Curve("b", 5, 10, (5, 0), (10, 0))
    assert gaps([large, small], [1, 1], 30) == {"demographic_parity_ratio": None, "equal_opportunity_difference": None}
    assert gaps([large, small], [1, 1], 5)["demographic_parity_ratio"] == 0
    assert gaps([large, large], [1, 0], 30)["demographic_parity_ratio"] == 0.4
    empty = Operating((0.0, 1.0), None, {"x": (large,)}, {})
    assert empty.place(0.9) == 1


# ---- the live picture


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


@pytest.mark.slow
@pytest.mark.timeout(300)
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


@pytest.mark.slow
@pytest.mark.timeout(300)
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


@pytest.mark.slow
def test_the_browser_computes_what_python_computes(browser: Any) -> None:
    from importlib.resources import files

    frame, said = tried()
    found = operating(frame, said, ["sex", "old"])
    assert found is not None
    script = (files("aiplat") / "frontends" / "widgets" / "explorer.js").read_text(encoding="utf-8")
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
