"""What the service costs: a thousand schedules, a fire every second, each on time."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCHEDULES = 1_000
SECONDS = 60  # watched; a fire in each
LIMIT = 10.0  # per cent of one core
LATE = 1.0  # seconds


def thousand_schedules() -> dict:
    """`aiplat scheduler run --runs 0`, a process of its own: its CPU time in a minute of 60 fires, in % of one core."""
    import nbformat
    import psutil
    from nbformat.v4 import new_code_cell, new_notebook

    from aiplat.core import workspace
    from aiplat.operations.schedules.book import Schedule, read_fires, services, store, table

    ws = workspace.create(tempfile.mkdtemp(prefix="aiplat-bench-"), user="ana")
    book = ws.root / "step.ipynb"
    cell = new_code_cell("day = ''", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), book)
    begin = float(int(time.time())) + 20
    common = {"tz": "UTC", "parameters": {}, "missed": "latest", "overlap": "skip", "grace": 60.0, "paused": None}
    with store(ws).begin() as connection:
        for number in range(SCHEDULES):
            first = begin + number
            schedule = Schedule(
                f"s{number}", "step", str(book), "every", str(SCHEDULES), anchor=first - SCHEDULES, next_fire=first,
                last_fire=None, cursor="", created=begin, actor="ana", **common,
            )  # fmt: skip
            connection.execute(table("schedules").insert().values(**vars(schedule)))
    command = [sys.executable, "-m", "aiplat.frontends.cli", "scheduler", "run", "--runs", "0"]
    with (Path(ws.root) / "out.txt").open("w") as out:
        service = subprocess.Popen(command, cwd=ws.root, stdout=out, stderr=out, env={**os.environ})
    try:
        while not services(ws) or time.time() < begin + 1:
            time.sleep(0.1)
        process = psutil.Process(service.pid)
        before, since, watched = process.cpu_times(), time.monotonic(), time.time()
        time.sleep(SECONDS)
        after, passed = process.cpu_times(), time.monotonic() - since
        memory = process.memory_info().rss
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(30)
    share = 100 * (after.user + after.system - before.user - before.system) / passed
    fires = read_fires(ws, limit=SCHEDULES)
    late = sorted(fire.claimed - fire.fire_time for fire in fires if fire.fire_time > watched)
    return {
        "bench": "thousand_schedules",
        "value": round(share, 2),
        "target": f"< {LIMIT:g} % of one core, fires within {LATE:g} s",
        "ok": share < LIMIT and len(late) >= SECONDS - 1 and late[-1] < LATE,
        "detail": {
            "schedules": SCHEDULES,
            "fires": len(late),
            "late ms, median": round(1000 * statistics.median(late), 1),
            "late ms, worst": round(1000 * late[-1], 1),
            "memory MB": round(memory / 1e6),
        },
    }


if __name__ == "__main__":
    print(json.dumps(thousand_schedules()))
