"""Scoring many rows: `predict` against what a person would write with pandas and scikit-learn, and its memory."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
ROWS, PIECE = 10_000_000, 500_000
TEXTS = {
    "workclass": 8, "education": 16, "marital_status": 7, "occupation": 14, "relationship": 6, "race": 5, "sex": 2,
    "native_country": 41,
}  # fmt: skip
NUMBERS = {
    "age": (17, 90), "fnlwgt": (12_000, 1_500_000), "education_num": (1, 17), "capital_gain": (0, 99_999),
    "capital_loss": (0, 4_356), "hours_per_week": (1, 99),
}  # fmt: skip


def people(rows: int, seed: int) -> Any:
    """An Arrow table of Adult's shape: six columns of numbers, eight of texts with as many levels as there, made up."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: rng.integers(low, high, rows) for name, (low, high) in NUMBERS.items()}
    for name, levels in TEXTS.items():
        codes = pa.array(rng.integers(0, levels, rows, dtype=np.int32))
        words = pa.array([f"{name.replace('_', ' ')} {level}" for level in range(levels)])
        columns[name] = pa.DictionaryArray.from_arrays(codes, words).cast(pa.string())
    return pa.table(columns)


def prepared(home: Path, rows: int = ROWS) -> Any:
    """A workspace with a gradient boosting of 100 trees that was trained on such rows and registered; and the rows."""
    import pyarrow.parquet as pq

    from aiplat.core import workspace
    from aiplat.release import registry
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.runs import log_run

    ws = workspace.create(home, user="ana")
    frame = people(30_000, 0).to_pandas()
    rng = np.random.default_rng(1)
    odds = (
        0.04 * (frame["age"] - 50)
        + 0.3 * (frame["education_num"] - 9)
        + (frame["sex"] == "sex 1")
        + frame["hours_per_week"] / 60
    )
    frame["income"] = (rng.random(len(frame)) < 1 / (1 + np.exp(-odds))).astype(int)
    features = [*NUMBERS, *TEXTS]
    train, test = frame[:25_000], frame[25_000:]
    model = build("hist_gradient_boosting", usable_columns(train[features]), {}, task="binary").fit(
        train[features], train["income"]
    )
    log_run(ws, "train", model, train=train, test=test, task="binary", target="income", positive="1", features=features)
    registry.register("last", "income")
    with pq.ParquetWriter(home / "people.parquet", people(1, 0).schema) as writer:
        for number in range(rows // PIECE):
            writer.write_table(people(PIECE, 2 + number))
    return ws


THEIRS = """
import pandas as pd, sys
from aiplat.core.models import thaw
from aiplat.core import workspace
from aiplat.core.refs import load_model
model = load_model(workspace.workspace(), "income/1")
import time
began, used = time.perf_counter(), time.process_time()
frame = pd.read_parquet("people.parquet")
chance = model.predict_proba(frame)[:, 1]
said = pd.DataFrame({"prediction": (chance > 0.5).astype(int), "probability_1": chance})
said.to_parquet("theirs.parquet", index=False)
"""
OURS = """
import pandas, sklearn.ensemble, time  # imported by both before the clock starts
from aiplat.core import workspace
from aiplat.core.refs import load_model
load_model(workspace.workspace(), "income/1")
from aiplat.release.batch import predict
began, used = time.perf_counter(), time.process_time()
said = predict("income/1", {arguments})
assert "compiled" in said.where and "uncompiled" not in said.where, said.where
"""
END = """
import json, resource
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.perf_counter() - began, peak, time.process_time() - used]))
"""


def process(code: str, home: Path) -> tuple[float, float, float]:
    """Seconds, peak megabytes and CPU seconds of some code in a process of its own, with all processors."""
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code + END],
        cwd=home,
        capture_output=True,
        text=True,
        env=environ | {"AIPLAT_HOME": str(home)},
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    seconds, peak, used = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak, used


