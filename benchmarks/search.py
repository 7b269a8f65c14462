"""The search: against the same trials one after another, against Ray Tune, its first row, and how good it gets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiplat.core.pool import Pool
    from aiplat.core.workspace import Workspace

ROOT = Path(__file__).parent.parent
ADULT = ROOT.parent / "shared" / "data" / "adult"
TRIALS, FOLDS, ROWS = 24, 3, 2_000


@contextlib.contextmanager
def _stack() -> Iterator[tuple[Workspace, Pool]]:
    """A workspace with warm workers; the stack is stopped again unless it was there before."""
    from aiplat.core import cluster, workspace

    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder, contextlib.chdir(folder):
        ws = workspace.create(folder)
        try:
            with cluster.connect(ws) as pool:
                pool.facts(timeout=120)  # all of them, not only the first
                yield ws, pool
        finally:
            if not os.environ.get("AIPLAT_RAY"):
                cluster.down()


def _trials() -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """The rows, and 24 short trials: LightGBM, on one thread as always here, parameters drawn from its space."""
    import optuna

    from aiplat.data.sample import credit
    from aiplat.training.problem import pose
    from aiplat.training.spaces import LIGHTGBM
    from aiplat.training.trials import Rows

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = Rows.of(pose(credit(ROWS), "approved", folds=FOLDS), seed=0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [study.ask() for _ in range(TRIALS)]
    trials = [{name: dim.suggest(one, name) for name, dim in LIGHTGBM.space.items()} for one in asked]
    return rows, [("lightgbm", params) for params in trials]


def _in_turn(rows: Any, trials: list[tuple[str, dict[str, Any]]]) -> float:
    """Seconds for all folds of all trials, one after another in this process."""
    from aiplat.training.trials import score_fold

    began = time.perf_counter()
    for candidate, params in trials:
        for fold in range(FOLDS):
            score, error = score_fold(rows, candidate, params, fold)
            assert score is not None, error
    return time.perf_counter() - began


def _on_workers(pool: Pool, rows: Any, trials: list[tuple[str, dict[str, Any]]], key: str) -> float:
    """Seconds for the same by the search's own loop: every trial is one of its first ones, none is given up."""
    from aiplat.training.driving import Drive
    from aiplat.training.spaces import Candidate
    from aiplat.training.trials import Schedule

    began = time.perf_counter()
    offered = {str(i): Candidate(candidate, {}, params) for i, (candidate, params) in enumerate(trials)}
    schedule = Schedule(offered, FOLDS, 1)
    schedule.early = FOLDS  # nothing is decided before all folds are there
    Drive(schedule, time.monotonic()).run(pool, pool.share(rows, key))
    states = {(trial.state, trial.error) for trial in schedule.trials}
    assert len(schedule.trials) == TRIALS and states == {("complete", "")}, states
    return time.perf_counter() - began


def search_vs_serial() -> dict:
    """The search's trials on warm workers against the same trials in one process. Best of three turns of each."""
    rows, trials = _trials()
    with _stack() as (_, pool):
        _in_turn(rows, trials[:1])
        _on_workers(pool, rows, trials, "warm")
        turns = [(_in_turn(rows, trials), _on_workers(pool, rows, trials, f"turn {i}")) for i in range(3)]
        size = pool.size
    serial, workers = (min(times) for times in zip(*turns, strict=True))
    value = serial / workers
    detail = {"serial s": round(serial, 2), "workers s": round(workers, 2), "workers": size, "trials": TRIALS}
    return {
        "bench": "search_vs_serial",
        "value": round(value, 2),
        "target": ">= 1.6",
        "ok": value >= 1.6,
        "detail": detail,
    }


BY_TUNE = """
import contextlib, io, json, logging, sys, time
import ray
from ray import tune
from benchmarks.search import FOLDS, _trials

rows, trials = _trials()
ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level=logging.ERROR)
held = ray.put(rows)

def objective(config):
    from aiplat.training.trials import score_fold

    mine = ray.get(held)
    candidate, params = trials[config["trial"]]
    return {"score": sum(score_fold(mine, candidate, params, fold)[0] for fold in range(FOLDS)) / FOLDS}

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    began = time.perf_counter()
    found = tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space={"trial": tune.grid_search(list(range(len(trials))))},
        run_config=tune.RunConfig(storage_path=sys.argv[1], verbose=0),
    ).fit()
    seconds = time.perf_counter() - began
assert len(found) == len(trials) and not found.errors
print(json.dumps(seconds))
"""


def _by_tune() -> float:
    """Seconds for the same trials by Ray Tune as it comes, on a Ray of its own whose start does not count."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIPLAT_", "RAY_"))}
    environment["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="aiplat-tune-") as folder:
        command = [sys.executable, "-c", BY_TUNE, folder]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def search_vs_tune() -> dict:
    """The search's trials on warm workers against the same trials by Ray Tune."""
    rows, trials = _trials()
    with _stack() as (_, pool):
        _on_workers(pool, rows, trials, "warm")
        workers = min(_on_workers(pool, rows, trials, f"turn {i}") for i in range(3))
    tune = _by_tune()
    value = tune / workers
    detail = {"tune s": round(tune, 1), "workers s": round(workers, 2), "trials": TRIALS}
    return {"bench": "search_vs_tune", "value": round(value, 1), "target": ">= 15", "ok": value >= 15, "detail": detail}


FIRST_ROW = """
import json, sys, time
import pandas as pd
from aiplat.data.sample import credit
frame = credit(20_000)
began = time.perf_counter()
import aiplat
from aiplat.training import search
seen = {}

class Watch:
    def show(self, board):
        now = time.perf_counter() - began
        if board.rows:
            seen.setdefault("baseline", now)
        if any(row.candidate != "baseline" for row in board.rows):
            seen.setdefault("first fold of a trial", now)
        if board.done:
            seen.setdefault("first trial", now)
    def close(self, board):
        seen["all"] = time.perf_counter() - began

search.view = Watch
aiplat.train(frame, target="approved", trials=3)
print(json.dumps(seen))
"""


def first_row() -> dict:
    """From the command to the first row; pandas and the frame are loaded, the stack is up. Median of three."""
    with _stack() as (ws, _):
        runs = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", FIRST_ROW], cwd=ws.root, capture_output=True, text=True, check=True
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    middle = {name: round(sorted(run[name] for run in runs)[1], 2) for name in runs[0]}
    value = middle["baseline"]
    return {"bench": "first_row", "value": value, "target": "<= 3 s", "ok": value <= 3, "detail": middle}


def adult_auc() -> dict:
    """Adult, the standard split, 60 s on the workers: the AUC on the test rows."""
    report = {"bench": "adult_auc", "value": None, "target": ">= 0.927", "ok": None, "detail": {}}
    if not ADULT.exists():
        return report | {"detail": {"skipped": f"there is no {ADULT}"}}
    import aiplat

    with _stack(), contextlib.redirect_stderr(io.StringIO()):
        began = time.perf_counter()
        found = aiplat.train(
            str(ADULT / "adult-train.csv"), target="income", test=str(ADULT / "adult-test.csv"), budget="60s"
        )
        seconds = time.perf_counter() - began
    value = found.measures["roc_auc"].value
    detail = {
        "candidate": found.candidate,
        "trials": found.trials,
        "cv": round(found.score, 4),
        "seconds": round(seconds, 1),
    }
    return report | {"value": round(value, 4), "ok": value >= 0.927, "detail": detail}
