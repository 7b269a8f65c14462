"""From a fresh clone to the end of `make demo`: how long a newcomer waits for the first result."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def clone_to_demo() -> dict:
    """Clone, set up, run the demo; minutes in all, and of its first notebook."""
    with tempfile.TemporaryDirectory(prefix="aiplat-clone-") as folder:
        clone = Path(folder) / "aiplat"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIPLAT_", "VIRTUAL_ENV"))}
        environment["PATH"] = os.pathsep.join(p for p in environment["PATH"].split(os.pathsep) if ".venv" not in p)
        done = subprocess.run(["make", "--silent", "demo"], cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        home = clone / ".demo" / "credit-by-sex"
        subprocess.run([str(clone / ".venv/bin/aiplat"), "down"], cwd=home, env=environment, capture_output=True)
    whole = re.search(r"set-up (\d+) s, demo (\d+) s, together (\d+) s", done.stdout)
    notebook = re.search(r"The quickstart notebook, (\d+) s", done.stdout)
    again = re.search(r"as the pipeline would run it.*?, (\d+) s$", done.stdout, re.M)
    assert whole and notebook and again, done.stdout
    seconds, first = int(whole[3]), int(notebook[1])
    return {
        "bench": "clone_to_demo",
        "value": round(seconds / 60, 2),
        "target": "<= 6 min, its notebook <= 2 min",
        "ok": seconds <= 360 and first <= 120,
        "detail": {
            "set-up s": int(whole[1]),
            "demo s": int(whole[2]),
            "notebook s": first,
            "second run s": int(again[1]),
        },
    }
