"""`kill -9` in the middle of `train`: the next command understands what was left, and `verify` explains it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from aiplat.core import ledger
from aiplat.release.verify import verify
from aiplat.training.runs import runs
from tests import warm
from tests.conftest import run_cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

TRAIN = ["train", "sample:credit?rows=2000", "--target", "approved", "--trials", "6", "--candidates", "linear"]
MOMENTS = 40 if os.environ.get("AIPLAT_CAMPAIGN") else 3


def _killed_after(seconds: float, home: Path) -> int:
    process = warm.begin(TRAIN, home, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def test_train_killed_at_many_moments(ws, ray_address: str) -> None:
    start = time.monotonic()
    run_cli(*TRAIN, cwd=ws.root)
    whole = time.monotonic() - start
    moments = random.Random(0)
    seen = set()
    for number in range(MOMENTS):
        # in the first part the rows are read and the workers are found: nothing can be half-done there
        code = _killed_after(whole * moments.uniform(0.35, 0.98), ws.root)
        assert code in (-signal.SIGKILL, 0)
        assert ledger.breaks(ws) == []
        left = ledger.unfinished(ws)
        assert len(left) <= 1, "an earlier command's half-done work was not closed"
        verified = verify()
        if left:
            run = left[0].subject.partition(":")[2]
            assert verified.exit_code == 1 and run[:8] in str(verified), f"moment {number}: {verified}"
            seen.add("half-done")
        else:
            assert verified.exit_code == 0, str(verified)
        assert "RUNNING" not in str(runs()).upper(), "a dead run is shown as running"
    run_cli(*TRAIN, cwd=ws.root)
    assert ledger.unfinished(ws) == [] and run_cli("verify", cwd=ws.root).returncode == 0
    if os.environ.get("AIPLAT_CAMPAIGN"):
        assert seen, "no moment was in the middle of the work"


def test_an_interrupt_keeps_the_best_so_far(ws, ray_address: str) -> None:
    """Ctrl-C, or the stop button, ends the search early: the best of what is there becomes the run."""
    client, experiment = ws.client(), ws.experiment_id()
    process = warm.begin(
        [*TRAIN[:-4], "--trials", "5000", "--candidates", "linear", "--json"], ws.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip
    end = time.monotonic() + 240
    while not client.search_runs([experiment], "tags.`aiplat.state` = 'complete'", max_results=1):
        assert process.poll() is None and time.monotonic() < end, (process.kill(), process.communicate())
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "the search was interrupted" in out, out + err
    assert len(json.loads(run_cli("runs", "--json", cwd=ws.root).stdout)["runs"]) == 1
    assert ledger.unfinished(ws) == [] and run_cli("verify", cwd=ws.root).returncode == 0
