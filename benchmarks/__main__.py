"""``python -m benchmarks [name …]``: one JSON line per figure. Exits with 1 when a figure misses its target."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path

from benchmarks import BENCHMARKS


def measure(name: str) -> dict:
    """One figure; what goes wrong is a result as well."""
    module, _, function = BENCHMARKS[name].partition(":")
    try:
        return getattr(import_module(module), function)()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"
        return {"bench": name, "value": None, "target": "", "ok": False, "detail": {"error": said}}


def main(names: list[str]) -> int:
    """Each figure in a process of its own, so that none profits from what another has imported."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"there is no figure {unknown[0]!r}; there is {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        result = measure(names[0])
        print(json.dumps(result), flush=True)
        return 0 if result["ok"] is not False else 1
    codes = [subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode for name in names or BENCHMARKS]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
