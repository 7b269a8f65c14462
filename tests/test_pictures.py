"""Pictures: well-formed whatever the names, legible without colour, said in words. The live one is in tests/browser/test_explorer.py."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core.show import Svg, to_html, to_markdown, to_text
from aiplat.trust.intervals import Measure, share
from aiplat.trust.metrics import outcome
from aiplat.trust.operating import Curve, Operating, gaps, operating, restored, roc_picture, threshold_picture
from aiplat.trust.pictures import charts
from aiplat.trust.pictures.charts import Point, Row
from aiplat.trust.pictures.drawing import STYLES

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
    grey = re.sub(r"(fill|stroke)='[^']*'", "", svg)
    for word in ("✗ fail", "? insufficient", "✓ pass"):
        assert word in grey
    shapes = {row.get("style"): [e.tag.split("}")[1] for e in row.iter() if e.tag.endswith(("circle", "polygon"))] for row in ET.fromstring(svg).iter() if row.get("class") == "row"}  # fmt: skip
    drawn = [tuple(found) for found in shapes.values() if found]
    assert len(drawn) == 3 and ("circle",) in drawn, "a pass is a circle"
    rows = [row for row in ET.fromstring(svg).iter() if row.get("class") == "row"]
    behind = {e.get("id") for e in ET.fromstring(svg).iter() if e.get("id")}
    said = [e.get("href", "")[1:] for row in rows for e in row.iter() if e.tag.endswith("use")]
    assert len(said) >= 3 and set(said) == behind, "the bound lies behind every row"
    points = [e.get("points") for e in ET.fromstring(svg).iter() if e.tag.endswith("polygon")]
    assert len({len(p.split()) for p in points if p}) == 2, "a failure is a diamond and what is open a triangle"


def test_words_say_the_figures_and_failures_come_first() -> None:
    words = charts.comparisons_alt(GAPS, title="selection rate", bound=0.8, ratio=True)
    assert "1 fail, 1 insufficient, 1 pass" in words and "0.460 (0.420–0.500), fail" in words
    assert words.index("Female") < words.index("Other")
    many = [Row(f"group {i}", Measure(1.0, 0.9, 1.1, 99), verdict="pass") for i in range(40)] + [GAPS[1]]
    assert "Female" in charts.comparisons_alt(many, title="t") and "35 more" in charts.comparisons_alt(many, title="t")


def test_a_hatched_side_is_the_side_that_fails() -> None:
    def hatched(**about: Any) -> list[tuple[float, float]]:
        root = ET.fromstring(charts.comparisons(GAPS, title="t", **about))
        row = next(r for r in root.iter() if r.get("class") == "row" and "Female" in "".join(r.itertext()))
        behind = next(e.get("href", "")[1:] for e in row.iter() if e.tag.endswith("use"))
        ground = next(e for e in root.iter() if e.get("id") == behind)
        found = [e for e in ground if e.get("stroke-dasharray") == "1 5"]
        places = [(float(str(e.get("x1"))[:-1]), float(str(e.get("x2"))[:-1])) for e in found]
        return [((low - 34) / 0.29, (high - 34) / 0.29) for low, high in places]  # shares of the plot

    assert [ends[0] for ends in hatched(bound=0.8, ratio=True)] == [0.0]
    assert len(hatched(bound=0.8, ratio=True, fails="outside")) == 2
    ((_, right),) = hatched(bound=0.8, ratio=True, fails="above")
    assert right == pytest.approx(100.0)
    assert not hatched(bound=None, ratio=True)


def test_pictures_shrink_and_letters_do_not_scroll() -> None:
    picture = charts.lines({"a": [(0, 0), (1, 1)]}, across="x", up="y", title="t")
    assert re.search(r"style='width:100%;max-width:\d+px;height:auto[;']", picture)
    forest = charts.forest([Row("a", share(3, 9, ""))], title="t")
    assert "viewBox" not in forest.partition(">")[0] and "@media screen and (max-width" in forest, (
        "letters keep their size"
    )


def test_words_stand_where_a_picture_cannot() -> None:
    block = Svg(charts.forest([Row(HOSTILE, share(3, 9, ""))]), f"rates: {HOSTILE} 0.333")
    page = to_html([block])
    assert HOSTILE not in page and 'hidden="hidden"' in page and page.count("rates: &lt;img") == 1
    named = re.search(r'role="img" aria-labelledby="(\w+)"', page)
    assert named and f'id="{named[1]}">rates: ' in page, "the words are the picture's name"
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
