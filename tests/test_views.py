"""What the live views get is what Python computed, harmless whatever the names, and nothing where nobody could see it."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core import workspace as places
from aiplat.core.errors import UserError
from aiplat.data.sample import credit
from aiplat.data.sources import describe
from aiplat.frontends.widgets import alive, comparison, pipelinegraph, profile
from aiplat.frontends.widgets.explorer import Explorer, explorable, of_audit, rebased
from aiplat.operations.pipelines import tables
from aiplat.operations.pipelines.files import find
from aiplat.operations.pipelines.graphs import Node, picture
from aiplat.operations.pipelines.tables import read_run, read_runs, read_steps
from aiplat.training.comparison import Comparison, compare
from aiplat.trust.audit import audit_predictions
from aiplat.trust.findings import restore
from tests import models
from tests.nights import fortnight

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\u202esdrawkcab",
    "x" * 10_000,
    "\U0001f9ea \U0001f468‍\U0001f469‍\U0001f467",
    "'\"&</script>",
    "",
)
names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))


def plain(data: Any) -> Any:
    """The same data, as a browser gets it; fails for what JSON cannot hold."""
    return json.loads(json.dumps(data, allow_nan=False))


# ---- the audit


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return credit(rows=3000, seed=3).dropna().reset_index(drop=True)


def _audited(people: pd.DataFrame, **how: Any) -> Any:
    score = 1 / (1 + np.exp(-(people["income"] - people["income"].median()) / people["income"].std()))
    said = (score >= 0.5).astype(int)
    return audit_predictions(people, people["approved"], said, by=["sex", "age_group"], positive=1, scores=score, **how)


def test_another_reference_is_what_an_audit_with_it_says(people: pd.DataFrame) -> None:
    """The widget's answer, from rates that the ledger kept, against an audit of the rows with that reference."""
    kept = restore(_audited(people).measured())
    for by, group in (("sex", "female"), ("age_group", "60+"), ("age_group", "18-29")):
        fresh = explorable(_audited(people, reference={by: group}))
        answered = rebased(kept, by, group)["criteria"]
        assert len(answered) >= 10
        for name, found in answered.items():
            expected = fresh["criteria"][name]["groupings"][by]
            assert [row["group"] for row in found["rows"]] == [row["group"] for row in expected["rows"]]
            for row, other in zip(found["rows"], expected["rows"], strict=True):
                for key in ("value", "low", "high"):
                    assert row[key] == (None if other[key] is None else pytest.approx(other[key], abs=1e-9)), (
                        name,
                        row,
                    )
                assert row["word"] == other["word"] and row["reference"] == group
            assert found["word"] == expected["word"] and (not found["word"] or "which is your choice" in found["why"])


def test_a_choice_in_the_page_is_answered_and_read_in_python(people: pd.DataFrame) -> None:
    live = of_audit(_audited(people))
    assert live is not None and live.view == "gaps" and live.rebased == {}
    assert [group for group, _ in live.groups["sex"]] == sorted(
        people["sex"].unique(), key=lambda g: -(people["sex"] == g).sum()
    )
    live.set_state({"references": {"age_group": "60+", "no such column": "x"}})  # as the front end does
    assert set(live.rebased) == {"age_group"} and live.rebased["age_group"]["reference"] == "60+"
    live.set_state({"references": {"sex": HOSTILE[0]}})
    assert "has no group" in live.rebased["sex"]["trouble"]
    live.set_state({"references": {"sex": ""}})
    assert live.rebased == {}, "as audited again"


def test_a_reference_too_small_to_compare_with_says_so(people: pd.DataFrame) -> None:
    few = people.assign(sex=np.where(np.arange(len(people)) < 12, "few", people["sex"]))
    audit = _audited(few)
    assert "few" not in [group for group, _ in of_audit(audit).groups["sex"]], "it is not offered"
    found = rebased(audit, "sex", "few")["criteria"]["demographic_parity_ratio"]
    assert not found["rows"] and "few has only 12" in found["undefined"] and found["word"] == "undefined"


def test_a_bare_explorer_answers_nothing() -> None:
    page = Explorer()
    page.references = {"sex": "female"}
    assert page.rebased == {} and page.groups == {}


# ---- runs side by side


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return models.governed(tmp_path_factory.mktemp("views"))


@pytest.fixture(scope="module")
def three(ws: Any) -> Comparison:
    made = [models.trained(ws, seed) for seed in (1, 2, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ws.root)
        return compare(made[0].run.id, made[1].run.id, more=[made[2].run.id])


def test_several_runs_are_told_alike_in_all_forms(three: Comparison) -> None:
    data = plain(comparison.comparable(three))
    assert [run["id"] for run in data["runs"]] == [run.id for run in three.runs] and len(data["runs"]) == 3
    metrics = {each["name"]: each for each in data["metrics"]}
    assert metrics["roc_auc"]["best"] == "high" and metrics["log_loss"]["best"] == "low"
    for i, run in enumerate(three.runs):
        assert metrics["roc_auc"]["values"][i]["value"] == pytest.approx(run.metrics["roc_auc"])
    pairs = three.to_dict()
    assert len(pairs["more"]) == 1 and pairs["more"][0]["b"]["id"] == three.runs[2].id
    for text in (str(three), three._repr_html_(), three.to_markdown()):
        assert all(run.id[:8] in text for run in three.runs)
    table = next(block for block in three.blocks() if getattr(block, "title", "").startswith("Metrics"))
    assert len(table.columns) == 6 and all(len(row) == 6 for row in table.rows)


@given(names, names, names)
@settings(max_examples=40, deadline=None)
def test_any_name_of_a_run_is_data(three: Comparison, name: str, key: str, value: str) -> None:
    from dataclasses import replace

    odd = replace(three.b, name=name, params={key: value}, tags={"aiplat.cell": value, "aiplat.versions": value})
    data = plain(comparison.comparable(replace(three, b=odd, more=[])))
    assert (
        data["runs"][1]["name"] == name and {"name": key, "values": [three.a.params.get(key), value]} in data["params"]
    )


# ---- the data


cells = st.one_of(st.none(), st.floats(), st.integers(-(2**40), 2**40), names)


@given(
    st.lists(
        st.tuples(names, st.lists(cells, min_size=4, max_size=4)), min_size=1, max_size=4, unique_by=lambda c: c[0]
    )
)
@settings(max_examples=60, deadline=None)
def test_any_data_has_a_profile_that_a_browser_can_read(columns: list[tuple[str, list[Any]]]) -> None:
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns})
    data = plain(profile.profiled(describe(frame)))
    assert [column["name"] for column in data["columns"]] == [name for name, _ in columns]
    for column in data["columns"]:
        assert 0 <= column["missing"] <= 1 and all(len(value) <= profile.LONG + 1 for value, _ in column["top"])


