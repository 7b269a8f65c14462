"""What a pipeline costs beside the work in its notebooks."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

STEPS = 500
OVERHEAD, CACHED, DECIDED, COMPUTING = 0.4, 0.030, 2.0, 1.05
WORK = """
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
x, y = make_classification(20_000, 20, random_state=0)
for seed in range(ROUNDS):
    model = HistGradientBoostingClassifier(random_state=seed).fit(x, y)
    pd.DataFrame(x).assign(y=model.predict(x)).groupby("y").mean()
"""


def _workspace() -> Any:
    from aiplat.core import workspace

    os.environ["AIPLAT_RAY"] = "local"
    ws = workspace.create(tempfile.mkdtemp(prefix="aiplat-bench-"), user="ana")
    os.chdir(ws.root)
    return ws


def _notebook(folder: Path, name: str, *cells: str) -> Path:
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    made = [new_code_cell(cell) for cell in cells]
    made[0].metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=made), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def step_overhead() -> dict:
    """Ten steps, one after another, whose notebook does nothing: the run's time a step, record included."""
    from aiplat.operations import pipeline

    ws = _workspace()
    book = _notebook(ws.root, "nothing", "n: int = 0")
    pipeline.run(book, matrix=["n=0..1"])  # the nursery and the databases are there afterwards
    seconds = [pipeline.run(book, matrix=["n=1..10"], concurrency=1).row.seconds / 10 for _ in range(3)]
    value = statistics.median(seconds)
    detail = f"{', '.join(f'{each:.2f}' for each in seconds)} s a step, one at a time"
    return {
        "bench": "step_overhead",
        "value": round(value, 3),
        "target": OVERHEAD,
        "ok": value <= OVERHEAD,
        "detail": detail,
    }


def cached_steps() -> dict:
    """A chain of 500 steps that are all cached, each needing the one before: until the last is decided."""
    from aiplat.operations import pipeline
    from aiplat.operations.kernels.orders import Answer
    from aiplat.operations.pipelines import places, recording

    ws = _workspace()
    _notebook(ws.root, "step", "x: int = 1\nbefore: str = ''", "import helper")
    (ws.root / "helper.py").write_text("y = 1\n")
    (ws.root / "pipelines").mkdir()
    lines = []
    for number in range(STEPS):
        before = f', before = "{{{{ steps.s{number - 1}.value }}}}"' if number else ""
        lines.append(f'[steps.s{number}]\nnotebook = "../step.ipynb"\nparameters = {{ x = {number}{before} }}\n')
    (ws.root / "pipelines" / "chain.toml").write_text("\n".join(lines))

    def at_once(order: Any, tell: Any, stop: Any) -> Answer:
        Path(order.copy).write_text("{}")
        return Answer("done", outputs={"value": order.step}, digest=hashlib.sha256(b"{}").hexdigest())

    with (
        mock.patch.dict(os.environ, {places.INSIDE: "bench"}),
        mock.patch.object(places, "perform", at_once),
        mock.patch.object(recording, "log_step", lambda *_: "0" * 32),
    ):
        pipeline.run("chain")  # what was done before: written by the engine itself, without kernels
        seconds = []
        for _ in range(3):
            result = pipeline.run("chain")
            assert {step.state for step in result.steps} == {"cached"}
            seconds.append(result.row.seconds)
    value = statistics.median(seconds)
    detail = (
        f"{1000 * value / STEPS:.1f} ms a cached step (target {1000 * CACHED:.0f}), record and end of the run included"
    )
    good = value <= DECIDED and value / STEPS <= CACHED
    return {"bench": "cached_steps", "value": round(value, 2), "target": DECIDED, "ok": good, "detail": detail}


def computing_overhead() -> dict:
    """Cells that fit models for ten seconds, as a pipeline run, against the same code as a script; four of each."""
    from threadpoolctl import threadpool_limits

    from aiplat.operations import pipeline

    ws = _workspace()
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # a step has one CPU unless it asks for more
    with threadpool_limits(1):
        exec(WORK.replace("ROUNDS", "1"), {})
        start = time.perf_counter()
        exec(WORK.replace("ROUNDS", "4"), {})
    code = WORK.replace("ROUNDS", str(int(10 / (time.perf_counter() - start) * 4)))
    (ws.root / "work.py").write_text(code)
    book = _notebook(ws.root, "work", "x = 1", code)
    pipeline.run(_notebook(ws.root, "nothing", "x = 1"))
    scripts, runs = [], []
    for _ in range(4):  # take turns, so that a noisy moment hits both
        start = time.perf_counter()
        subprocess.run([sys.executable, "work.py"], check=True, cwd=ws.root, env=alone)
        scripts.append(time.perf_counter() - start)
        start = time.perf_counter()
        pipeline.run(book)
        runs.append(time.perf_counter() - start)
    value = statistics.median(runs) / statistics.median(scripts)
    detail = f"script {statistics.median(scripts):.2f} s, run {statistics.median(runs):.2f} s, everything included"
    return {
        "bench": "computing_overhead",
        "value": round(value, 3),
        "target": COMPUTING,
        "ok": value <= COMPUTING,
        "detail": detail,
    }