def batch_scoring() -> dict[str, Any]:
    """10 M rows of Adult's shape from Parquet to Parquet: how many times faster, and peak memory."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        home = Path(folder)
        began = time.perf_counter()
        os.chdir(home)
        prepared(home)
        made = time.perf_counter() - began
        ours_code = OURS.format(arguments='"people.parquet", out="ours.parquet"')
        runs = [(process(THEIRS, home), process(ours_code, home)) for _ in range(2)]
        theirs, ours = (min(run[side][0] for run in runs) for side in (0, 1))
        peaks = [max(run[side][1] for run in runs) for side in (0, 1)]
        columns = [
            pq.read_table(home / f"{name}.parquet", columns=["probability_1"])["probability_1"].to_numpy()
            for name in ("theirs", "ours")
        ]
        apart = float(np.abs(columns[0] - columns[1]).max())
        os.chdir("/")
    value = theirs / ours
    detail = {
        "rows": ROWS, "ours_s": round(ours, 1), "theirs_s": round(theirs, 1), "ours_mb": round(peaks[1]),
        "theirs_mb": round(peaks[0]),
        "apart": apart, "made_s": round(made), "runs": [[round(t[0], 1), round(o[0], 1)] for t, o in runs],
    }  # fmt: skip
    return {
        "bench": "batch_scoring",
        "value": round(value, 2),
        "target": ">= 2, <= 1500 MB",
        "ok": value >= 2 and peaks[1] <= 1500,
        "detail": detail,
    }


PART, PARTS, ROUNDS = 500_000, 8, 3  # rows of a file, files, rounds
HOW = {"actors": 2, "batch_size": None, "blocks": PARTS}  # whole blocks, so that the actors themselves read the files


class Plain:
    """What an actor of Ray Data holds: the model from MLflow, asked as scikit-learn asks it."""

    def __init__(self, ready: Path, tracking: str):
        import mlflow
        import pandas  # noqa: F401  with the model, not in the first batch

        mlflow.set_tracking_uri(tracking)
        self.model = mlflow.sklearn.load_model("models:/income/1")
        (ready / str(os.getpid())).touch()

    def __call__(self, batch: Any) -> Any:
        import pandas as pd

        chance = self.model.predict_proba(batch)[:, 1]
        return pd.DataFrame({"id": batch["id"], "prediction": (chance > 0.5).astype(int), "probability_1": chance})


class Compiled:
    """The same with our compiled form, which takes Arrow tables as they are."""

    def __init__(self, ready: Path, packed: Any, asked: Any):
        from aiplat.release.batches.engines import compiled
        from aiplat.release.serving import bundles

        with tempfile.TemporaryDirectory() as folder:
            for name, content in packed.files.items():
                Path(folder, name).write_bytes(content)
            self.engine = compiled(bundles.load(Path(folder)), asked, packed.estimator)
        (ready / str(os.getpid())).touch()

    def __call__(self, batch: Any) -> Any:
        return self.engine(batch)


def _forms() -> dict[str, Any]:
    """Class, what it is made with, and the form of its batches."""
    from aiplat.core.refs import find_model, find_run, load_model
    from aiplat.core.workspace import workspace
    from aiplat.release.batch import learned, needed_columns
    from aiplat.release.batches.engines import Asked, Packed
    from aiplat.release.serving import bundles

    ws = workspace()
    version = find_model(ws, "income/1")
    run, bundle = find_run(ws, version.run_id), bundles.prepare(ws, version, ws.path("bundles"))
    asked = Asked(tuple(needed_columns(run)), ("id",), learned(ws, run), run.task, run.positive)
    packed = Packed.of(bundle.folder, bundle.model_digest, load_model(ws, version))
    return {"plain": (Plain, (ws.tracking_uri,), "pandas"), "compiled": (Compiled, (packed, asked), "pyarrow")}


def _of_all(ask: Callable[[Any], float]) -> float:
    """A sum over this process, its Ray and Ray's workers."""
    import psutil

    total, me = 0.0, psutil.Process()
    for each in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            total += ask(each)
    return total


def by_ray_data() -> None:
    """Answer orders from the input, one JSON line each, on one Ray: read, map, write, as its documentation does."""
    import ray
    import ray.data

    forms, here = _forms(), Path.cwd()
    # Its actors hold two CPUs, and reading and writing ask for more: with two it had written nothing in four minutes.
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(8).map_batches(lambda batch: batch).materialize()  # workers and imports are warm
    print("{}", flush=True)
    for line in sys.stdin:
        how = HOW | json.loads(line)
        kind, given, form = forms[how["form"]]
        ready, out = here / "ready", here / how["form"]
        for folder in (ready, out):
            shutil.rmtree(folder, ignore_errors=True)
        ready.mkdir()
        peaks, done = [0.0], threading.Event()
        watch = threading.Thread(target=_watch, args=(peaks, done))
        watch.start()
        began, at = time.perf_counter(), time.time()
        data = ray.data.read_parquet(str(here / "people"), override_num_blocks=how["blocks"])
        compute = ray.data.ActorPoolStrategy(size=how["actors"])
        said = data.map_batches(
            kind, fn_constructor_args=(ready, *given), batch_format=form, batch_size=how["batch_size"], compute=compute
        )
        said.write_parquet(str(out))
        seconds = time.perf_counter() - began
        done.set()
        watch.join()
        warm = max((file.stat().st_mtime - at for file in ready.iterdir()), default=0.0)
        print(json.dumps([seconds, max(peaks), warm]), flush=True)


