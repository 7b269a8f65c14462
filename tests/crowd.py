"""A workspace of a big team: ten thousand runs and five hundred versions, written straight into MLflow's tables."""

from __future__ import annotations

import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiplat.core.workspace import Workspace

MARKUP = "<img src=x onerror=\"window.__ran='markup'\">"
RIGHT_TO_LEFT = "\u202eمرحبا بالعالم\u202c"
LONG = "x" * 250
EMOJI = "🦓🔥 zebra"
HOSTILE = (MARKUP, RIGHT_TO_LEFT, LONG, EMOJI)


def log(ws: Workspace, name: str, state: str = "FINISHED", value: float | None = None) -> str:
    """One run, as `train` writes it, through MLflow's client; its id."""
    client = ws.client()
    tags = {"aiplat.kind": "train", "aiplat.task": "binary", "aiplat.metric": "roc_auc", "mlflow.user": "ana"}
    run = client.create_run(ws.experiment_id(), tags=tags, run_name=name).info.run_id
    if value is not None:
        client.log_metric(run, "roc_auc", value)
    if state != "RUNNING":
        client.set_terminated(run, state)
    return str(run)


def crowd(ws: Workspace, runs: int = 10_000, versions: int = 500, name: str = "credit") -> None:
    """Make so many runs, of which the newest have hostile names, and so many versions of a model.

    Parameters
    ----------
    ws
        The workspace.
    runs, versions
        How many.
    name
        Of the model; another one has a hostile name.
    """
    first = log(ws, "run 0", value=0.5)
    with closing(sqlite3.connect(Path(ws.state) / "mlflow.db")) as db:
        _multiply(db, first, runs - 1)
        _register(db, first, name, versions)
        _register(db, first, MARKUP, 1)
        db.execute("INSERT INTO registered_model_aliases (alias, version, name, workspace) VALUES (?, ?, ?, ?)",
                   ("production", max(1, versions - 2), name, _workspace(db)))  # fmt: skip
        db.commit()
    for odd in HOSTILE:
        log(ws, odd, value=0.75)


def _workspace(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT workspace FROM experiments LIMIT 1").fetchone()[0])


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def _insert(db: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    names = _columns(db, table)
    marks = ", ".join("?" * len(names))
    db.executemany(f"INSERT INTO {table} VALUES ({marks})", ([row.get(name) for name in names] for row in rows))


def _multiply(db: sqlite3.Connection, run: str, times: int) -> None:
    """Copies of a run, each a second younger."""
    for table in ("runs", "tags", "latest_metrics"):
        names = _columns(db, table)
        found = [
            dict(zip(names, row, strict=True))
            for row in db.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,))
        ]
        made = []
        for copy in range(1, times + 1):
            for row in found:
                fresh = {**row, "run_uuid": _id(copy)}
                if table == "runs":
                    began = row["start_time"] - 1000 * (times - copy)
                    fresh |= {"name": f"run {copy}", "start_time": began, "end_time": began + 900}
                    fresh["status"] = "FAILED" if copy % 7 == 3 else "FINISHED"
                if table == "latest_metrics":
                    fresh["value"] = 0.5 + (copy % 400) / 1000
                made.append(fresh)
        _insert(db, table, made)


def _id(number: int) -> str:
    return uuid.UUID(int=number).hex


def _register(db: sqlite3.Connection, run: str, name: str, versions: int) -> None:
    """A registered model; its versions are of one run."""
    now, space = int(1000 * time.time()), _workspace(db)
    _insert(db, "registered_models", [
        {"name": name, "creation_time": now, "last_updated_time": now, "workspace": space}
    ])  # fmt: skip
    _insert(db, "model_versions", [
        {
            "name": name, "version": number, "creation_time": now - 60_000 * (versions - number), "last_updated_time": now,
            "current_stage": "None", "source": f"runs:/{run}/model", "run_id": run, "status": "READY", "workspace": space,
        }
        for number in range(1, versions + 1)
    ])  # fmt: skip
