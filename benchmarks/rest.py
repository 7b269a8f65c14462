"""What a refresh of JupyterLab's panel costs the server, with 10,000 runs, 50,000 trials and 500 versions."""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS, TRIALS, VERSIONS = 10_000, 5, 500
REFRESH_LIMIT = 20.0  # milliseconds of server time
ROUNDS = 15


def _fill(folder: Path) -> Any:
    """A workspace with many runs and versions, written straight into MLflow's tables."""
    from aiplat.core import ledger, workspace

    ws = workspace.create(folder, user="ana", gates={"production": {"approvals": "1 by risk"}})
    experiment, now = ws.experiment_id(), int(time.time() * 1000)
    runs, tags, metrics = [], [], []
    for number in range(RUNS * (TRIALS + 1)):
        id_, first = f"{number:032x}", number % (TRIALS + 1) == 0
        runs.append(
            (id_, f"run {number}", "ana", "FINISHED", now + number, now + number + 1, "active", experiment, "LOCAL")
        )
        if first:
            about = {
                "aiplat.kind": "train",
                "aiplat.metric": "roc_auc",
                "aiplat.task": "binary",
                "aiplat.model_digest": id_,
            }
            tags += [(key, value, id_) for key, value in about.items()]
            metrics += [(name, 0.9, now, 0, 0, id_) for name in ("roc_auc", "log_loss", "accuracy")]
        else:
            tags.append(("mlflow.parentRunId", f"{number - number % (TRIALS + 1):032x}", id_))
    ws.client().create_registered_model("credit")
    made = [
        ("credit", n, now + n, now + n, "None", str(folder), f"{6 * n:032x}", "READY") for n in range(1, VERSIONS + 1)
    ]
    with sqlite3.connect(ws.state / "mlflow.db", timeout=60) as database:
        names = "run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, experiment_id, source_type"
        database.executemany(f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * 9)})", runs)
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
        database.executemany(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
            metrics,
        )
        fields = "name, version, creation_time, last_updated_time, current_stage, source, run_id, status"
        database.executemany(f"INSERT INTO model_versions ({fields}) VALUES ({', '.join('?' * 8)})", made)
    ws.client().set_registered_model_alias("credit", "production", 7)
    ledger.append(ws, "note", "data:x")
    return ws


def panel_refresh() -> dict[str, Any]:
    """Server time of a refresh after something happened: a page of runs, and the models with their gates."""
    from aiplat.core import ledger
    from aiplat.frontends.rest import standing, tracking

    with tempfile.TemporaryDirectory() as folder:
        ws = _fill(Path(folder))

        def seconds(work: Any) -> float:
            began = time.thread_time()  # what it costs the server; what it waits for others on this machine is theirs
            json.dumps(work())
            return time.thread_time() - began

        first = seconds(lambda: [tracking.runs(ws, 50), standing.models(ws)])
        taken, runs, models = [], [], []
        for _ in range(ROUNDS):
            ledger.append(ws, "note", "data:x")
            runs.append(seconds(lambda: tracking.runs(ws, 50)))
            models.append(seconds(lambda: standing.models(ws)))
            taken.append(runs[-1] + models[-1])
        deep = seconds(lambda: tracking.runs(ws, 50, f"{6 * 100:032x}"))
    value = round(1000 * statistics.median(taken), 1)
    detail = {
        "runs_ms": round(1000 * statistics.median(runs), 1),
        "models_ms": round(1000 * statistics.median(models), 1),
        "first_ms": round(1000 * first, 1),
        "last_page_ms": round(1000 * deep, 1),
        "runs": RUNS,
        "trials": RUNS * TRIALS,
        "versions": VERSIONS,
    }
    return {
        "bench": "panel_refresh",
        "value": value,
        "target": f"< {REFRESH_LIMIT:.0f} ms",
        "ok": value < REFRESH_LIMIT,
        "detail": detail,
    }
