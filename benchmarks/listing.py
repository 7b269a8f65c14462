"""How long the first page of the runs takes when there are ten thousand of them, and what logging one costs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from aiplat.core.workspace import Workspace

RUNS, TRIALS = 10_000, 5  # and so many trials in each
PAGE_LIMIT, LOG_LIMIT = 1.0, 1.5  # seconds
SEARCHED = 24  # trials of the run whose logging is timed


def _workspace(folder: Path) -> Workspace:
    from aiplat.core import workspace

    ws = workspace.create(folder, user="ana")
    ws.experiment_id()
    return ws


def _fitted() -> tuple[Any, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """A model on the sample's applications, its rows, and what is said of it."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    from aiplat.data.sample import credit

    rows = credit(rows=20_000, seed=0)
    train, test = rows[:15_000], rows[15_000:]
    features = [name for name in rows if name != "approved"]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = make_column_transformer((codes, make_column_selector(dtype_exclude="number")), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(random_state=0)).fit(
        train[features], train["approved"]
    )
    about = {"task": "binary", "target": "approved", "positive": "1", "features": features, "metric": "roc_auc"}
    return model, train, test, about


def _log(ws: Workspace, trials: int, fitted: tuple[Any, pd.DataFrame, pd.DataFrame, dict[str, Any]]) -> str:
    from aiplat.training.runs import TrialRecord, log_run

    model, train, test, about = fitted
    params = {f"parameter {i}": i / 7 for i in range(7)}
    records = [TrialRecord(i, "histogram", params, [0.8] * 5, 0.8, seconds=1.0) for i in range(trials)]
    return log_run(ws, "train", model, train=train, test=test, params=params, trials=records, **about).run.id


def _multiply(file: Path, run: str, times: int) -> None:
    """Copy a run and its trials in MLflow's database; logging them one by one would take minutes."""
    with closing(sqlite3.connect(file)) as db:
        family = [run, *(row[0] for row in db.execute(PARENT, ("mlflow.parentRunId", run)))]
        rows = {
            (table, member): db.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (member,)).fetchall()
            for table in ("runs", "tags", "params", "latest_metrics")
            for member in family
        }
        names = {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table, _ in rows}
        for copy in range(times):
            fresh = {member: uuid.uuid4().hex for member in family}
            for (table, member), found in rows.items():
                at = names[table].index("run_uuid")
                marks = ", ".join("?" * len(names[table]))
                copies = [
                    [fresh.get(value, value) if isinstance(value, str) else value for value in row] for row in found
                ]
                if table == "runs":
                    for row in copies:
                        row[names[table].index("start_time")] -= 1000 * (copy + 1)
                assert all(row[at] == fresh[member] for row in copies)
                db.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)
        db.commit()


PARENT = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"


def list_10k_runs() -> dict:
    """`aiplat runs` after the imports: dead runs looked for, then the newest 25 of 10,000. The slower of two calls."""
    from aiplat.training.history import runs

    folder, here = Path(tempfile.mkdtemp(prefix="aiplat-bench-")), os.getcwd()
    try:
        ws = _workspace(folder)
        run = _log(ws, TRIALS, _fitted())
        _multiply(folder / ".aiplat" / "mlflow.db", run, RUNS - 1)
        os.chdir(folder)
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            page = runs()
            taken.append(time.perf_counter() - began)
        assert len(page.runs) == 25 and page.more and page.runs[0].id == run and page.runs[0].features
        size = (folder / ".aiplat" / "mlflow.db").stat().st_size
    finally:
        os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)
    value = max(taken)
    return {
        "bench": "list_10k_runs",
        "value": round(value, 3),
        "target": f"<= {PAGE_LIMIT:g} s",
        "ok": value <= PAGE_LIMIT,
        "detail": {
            "first": round(taken[0], 3),
            "second": round(taken[1], 3),
            "runs": RUNS,
            "trials": RUNS * TRIALS,
            "MB": size >> 20,
        },
    }


def log_a_run() -> dict:
    """What a run costs beyond training: 24 trials, snapshots, model, evaluation, evidence. The better of two calls."""
    folder = Path(tempfile.mkdtemp(prefix="aiplat-bench-"))
    try:
        ws, fitted = _workspace(folder), _fitted()
        _log(ws, 1, fitted)  # imports, and rows that are kept already, as after a second search on the same data
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            _log(ws, SEARCHED, fitted)
            taken.append(time.perf_counter() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    value = min(taken)
    return {
        "bench": "log_a_run",
        "value": round(value, 2),
        "target": f"<= {LOG_LIMIT:g} s",
        "ok": value <= LOG_LIMIT,
        "detail": {"worse": round(max(taken), 2), "trials": SEARCHED, "rows": 20_000},
    }
