"""Two weeks of runs of a small team, as rows of the tables: for looking at pages without waiting two weeks."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiplat.core.workspace import Workspace
from aiplat.operations import alerts
from aiplat.operations.pipelines import tables
from aiplat.operations.pipelines.files import find
from aiplat.operations.pipelines.plans import Moment
from aiplat.operations.pipelines.tables import (
    CACHED,
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    WAITING,
    RunRow,
    StepRow,
)
from aiplat.operations.schedules import book

HOUR, DAY = 3600.0, 86400.0
WHAT = "the contract is broken: income has 12 % gaps, 5 % are allowed"
TODO = "mend the source, or the contract if this is how things are now"
ERROR = {"kind": "cell", "what": WHAT, "todo": TODO, "cell": 4, "line": "checked = check(data, contract)"}
FILE = """\
[steps.ingest]
notebook = "ingest.ipynb"
[steps.check]
notebook = "check.ipynb"
needs = ["ingest"]
[steps.train]
notebook = "train.ipynb"
needs = ["check"]
matrix = { segment = ["north", "south"] }
[steps.audit]
notebook = "audit.ipynb"
needs = ["train"]
[steps.report]
notebook = "report.ipynb"
needs = ["audit"]
"""
EMPTY = '{"cells": [], "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}'


def _run(
    ws: Workspace, name: str, start: float, state: str, seconds: float | None = None, schedule: str = "", **more: Any
) -> RunRow:
    at = datetime.fromtimestamp(start, UTC)
    known = {
        "id": uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {start}").hex, "pipeline": name, "file": str(ws.root / "pipelines" / f"{name}.toml"),
        "digest": "", "parameters": {}, "moment": Moment(at, at - timedelta(days=1), at).to_dict(),
        "cause": "schedule" if schedule else "person", "schedule": schedule, "fire_time": start if schedule else None, "options": {},
        "state": state, "reason": "", "error": None, "actor": "ana", "created": start, "started": None if state == QUEUED else start,
        "ended": start + seconds if seconds else None, "driver": None, "beat": None, "cancel_asked": None, "mlflow_run": "", "notes": [],
    }  # fmt: skip
    return RunRow(**{**known, **more})


def _step(run: RunRow, key: str, place: int, state: str, start: float | None, **more: Any) -> StepRow:
    ended = start + 40 if start and state not in (RUNNING, WAITING) else None
    return StepRow(
        run.id, key, 1, run.pipeline, key.partition("[")[0], place, state, started=start, ended=ended, cells=9, **more
    )


def _schedule(name: str, pipeline: str, kind: str, spec: str, now: float, **more: Any) -> book.Schedule:
    known = {
        "name": name, "pipeline": pipeline, "file": "", "kind": kind, "spec": spec, "tz": "Europe/Berlin", "anchor": None, "parameters": {},
        "missed": "latest", "overlap": "skip", "grace": 60.0, "paused": None, "next_fire": None, "last_fire": None, "cursor": "",
        "created": now - 30 * DAY, "actor": "ana",
    }  # fmt: skip
    made = book.Schedule(**{**known, **more})
    following = made.calendar.next(datetime.fromtimestamp(now, UTC)).timestamp() if made.calendar else None
    return book.Schedule(**{**vars(made), "next_fire": following})


def fortnight(ws: Workspace, now: float, word: str = "") -> None:
    """Fill a fresh workspace: a nightly pipeline that failed last, one under way, one queued, one that never ran; five schedules.

    Parameters
    ----------
    ws
        A workspace without runs.
    now
        When it shall be, in UTC seconds.
    word
        Added to an error and to a name, such as what an attacker would write there.
    """
    (ws.root / "pipelines").mkdir(exist_ok=True)
    for name in ("weekly-audit", "onboarding"):
        Path(ws.root, "pipelines", f"{name}.toml").write_text(FILE)
    for name in ("ingest", "check", "train", "audit", "report"):
        Path(ws.root, "pipelines", f"{name}.ipynb").write_text(EMPTY)
    nights = [
        _run(ws, "nightly", now - 9 * HOUR - i * DAY, FAILED if i == 5 else DONE, 310.0 + 7 * i, "nightly")
        for i in range(1, 14)
    ]
    error = {**ERROR, "what": WHAT + word, "step": "check"}
    failed = _run(ws, "nightly", now - 9 * HOUR, FAILED, 62.0, "nightly", error=error)
    going = _run(ws, "weekly-audit", now - 200, RUNNING, None, "weekly", digest=find("weekly-audit", ws).digest)
    scores = [
        _run(ws, "scores", now - 30 * 60 - i * HOUR, DONE if i % 4 else CANCELLED, 14.0, "scores") for i in range(8)
    ]
    queued = _run(ws, "weekly-audit", now - 5, QUEUED)
    told = {"cell": 5, "line": 'model = train(data, target="approved")', "node": "head"}
    steps = [
        _step(failed, "ingest", 0, DONE, failed.started), _step(failed, "check", 1, FAILED, failed.started, error=error, cell=4),
        _step(going, "ingest", 0, DONE, now - 200), _step(going, "check", 1, CACHED, now - 160),
        _step(going, "train[segment=north]", 2, RUNNING, now - 95, **told),
        _step(going, "train[segment=south]", 2, RUNNING, now - 60, cell=2, line="data = load(segment)", node="worker-1"),
        _step(going, "audit", 3, WAITING, None), _step(going, "report", 4, WAITING, None),
    ]  # fmt: skip
    schedules = [
        _schedule("nightly", "nightly", "cron", "0 2 * * *", now), _schedule("weekly", "weekly-audit", "cron", "0 6 * * 1", now),
        _schedule("scores", "scores", "cron", "30 * * * *", now, tz="UTC"), _schedule("fresh-data", "nightly", "data", "credit", now),
        _schedule(f"old-report{word}", "report", "cron", "0 7 * * 1-5", now, paused=now - 9 * DAY),
    ]  # fmt: skip
    with book.store(ws).begin() as connection:
        for run in [*nights, failed, going, *scores, queued]:
            connection.execute(tables.runs_table().insert().values(**vars(run)))
            if run.schedule:
                fire = {"schedule": run.schedule, "fire_time": run.fire_time, "state": "queued", "run": run.id}
                fire |= {"claimed_by": "", "claimed": run.created, "reason": ""}
                connection.execute(book.table("fires").insert().values(**fire))
        for step in steps:
            connection.execute(tables.steps_table().insert().values(**vars(step)))
        for schedule in schedules:
            connection.execute(book.table("schedules").insert().values(**vars(schedule)))
        alerts.ended(ws, connection, failed, [step for step in steps if step.run == failed.id])