def _watch(peaks: list[float], done: threading.Event) -> None:
    while not done.wait(1):
        peaks.append(_of_all(lambda each: each.memory_full_info().pss / 2**20))


@contextlib.contextmanager
def _ray_data(home: Path) -> Iterator[Callable[..., list[float]]]:
    """Ask `by_ray_data`, in a process of its own with a Ray of its own: seconds, peak megabytes, until ready."""
    taken = ("AIPLAT_", "RAY_", "OMP_NUM_THREADS")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(taken)}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    more = {"AIPLAT_HOME": str(home), "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    more["RAY_worker_niceness"] = "0"  # otherwise its workers give way to whatever else runs on the machine
    with open(home / "ray-data.log", "w") as log:
        there = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.batch import by_ray_data; by_ray_data()"],
            cwd=home, env=environ | more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert there.stdin and there.stdout

        def ask(**how: Any) -> list[float]:
            assert there.stdin and there.stdout
            print(json.dumps(how), file=there.stdin, flush=True)
            return answer()

        def answer() -> Any:
            assert there.stdout
            for line in there.stdout:
                if line[:1] in "{[" and line.rstrip()[-1:] in "}]":
                    return json.loads(line)
            raise RuntimeError((home / "ray-data.log").read_text()[-2000:])

        try:
            answer()
            yield ask
        finally:
            there.stdin.close()  # it leaves, and its Ray with it
            there.wait(60)


def _people_in_files(home: Path) -> None:
    """The rows as files with an id, by which the answers are compared."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (home / "people").mkdir()
    for number in range(PARTS):
        ids = pa.array(np.arange(number * PART, (number + 1) * PART))
        pq.write_table(people(PART, 2 + number).append_column("id", ids), home / "people" / f"{number:03d}.parquet")


def _told(folder: Path) -> tuple[Any, Any]:
    """Predictions and probabilities by id."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder).sort_by("id")
    assert (table["id"].to_numpy() == np.arange(PART * PARTS)).all(), f"{folder.name}: {len(table)} rows"
    return table["prediction"].to_numpy(), table["probability_1"].to_numpy()


def batch_vs_raydata() -> dict[str, Any]:
    """Four million rows against Ray Data, plain and with our compiled form, two actors on a warm Ray: times as fast."""
    ours_code = OURS.format(arguments='"people/", out="ours/", keep=["id"]')
    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder, contextlib.chdir(folder):
        home = Path(folder)
        prepared(home, rows=0)
        _people_in_files(home)
        process(ours_code, home)  # the compiled form is made and compared with the model
        runs: list[dict[str, Any]] = []
        with _ray_data(home) as ask:
            for turn in range(ROUNDS):
                sides = {
                    "ours": lambda: process(ours_code, home),
                    "compiled": lambda: ask(form="compiled"),
                    "plain": lambda: ask(form="plain"),
                }
                names = list(sides)[:: -1 if turn % 2 else 1]
                runs.append({name: sides[name]() for name in names})
        told = {name: _told(home / name) for name in ("ours", "plain", "compiled")}
    for name in ("plain", "compiled"):
        assert (told[name][0] == told["ours"][0]).all(), f"{name} predicts otherwise"
        assert np.allclose(told[name][1], told["ours"][1], rtol=0, atol=1e-9), f"{name} scores otherwise"

    def middle(of: Callable[[dict[str, Any]], float]) -> float:
        return round(float(np.median([of(run) for run in runs])), 2)

    def figures(name: str) -> dict[str, float]:
        # Ray ends its actors before their CPU can be summed, so there is no CPU of that side.
        units = ("s", "mb", "cpu_s") if name == "ours" else ("s", "mb", "ready_s")
        columns = zip(*(run[name] for run in runs), strict=True)
        return {f"{name}_{unit}": round(float(np.median(seen)), 2) for unit, seen in zip(units, columns, strict=True)}

    value = middle(lambda run: run["compiled"][0] / run["ours"][0])
    detail: dict[str, Any] = {
        "rows": PART * PARTS,
        "plain_ratio": middle(lambda run: run["plain"][0] / run["ours"][0]),
        "compiled_ratio_from_ready": middle(lambda run: (run["compiled"][0] - run["compiled"][2]) / run["ours"][0]),
    } | figures("ours") | figures("compiled") | figures("plain")  # fmt: skip
    detail["runs"] = [{name: round(run[name][0], 1) for name in run} for run in runs]
    return {
        "bench": "batch_vs_raydata",
        "value": value,
        "target": ">= 1",
        "ok": value >= 1 and detail["plain_ratio"] >= 1,
        "detail": detail,
    }
