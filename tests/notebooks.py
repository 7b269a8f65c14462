"""Run every chapter's code, each in a process of its own that is forked from one with the libraries imported.

`python -m tests.notebooks [-j JOBS] [PATH...]` is what `make test` calls. A fresh interpreter for each of 340 chapters would spend more
time on imports than on the chapters. Nothing of aiplat is imported before the fork, so a chapter's environment variables,
modules and coverage are its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

SKLEARN = "compose ensemble impute linear_model metrics model_selection pipeline preprocessing"
STORES = "tracking model_registry"
WARM = [
    "nbdev.test", "IPython", "IPython.core.magics", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "numpy", "pandas",
    "pyarrow.parquet", "scipy.stats", *(f"sklearn.{part}" for part in SKLEARN.split()), "mlflow", "mlflow.sklearn",
    *(f"mlflow.store.{part}.sqlalchemy_store" for part in STORES.split()), "sqlalchemy", "duckdb", "pandera", "optuna", "lightgbm",
    "xgboost", "skops.io", "papermill", "nbformat", "fairlearn.metrics", "fairlearn.reductions", "fairlearn.postprocessing",
    "cyclopts", "rich", "anywidget",
]  # fmt: skip


def _run(notebook: Path, said: Path) -> int:
    """In the child: run one notebook, with coverage; its exit code."""
    from nbdev.test import test_nb

    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    measured = None
    if "COVERAGE_FILE" in os.environ:
        import coverage

        measured = coverage.Coverage(data_suffix=True)
        measured.start()
    try:
        done, _ = test_nb(notebook)
    except BaseException:
        traceback.print_exc()
        done = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    import atexit

    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    if measured:
        measured.stop()
        measured.save()
    return 0 if done else 1


def _in_children(notebooks: list[Path], jobs: int, folder: Path) -> Iterator[tuple[Path, int, float, Path]]:
    """Each notebook with its exit status, seconds and what it said, as they end."""
    running: dict[int, tuple[Path, Path, float]] = {}
    waiting = list(enumerate(notebooks))
    while waiting or running:
        while waiting and len(running) < jobs:
            number, notebook = waiting.pop(0)
            said = folder / f"{number}.txt"
            sys.stdout.flush()
            child = os.fork()
            if not child:
                code = 1
                try:
                    code = _run(notebook, said)
                finally:
                    os._exit(code)
            running[child] = notebook, said, time.monotonic()
        child, status = os.wait()
        if child in running:
            notebook, said, began = running.pop(child)
            yield notebook, status, time.monotonic() - began, said


def main() -> int:
    """Run the notebooks; say which failed, and what they said."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that Ctrl-C is ignored
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("paths", nargs="*", default=["nbs"])
    asked = parser.parse_args()
    waiting = sorted(
        file for path in map(Path, asked.paths) for file in ([path] if path.is_file() else path.rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in file.parts
    )  # fmt: skip
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child's collector would walk, and so copy, all that was imported: more than half of what a short chapter costs
    failed, took = 0, {}
    folder = Path(tempfile.mkdtemp())  # a TemporaryDirectory would be removed by the first child that ends
    for notebook, status, took[notebook], said in _in_children(waiting, asked.jobs, folder):
        if status:
            failed += 1
            print(f"✗ {notebook}\n{said.read_text(errors='replace')}", flush=True)
    shutil.rmtree(folder)
    slowest = sorted(took, key=lambda notebook: -took[notebook])[:8]
    print("slowest: " + ", ".join(f"{notebook.stem} {took[notebook]:.0f} s" for notebook in slowest))
    gc.unfreeze()  # some libraries complain at the end of what was never collected
    print(f"{len(waiting) - failed} of {len(waiting)} notebooks ran to their ends")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
