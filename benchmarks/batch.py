"""Scoring many rows: `predict` against what a person would write with pandas and scikit-learn, and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

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


def prepared(home: Path) -> Any:
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
        for number in range(ROWS // PIECE):
            writer.write_table(people(PIECE, 2 + number))
    return ws


THEIRS = """
import pandas as pd, sys
from aiplat.core.models import thaw
from aiplat.core import workspace
from aiplat.core.refs import load_model
model = load_model(workspace.workspace(), "income/1")
import time
began = time.perf_counter()
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
began = time.perf_counter()
said = predict("income/1", "people.parquet", out="ours.parquet")
assert "compiled" in said.where and "uncompiled" not in said.where, said.where
"""
END = """
import json, resource
print(json.dumps([time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def process(code: str, home: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of some code in a process of its own, with all processors."""
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
    return tuple(json.loads(done.stdout.splitlines()[-1]))  # type: ignore[return-value]


def batch_scoring() -> dict[str, Any]:
    """10 M rows of Adult's shape from Parquet to Parquet: how many times faster, and peak memory."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        home = Path(folder)
        began = time.perf_counter()
        os.chdir(home)
        prepared(home)
        made = time.perf_counter() - began
        runs = [(process(THEIRS, home), process(OURS, home)) for _ in range(2)]
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
