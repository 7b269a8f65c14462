"""Lineage: events valid against OpenLineage, datasets with one name each, nothing secret in them, and receivers that never matter to a run.

`openlineage-python` carries no JSON schema, only classes that its makers generate from the schemas. So the schema that events are held to is computed here from
those classes, strictly (nothing that they do not know is accepted), under an envelope that says what the specification 2-0-2 says of events.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import threading
import types
import typing
import uuid
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attr
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core import workspace
from aiplat.core.workspace import Workspace
from aiplat.operations import datasets, facets, lineage
from aiplat.operations.pipelines.tables import RunRow, StepRow
from tests.test_alerts import Hook, hook

__all__ = ["hook"]  # the fixture

RUN = "5d1c40b2a9f04c66b3a4d2c19d3f7e01"
NOON = 1_793_700_000.0


# ---- the schema, from the classes that were made from it --------------------------------------------------------------


def _generated() -> dict[str, type]:
    """Address of a schema to the class that was generated from it."""
    from openlineage.client import generated

    found = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for _, each in inspect.getmembers(
            importlib.import_module(f"{generated.__name__}.{module.name}"), inspect.isclass
        ):
            if attr.has(each) and "_get_schema" in vars(each):
                found[each._get_schema()] = each
    return found


GENERATED = _generated()


def schema_of(cls: type) -> dict[str, Any]:
    """The JSON schema of a generated class: its fields, which of them are required, and nothing else."""
    hints = typing.get_type_hints(cls)
    fields = {each.name: each for each in attr.fields(cls)}
    always = {"_producer", "_schemaURL", "producer", "schemaURL"} & set(fields)  # the classes fill these in
    required = {name for name, each in fields.items() if each.default is attr.NOTHING} | always
    properties = {name: _schema(hints.get(name, str)) for name in fields}
    return {"type": "object", "properties": properties, "required": sorted(required), "additionalProperties": False}


def _schema(hint: Any) -> dict[str, Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        members = [each for each in typing.get_args(hint) if each is not type(None)]
        return {"anyOf": [_schema(each) for each in members]}
    if origin is list:
        return {"type": "array", "items": _schema(typing.get_args(hint)[0])}
    if origin is dict:
        return {"type": "object"}  # facets: each is held to the schema that it names itself
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return {"enum": [each.value for each in hint]}
    if inspect.isclass(hint) and attr.has(hint):
        return schema_of(hint)
    kinds = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return {"type": kinds[hint]} if hint in kinds else {}


def check(event: dict[str, Any]) -> None:
    """Hold an event, as it was sent, to the specification."""
    from openlineage.client.event_v2 import RunEvent

    jsonschema.validate(event, schema_of(RunEvent))
    assert event["eventType"] in ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
    assert event["schemaURL"] == RunEvent._get_schema()
    assert datetime.fromisoformat(event["eventTime"]).tzinfo and "T" in event["eventTime"]
    uuid.UUID(event["run"]["runId"])
    assert event["job"]["namespace"] and event["job"]["name"]
    holders = [("run", event["run"]), ("job", event["job"])]
    holders += [("dataset", each) for each in (*event.get("inputs", []), *event.get("outputs", []))]
    for holder, each in holders:
        for name, facet in each.get("facets", {}).items():
            cls = GENERATED[facet["_schemaURL"]]
            jsonschema.validate(facet, schema_of(cls))
            assert cls.__name__.lower().startswith(name.replace("_", "").lower()[:6]) or name == "version"
            assert cls.__name__.endswith({"run": "RunFacet", "job": "JobFacet", "dataset": "DatasetFacet"}[holder])
            assert urlsplit(facet["_producer"]).scheme and urlsplit(facet["_schemaURL"]).scheme
            for key, value in facet.items():
                if key in ("url", "repoUrl"):
                    assert urlsplit(value).scheme, f"{value} is no URI"
                elif key.startswith("nominal"):
                    assert datetime.fromisoformat(value).tzinfo
    for each in (*event.get("inputs", []), *event.get("outputs", [])):
        assert each["namespace"] and each["name"]


def row(**changes: Any) -> RunRow:
    given: dict[str, Any] = {
        "id": RUN, "pipeline": "nightly", "file": "nightly.toml", "digest": "d", "parameters": {},
        "moment": {"logical_date": "2026-11-03T02:00:00+01:00", "start": "2026-11-02T02:00:00+01:00", "end": "2026-11-03T02:00:00+01:00"},
        "cause": "schedule", "schedule": "nightly", "fire_time": NOON, "options": {}, "state": "done", "reason": "", "error": None,
        "actor": "ana", "created": NOON, "started": NOON, "ended": NOON + 60, "driver": None, "beat": None, "cancel_asked": None,
        "mlflow_run": "", "notes": [],
    }  # fmt: skip
    return RunRow(**{**given, **changes})


def step(name: str, state: str, **changes: Any) -> StepRow:
    given: dict[str, Any] = {"notebook": "/srv/bank/notebooks/x.ipynb", "started": NOON + 1, "ended": NOON + 2}
    return StepRow(RUN, name, 1, "nightly", name.partition("[")[0], 0, state, **{**given, **changes})


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def listing(tmp_path: Path) -> Workspace:
    """A workspace that appends its events to a file."""
    return workspace.create(tmp_path, user="ana", lineage="events.jsonl", experiment="bank")


# ---- what is told ---------------------------------------------------------------------------------------------------


def test_the_schema_refuses_what_it_should() -> None:
    from openlineage.client.serde import Serde

    ws = workspace.Workspace(workspace.Settings(Path("/tmp"), experiment="bank"))
    good = json.loads(Serde.to_json(facets.events(ws, row(), [], "START")[0]))
    check(good)
    for path, value in [
        (("eventType",), "BEGIN"), (("run", "runId"), "7"), (("eventTime",), "2026-11-03"), (("producer",), None), (("job", "name"), None),
        (("extra",), 1), (("run", "facets", "processing_engine", "version"), None), (("run", "facets", "nominalTime", "nominalEnd"), "x"),
        (("job", "facets", "jobType", "_schemaURL"), None),
    ]:  # fmt: skip
        bad = json.loads(json.dumps(good))
        place = bad
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        with pytest.raises((jsonschema.ValidationError, AssertionError, ValueError, KeyError)):
            check(bad)


def test_a_whole_run_as_events(listing: Workspace, tmp_path: Path) -> None:
    error = {"kind": "cell", "what": "ValueError: no rows", "todo": "mend the cell", "cell": 4, "line": "fit()"}
    steps = [
        step("ingest", "cached", source="0" * 32, outputs={"data": f"snapshot:{'ab' * 32}"}),
        step("train[segment=north]", "done", parameters={"data": f"snapshot:{'ab' * 32}", "segment": "north"},
             parts={"inputs": {"../codes.csv": "cd" * 32}}, outputs={"model": "models:/credit/3"}),
        step("train[segment=south]", "failed", error=error), step("audit", "skipped"), step("report", "cancelled"),
        step("late", "waiting"),
    ]  # fmt: skip
    assert lineage.tell(listing, row(), [], "START") == ""
    wrong = {**error, "step": "train[segment=south]"}
    assert lineage.tell(listing, row(state="failed", error=wrong), steps, "FAIL", patience=60) == ""
    told = lines(tmp_path / "events.jsonl")
    for event in told:
        check(event)
    names = [(event["job"]["name"], event["eventType"]) for event in told]
    assert names == [
        ("nightly", "START"), ("nightly.ingest", "START"), ("nightly.ingest", "COMPLETE"), ("nightly.train", "START"),
        ("nightly.train", "COMPLETE"), ("nightly.train", "START"), ("nightly.train", "FAIL"), ("nightly.report", "START"),
        ("nightly.report", "ABORT"), ("nightly", "FAIL"),
    ]  # fmt: skip
    by_run: dict[str, list[str]] = {}
    for event in told:
        by_run.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert all(kinds[0] == "START" and len(kinds) == 2 for kinds in by_run.values()) and len(by_run) == 5
    assert uuid.UUID(told[0]["run"]["runId"]).hex == RUN
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in told[1:-1]}
    assert parents == {told[0]["run"]["runId"]} and "parent" not in told[0]["run"]["facets"]
    ingest, north, failed = told[2], told[4], told[6]
    assert north["inputs"][1]["name"] == ingest["outputs"][0]["name"], "what one step made is what the next one read"
    assert north["inputs"][0]["name"] == "/srv/bank/codes.csv"
    assert north["inputs"][0]["facets"]["version"]["datasetVersion"] == "cd" * 32
    assert north["outputs"][0]["name"] == "credit" and north["outputs"][0]["facets"]["version"]["datasetVersion"] == "3"
    assert failed["run"]["facets"]["errorMessage"]["message"] == "ValueError: no rows. mend the cell"
    tags = {each["key"]: each["value"] for each in ingest["run"]["facets"]["tags"]["tags"]}
    assert tags["state"] == "cached" and tags["executed_in"] == "0" * 32
    assert told[0]["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-11-02T02:00:00+01:00"


def test_a_resumed_run_tells_only_what_is_new(listing: Workspace, tmp_path: Path) -> None:
    steps = [step("ingest", "done"), step("train", "failed")]
    lineage.tell(listing, row(state="failed"), steps, "FAIL", patience=60)
    steps[1] = step("train", "done", started=NOON + 90, ended=NOON + 95)
    lineage.tell(listing, row(options={"told": NOON + 60}, ended=NOON + 99), steps, "COMPLETE", patience=60)
    told = lines(tmp_path / "events.jsonl")
    names = [(event["job"]["name"], event["eventType"]) for event in told]
    assert names.count(("nightly.ingest", "START")) == 1 and names.count(("nightly.ingest", "COMPLETE")) == 1, names
    assert names[-3:] == [("nightly.train", "START"), ("nightly.train", "COMPLETE"), ("nightly", "COMPLETE")], names


def test_a_snapshot_is_told_by_its_name_version_and_columns(
    listing: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    from aiplat.data.snapshots import snapshot

    monkeypatch.chdir(tmp_path)
    kept = snapshot(pd.DataFrame({"age": [30, 40], "name": ["a", "b"]}), name="applications")
    lineage.tell(
        listing,
        row(),
        [step("train", "done", parameters={"data": f"snapshot:{kept.digest[:10]}"})],
        "COMPLETE",
        patience=60,
    )
    (data,) = lines(tmp_path / "events.jsonl")[1]["inputs"]
    assert data["namespace"] == "aiplat://bank" and data["name"] == "applications"
    assert data["facets"]["version"]["datasetVersion"] == kept.digest
    assert [each["name"] for each in data["facets"]["schema"]["fields"]] == ["age", "name"]


def test_models_made_inside_are_outputs_of_their_step(
    listing: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiplat.operations.pipelines import recording

    made = [
        {"run": "r", "kind": "search", "name": "x", "data_digest": "", "step": "train", "models": "credit/4, credit/5"}
    ]
    monkeypatch.setattr(recording, "made_inside", lambda ws, run: made)
    lineage.tell(
        listing, row(mlflow_run="f" * 32), [step("train", "done"), step("report", "done")], "COMPLETE", patience=60
    )
    told = lines(tmp_path / "events.jsonl")
    outputs = {event["job"]["name"]: event["outputs"] for event in told if event["eventType"] == "COMPLETE"}
    versions = [(each["name"], each["facets"]["version"]["datasetVersion"]) for each in outputs["nightly.train"]]
    assert versions == [("credit", "4"), ("credit", "5")] and outputs["nightly.report"] == []


def test_code_is_told_with_its_commit_and_without_the_token(listing: Workspace, tmp_path: Path) -> None:
    notebook = tmp_path / "repo" / "notebooks" / "train.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.write_text("{}")
    git = ["git", "-C", str(tmp_path / "repo"), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (
        ["init", "-qb", "main"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["remote", "add", "origin", "https://t0ken@git.bank.example/r.git"],
    ):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    lineage.tell(listing, row(), [step("train", "done", notebook=str(notebook))], "COMPLETE", patience=60)
    text = (tmp_path / "events.jsonl").read_text()
    code = json.loads(text.splitlines()[1])["job"]["facets"]["sourceCodeLocation"]
    assert code["version"] == commit and code["path"] == "notebooks/train.ipynb" and code["branch"] == "main"
    assert code["url"] == f"https://git.bank.example/r/blob/{commit}/notebooks/train.ipynb" and "t0ken" not in text


SECRET = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8, max_size=20).map(
    lambda text: f"Zq{text}"
)
PLACES = [
    "postgresql://{}:{}@db.example/core?table=loans", "postgresql://db.example/core?password={}{}&query=select * from loans",
    "s3://{}:{}@bucket/key.csv", "https://{}:{}@bank.example/x.csv", "https://bank.example/x.csv?a={}&token={}", "gs://bucket/x.csv?k={}#{}",
]  # fmt: skip


@given(SECRET, SECRET, st.sampled_from(PLACES))
@settings(max_examples=60, deadline=None)
def test_no_credentials_in_names(user: str, password: str, place: str) -> None:
    ws = workspace.Workspace(workspace.Settings(Path("/tmp"), experiment="bank"))
    for each in datasets.of_text(ws, place.format(user, password), Path("/srv")):
        assert user not in f"{each}" and password not in f"{each}"


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_is_taken_or_left(text: str) -> None:
    ws = workspace.Workspace(workspace.Settings(Path("/tmp/nowhere"), experiment="bank"))
    for each in datasets.of_text(ws, text, Path("/srv"), files=True):
        assert each.namespace and each.name


# ---- where to, and whether it matters -------------------------------------------------------------------------------


def test_a_receiver_gets_every_event(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = workspace.create(tmp_path, lineage=f"http://127.0.0.1:{hook.port}")
    seen: list[tuple[str, str | None]] = []
    hook.answers = [
        lambda handler: (
            seen.append((handler.path, handler.headers["Authorization"])),
            handler.send_response(201),
            handler.end_headers(),
        )
    ] * 4  # type: ignore[list-item]
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "k3y")
    lineage.tell(ws, row(), [], "START")
    assert lineage.tell(ws, row(), [step("train", "done")], "COMPLETE", patience=60) == ""
    assert [event["eventType"] for _, event in hook.got] == ["START", "START", "COMPLETE", "COMPLETE"]
    for _, event in hook.got:
        check(event)
    assert seen[0] == ("/api/v1/lineage", "Bearer k3y")


def test_a_receiver_that_refuses_hangs_or_is_gone_is_told_of_once(tmp_path: Path, hook: Hook) -> None:
    over = threading.Event()
    for number, answer in enumerate([500, lambda _: over.wait()]):
        hook.answers = [answer]
        ws = workspace.create(tmp_path / str(number), lineage=f"http://ana:s3cret@127.0.0.1:{hook.port}/receive")
        said = lineage.tell(ws, row(), [step("train", "done")], "COMPLETE", patience=60)
        assert "127.0.0.1" in said and "s3cret" not in said, said
        before = len(hook.got)
        assert lineage.tell(ws, row(), [], "COMPLETE", patience=60) == "" and len(hook.got) == before, (
            "it is left alone for a while"
        )
    over.set()
    gone = workspace.create(tmp_path / "gone", lineage="http://127.0.0.1:9")
    assert "refused" in lineage.tell(gone, row(), [], "COMPLETE", patience=60)


def test_a_run_does_not_wait_for_a_receiver_that_hangs(tmp_path: Path, hook: Hook) -> None:
    over = threading.Event()
    hook.answers = [lambda _: over.wait()]
    ws = workspace.create(tmp_path, lineage=f"http://127.0.0.1:{hook.port}")
    lineage.tell(ws, row(), [], "START")
    lineage.tell(ws, row(), [step("train", "done")], "COMPLETE", patience=0.01)
    assert not over.is_set(), "tell came back while the receiver still held the first event"
    over.set()


@pytest.mark.parametrize("place", ["/dev/full", "/proc/nothing/events.jsonl", "a-folder"])
def test_a_file_that_cannot_be_written_does_not_matter(tmp_path: Path, place: str) -> None:
    (tmp_path / "a-folder").mkdir()
    ws = workspace.create(tmp_path, lineage=place)
    assert place in lineage.tell(ws, row(), [step("train", "done")], "COMPLETE", patience=60)


WRITE = """
import json, sys
from aiplat.core.workspace import workspace
from aiplat.operations import lineage
from aiplat.operations.pipelines.tables import RunRow, StepRow
ws, run, step = workspace(sys.argv[1]), RunRow(**json.loads(sys.argv[3])), json.loads(sys.argv[4])
for number in range(8):
    named = StepRow(**{**step, "step": f"s{sys.argv[2]}-{number}"})
    assert lineage.tell(ws, run, [named], "COMPLETE", patience=60) == ""
"""


def writing(code: str, home: Path, number: int) -> list[str]:
    return [
        sys.executable,
        "-c",
        code,
        str(home),
        str(number),
        json.dumps(vars(row())),
        json.dumps(vars(step("train", "done"))),
    ]


def test_several_processes_append_whole_lines(listing: Workspace, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"torn": ')  # a full disk cut an earlier line short
    writers = [subprocess.Popen(writing(WRITE, tmp_path, number)) for number in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    text = (tmp_path / "events.jsonl").read_text().splitlines()
    assert text[0] == '{"torn": ' and len(text) == 1 + 3 * 8 * 3
    jobs = {json.loads(line)["job"]["name"] for line in text[1:]}
    assert len(jobs) == 1 + 3 * 8


def test_events_survive_the_end_of_the_process(tmp_path: Path) -> None:
    workspace.create(tmp_path, lineage="events.jsonl")
    code = WRITE.replace('patience=60) == ""', 'patience=0) == ""')
    done = subprocess.run(writing(code, tmp_path, 0), timeout=120)
    assert done.returncode == 0 and len(lines(tmp_path / "events.jsonl")) == 3 * 8
