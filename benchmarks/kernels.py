"""What a kernel costs: a sweep of small notebooks against papermill, and an empty notebook."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RUNS, PLAIN = 20, 6
SMALL = [
    "import pandas as pd\nfrom sklearn.datasets import make_classification",
    "from sklearn.linear_model import LogisticRegression\nx, y = make_classification(500, random_state=seed)",
    "rows = pd.DataFrame(x)\nmodel = LogisticRegression().fit(rows, y)",
    "print(seed, model.score(rows, y))",
]
PAPERMILL = """
import sys, time, papermill
began = time.perf_counter()
for seed in range(int(sys.argv[1])):
    papermill.execute_notebook("small.ipynb", f"out{seed}.ipynb", {"seed": seed}, progress_bar=False)
print(time.perf_counter() - began)
"""


def _notebook(cells: list[str]):
    from nbformat.v4 import new_code_cell, new_notebook

    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = [new_code_cell("seed = 0", metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)]
    return new_notebook(cells=made, metadata={"kernelspec": kernel})


def _perform(folder: Path, cells: list[str], number: int = 0) -> float:
    """Seconds of one run, everything included."""
    from aiplat.operations.kernels.orders import Order
    from aiplat.operations.kernels.performing import perform
    from aiplat.operations.notebooks import give

    began = time.perf_counter()
    book = _notebook(cells)
    give(book, {"seed": number}, 0)
    copy, log = folder / f"copy{number}.ipynb", folder / f"{number}.log"
    answer = perform(
        Order(
            "0" * 32, "step", 1, "small.ipynb", json.dumps(book), "python3", str(folder), copy=str(copy), log=str(log)
        )
    )
    assert answer.outcome == "done", answer
    return time.perf_counter() - began


def _warm(folder: Path) -> None:
    """Wait until the nursery has imported everything and has rehearsed."""
    from aiplat.operations.kernels.nursery import LIBRARIES

    cells = [f"import json, sys\njson.dump({LIBRARIES[-1]!r} in sys.modules, open('warm.json', 'w'))"]
    end = time.monotonic() + 120
    while time.monotonic() < end:
        _perform(folder, cells)
        if json.loads((folder / "warm.json").read_text()):
            break
        time.sleep(1)  # asked for kernels all the time, it would import nothing
    time.sleep(2)


def sweep_vs_papermill() -> dict:
    """20 runs of a small notebook, two at a time, against as many of a plain papermill loop; per run."""
    import nbformat

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        nbformat.write(_notebook(SMALL), folder / "small.ipynb")
        _warm(folder)
        ours, theirs = [], []
        for _ in range(2):  # take turns, so that a noisy moment hits both
            command = [sys.executable, "-c", PAPERMILL, str(PLAIN // 2)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            theirs.append(float(done.stdout) / (PLAIN // 2))
            began = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                alone = list(pool.map(lambda number: _perform(folder, SMALL, number), range(RUNS // 2)))
            ours.append((time.perf_counter() - began) / (RUNS // 2))
    ratio = sum(theirs) / sum(ours)
    detail = {"papermill a run": round(statistics.mean(theirs), 3), "here a run": round(statistics.mean(ours), 3)}
    detail |= {"one by itself": round(statistics.median(alone), 3), "load": os.getloadavg()[0]}
    return {
        "bench": "sweep_vs_papermill",
        "value": round(ratio, 1),
        "target": ">= 10",
        "ok": ratio >= 10,
        "detail": detail,
    }


def kernel_overhead() -> dict:
    """A notebook that does nothing, from the order to the answer, warm."""
    with tempfile.TemporaryDirectory() as scratch:
        _warm(Path(scratch))
        seconds = statistics.median(_perform(Path(scratch), ["pass"]) for _ in range(10))
    return {
        "bench": "kernel_overhead",
        "value": round(seconds, 3),
        "target": "<= 0.4",
        "ok": seconds <= 0.4,
        "detail": {"runs": 10},
    }


if __name__ == "__main__":
    for bench in (kernel_overhead, sweep_vs_papermill):
        print(json.dumps(bench()))
