"""What starting costs: `%load_ext aiplat` and `aiplat --help`, side by side with `import mlflow`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

HEAVY = [
    "ray",
    "mlflow",
    "sklearn",
    "pandas",
    "numpy",
    "scipy",
    "pyarrow",
    "sqlalchemy",
    "optuna",
    "fairlearn",
    "papermill",
]
ROUNDS = 5

# Each program prints the seconds that its own part took, and which heavy libraries came along with it.
BEGIN = "import sys, time, json; t = time.perf_counter();"
END = f"t = time.perf_counter() - t; print(); print(json.dumps([t, [m for m in {HEAVY} if m in sys.modules]]))"
# In a kernel IPython is there already; what counts is what the extension adds.
SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance();"
PROGRAMS = {
    "load_ext": f"{SHELL}{BEGIN} shell.run_line_magic('load_ext', 'aiplat'); {END}",
    "cli_help": f"{BEGIN} from aiplat.frontends.cli import main; main(['--help']); {END}",
    "mlflow": f"{BEGIN} import mlflow; {END}",
}


def _once(program: str) -> tuple[float, list[str]]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    return seconds, heavy


def _measure(name: str) -> dict:
    """Take turns, so that a noisy moment hits both; compare medians."""
    ours, theirs, heavy = [], [], set[str]()
    for _ in range(ROUNDS):
        seconds, came = _once(PROGRAMS[name])
        ours.append(seconds)
        heavy.update(came)
        theirs.append(_once(PROGRAMS["mlflow"])[0])
    ratio = statistics.median(ours) / statistics.median(theirs)
    detail = {
        "seconds": round(statistics.median(ours), 3),
        "import mlflow": round(statistics.median(theirs), 3),
        "heavy": sorted(heavy),
        "rounds": ROUNDS,
    }
    return {
        "bench": name,
        "value": round(ratio, 4),
        "target": "<= 0.1",
        "ok": ratio <= 0.1 and not heavy,
        "detail": detail,
    }


def load_ext() -> dict:
    """`%load_ext aiplat` in a kernel, as a share of `import mlflow`."""
    return _measure("load_ext")


def cli_help() -> dict:
    """`aiplat --help`, as a share of `import mlflow`."""
    return _measure("cli_help")


if __name__ == "__main__":
    for bench in (load_ext, cli_help):
        print(json.dumps(bench()))