# ---- a pipeline run


class Tags(HTMLParser):
    """The elements and attributes of some HTML."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.events: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.events += [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    ws = places.create(tmp_path, user="ana")
    fortnight(ws, time.time(), HOSTILE[0])
    monkeypatch.chdir(tmp_path)
    return ws, next(run.id for run in read_runs(ws, limit=50) if run.state == "running")


def test_a_run_is_told_as_its_tables_have_it(night: Any) -> None:
    ws, run = night
    graph = pipelinegraph.PipelineGraph(ws, run)
    before = {name: text for name, (_, text) in graph.parts.items()}
    assert (
        'aria-label="train ×2 · train.ipynb · 2 running' not in before["graph"]
        and "2 of 6 steps done" in before["head"]
    )
    assert "cell 5 of 9" in before["details"] and "audit, running" not in before["said"] and graph.pause == 1000
    steps = tables.steps_table()
    with ws.engine().begin() as connection:
        connection.execute(
            steps.update()
            .where(steps.c.run == run, steps.c.key == "train[segment=north]")
            .values(state="failed", ended=time.time(), error={"what": HOSTILE[0], "todo": "<b>", "cell": 5})
        )
        connection.execute(
            tables.runs_table()
            .update()
            .where(tables.runs_table().c.id == run)
            .values(state="failed", ended=time.time())
        )
    told = graph.answer({name: mark for name, (mark, _) in graph.parts.items()})
    assert (
        not told["trouble"]
        and {"head", "graph", "details", "end", "said"} <= set(told["parts"])
        and graph.pause == 15_000
    )
    assert f"aiplat pipeline resume {run[:8]}" in told["parts"]["end"][1]
    html = "".join(text for _, text in told["parts"].values())
    assert "&lt;img src=x" in html
    found = Tags(html)
    assert not found.events and not found.tags & {"img", "script", "b", "iframe", "object"}


@given(st.lists(names.filter(bool), min_size=1, max_size=5, unique=True))
@settings(max_examples=40, deadline=None)
def test_any_name_of_a_step_is_text(steps: list[str]) -> None:
    drawn = [Node(name, "a.ipynb", tuple(steps[:i]), state="running", note=name) for i, name in enumerate(steps)]
    found = Tags(picture(drawn, press=True))
    assert not found.events and found.tags <= {
        "div",
        "svg",
        "g",
        "rect",
        "text",
        "path",
        "polygon",
        "title",
        "circle",
        "line",
    }


def test_a_run_whose_database_is_away_keeps_its_page(night: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ws, run = night
    graph = pipelinegraph.PipelineGraph(ws, run)

    def away(*_: Any, **__: Any) -> Any:
        raise UserError("the database cannot be reached", "start it")

    monkeypatch.setattr(pipelinegraph, "read_run", away)
    told = graph.answer({})
    assert told["parts"] == {} and "cannot be reached" in told["trouble"]


def test_a_run_without_its_file_stays_still(night: Any) -> None:
    ws, run = night
    shown = pipelinegraph.read(ws, run)
    assert isinstance(pipelinegraph.of(shown), pipelinegraph.PipelineGraph)
    Path(shown.row.file).unlink()
    gone = pipelinegraph.read(ws, run)
    assert gone.plan is None and pipelinegraph.of(gone) is None and "train[segment=north]" in str(gone)


def test_a_large_graph_sends_the_details_that_matter() -> None:
    drawn = [Node(f"s{i}", "a.ipynb", state="failed" if i == 190 else "done") for i in range(200)]
    text = pipelinegraph._details(drawn, [])
    assert text.count("<section") == pipelinegraph.MOST and 'data-of="s190"' in text


def test_views_are_found_by_their_results_and_shown_to_nobody(
    night: Any, three: Comparison, people: pd.DataFrame
) -> None:
    ws, run = night
    results = (_audited(people), three, describe(people), pipelinegraph.read(ws, run))
    kinds = [type(alive.living(result)).__name__ for result in results]
    assert kinds == ["Explorer", "Comparing", "Profiling", "PipelineGraph"]
    assert not any(alive.show(result) for result in results), "no kernel, no widget"
    assert alive.run(ws, run) is None and read_run(ws, run).state == "running" and len(read_steps(ws, run)) == 6
    assert find("weekly-audit", ws).file is not None
