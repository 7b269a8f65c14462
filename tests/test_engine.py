"""Pipelines as they run: graphs on a real Ray with real kernels, and what is true after a `kill -9` at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from aiplat.core import ledger
from aiplat.core.errors import UserError
from aiplat.core.workspace import Workspace, create
from aiplat.operations import pipeline
from aiplat.operations.pipelines import engine, recording, recovery, tables
from aiplat.operations.pipelines.tables import read_run, read_runs, read_steps
from tests import warm
from tests.conftest import run_cli
from tests.servers import free_port, mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000 if os.environ.get("AIPLAT_CAMPAIGN") else 400)]

MOMENTS = 200 if os.environ.get("AIPLAT_CAMPAIGN") else 3


def notebook(ws: Workspace, name: str, parameters: str, *cells: str) -> Path:
    """A notebook whose first cell declares the parameters."""
    made = [new_code_cell(cell) for cell in (parameters, *cells)]
    made[0].metadata["tags"] = ["parameters"]
    path = ws.root / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=made), path)
    return path


def plan(ws: Workspace, name: str, text: str) -> None:
    """A pipeline file."""
    (ws.root / "pipelines").mkdir(exist_ok=True)
    (ws.root / "pipelines" / f"{name}.toml").write_text(text)


DIAMOND = """
concurrency = 2
[parameters]
rows = 3
[steps.ingest]
notebook = "../ingest.ipynb"
parameters = { rows = "{{ parameters.rows }}" }
[steps.fit]
notebook = "../fit.ipynb"
matrix = { lr = [0.1, 0.2] }
parameters = { rows = "{{ steps.ingest.rows }}", lr = "{{ matrix.lr }}" }
[steps.report]
notebook = "../report.ipynb"
parameters = { scores = "{{ steps.fit.score }}" }
[steps.alarm]
notebook = "../alarm.ipynb"
needs = ["fit"]
when = "steps.fit.state == 'failed'"
"""


@pytest.fixture
def diamond(ws: Workspace, ray_address: str) -> Workspace:
    """A workspace with a pipeline of four steps, one of them a matrix."""
    (ws.root / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    notebook(ws, "ingest", "rows: int = 1", "import aiplat\naiplat.output('rows', rows)")
    notebook(
        ws,
        "fit",
        "rows: int = 1\nlr: float = 0.5",
        "import aiplat, helper",
        "aiplat.output('score', helper.double(rows * lr))",
    )
    notebook(ws, "report", "scores: list = []", "print(scores)\nopen('report.txt', 'w').write(str(scores))")
    notebook(ws, "alarm", "x = 1", "x")
    plan(ws, "nightly", DIAMOND)
    return ws


def states(ws: Workspace, run: str = "last") -> dict[str, str]:
    """Key to state."""
    return {step.key: step.state for step in read_steps(ws, read_run(ws, run).id)}


def reasons(ws: Workspace, run: str = "last") -> dict[str, str]:
    """Key to reason."""
    return {step.key: step.reason for step in read_steps(ws, read_run(ws, run).id)}


def sound(ws: Workspace) -> None:
    """The ledger holds, and nothing was left open anywhere."""
    assert ledger.breaks(ws) == [] and ledger.unfinished(ws) == []
    running = ws.client().search_runs([ws.experiment_id()], "attributes.status = 'RUNNING'")
    assert not running, [run.data.tags for run in running]
    assert not read_runs(ws, states=[tables.RUNNING])
    for row in read_runs(ws, limit=1000):
        open_ = [step.key for step in read_steps(ws, row.id) if step.state == tables.RUNNING]
        assert not open_, (row.state, open_)


# --- a graph


def test_a_graph_its_outputs_and_its_cache(diamond: Workspace) -> None:
    ws = diamond
    first = pipeline.run("nightly")
    assert states(ws) == {
        "ingest": "done",
        "fit[lr=0.1]": "done",
        "fit[lr=0.2]": "done",
        "report": "done",
        "alarm": "skipped",
    }
    assert Path("report.txt").read_text().startswith("[0.6") and "does not hold" in reasons(ws)["alarm"]
    assert all(reason == "ran: it had never been executed" for key, reason in reasons(ws).items() if key != "alarm")
    below = ws.client().search_runs([ws.experiment_id()], f"tags.mlflow.parentRunId = '{first.run}'")
    assert sorted(run.data.tags["aiplat.step"] for run in below) == ["fit[lr=0.1]", "fit[lr=0.2]", "ingest", "report"]
    assert {run.info.status for run in below} == {"FINISHED"}
    record = json.loads(ws.path("pipelines", first.run, "record.json").read_text())
    assert record["run"]["state"] == "done" and len(record["steps"]) == 5

    Path("report.txt").unlink()
    pipeline.run("nightly")
    assert set(states(ws).values()) == {"cached", "skipped"} and not Path("report.txt").exists()
    assert f"cached: same as run {first.run[:8]}" in reasons(ws)["fit[lr=0.1]"]

    (ws.root / "helper.py").write_text("def double(x):\n    return 3 * x\n")
    pipeline.run("nightly")
    assert states(ws)["ingest"] == "cached" and states(ws)["fit[lr=0.2]"] == "done"
    assert reasons(ws)["fit[lr=0.1]"] == "ran: modules changed: helper.py"
    assert "outputs of steps before changed" in reasons(ws)["report"]

    pipeline.run("nightly", p=[("rows", "4")], from_="report")
    assert "kept from run" in reasons(ws)["ingest"] and "rows 3 → 4" in reasons(ws)["ingest"]
    assert states(ws)["report"] == "done" and reasons(ws)["report"] == "ran: --from report"
    pipeline.run("nightly", force=True)
    assert set(reasons(ws).values()) - {reasons(ws)["alarm"]} == {"ran: --force"}
    sound(ws)


def test_what_a_dead_driver_had_not_recorded_is_recorded(diamond: Workspace) -> None:
    """It died while it wrote a step to MLflow: the run that it had begun there is ended, one that it had not is made."""
    ws = diamond
    first = pipeline.run("nightly")
    run, client = read_run(ws, first.run), ws.client()
    ingest, report = (next(step for step in read_steps(ws, run.id) if step.key == key) for key in ("ingest", "report"))
    assert recording.settle(ws, run.mlflow_run, read_steps(ws, run.id, attempts=True)) == []
    client.update_run(ingest.mlflow_run, status="RUNNING")
    client.delete_run(report.mlflow_run)
    left = [replace(ingest, mlflow_run=""), replace(report, mlflow_run="")]
    one, two = recording.settle(ws, run.mlflow_run, left)
    assert one.mlflow_run == ingest.mlflow_run and two.mlflow_run not in ("", report.mlflow_run)
    assert {client.get_run(row.mlflow_run).info.status for row in (one, two)} == {"FINISHED"}
    assert client.get_run(two.mlflow_run).data.tags["aiplat.executed"] == report.copy


def test_a_failure_skips_what_needs_it_and_resume_goes_on(diamond: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = diamond
    monkeypatch.setenv("AIPLAT_LINEAGE", "events.jsonl")
    notebook(
        ws,
        "fit",
        "rows: int = 1\nlr: float = 0.5",
        "import aiplat\nassert lr < 0.2, 'too fast'\naiplat.output('score', lr)",
    )
    with pytest.raises(UserError) as caught:
        pipeline.run("nightly")
    assert caught.value.what.startswith("step fit[lr=0.2]: cell ") and "AssertionError: too fast" in caught.value.what
    run = caught.value.result.run
    assert f"aiplat pipeline resume {run[:8]}" in caught.value.todo
    assert states(ws) == {
        "ingest": "done",
        "fit[lr=0.1]": "done",
        "fit[lr=0.2]": "failed",
        "report": "skipped",
        "alarm": "done",
    }
    assert reasons(ws)["report"] == "fit failed"
    assert ws.client().get_run(run).info.status == "FAILED"

    notebook(ws, "fit", "rows: int = 1\nlr: float = 0.5", "import aiplat\naiplat.output('score', lr)")
    pipeline.resume("last")
    assert states(ws)["report"] == "done" and read_run(ws, "last").id == run
    kept = reasons(ws)["fit[lr=0.1]"]
    assert "kept when ana resumed it, though its notebook has changed since" in kept
    attempts = [step.attempt for step in read_steps(ws, run, attempts=True) if step.key == "fit[lr=0.2]"]
    assert attempts == [1, 2] and ws.client().get_run(run).info.status == "FINISHED"
    with pytest.raises(UserError, match="nothing left to do"):
        pipeline.resume("last")
    sound(ws)
    events = [json.loads(line) for line in (ws.root / "events.jsonl").read_text().splitlines()]
    begun = [each["job"]["name"] for each in events if each["eventType"] == "START"]
    # what was done before is told once; the step that failed has two attempts, and so has the run
    assert sorted(begun) == ["nightly"] * 2 + [
        "nightly.alarm",
        "nightly.fit",
        "nightly.fit",
        "nightly.fit",
        "nightly.ingest",
        "nightly.report",
    ], begun


def test_a_step_is_tried_again_only_for_what_it_says(ws: Workspace, ray_address: str) -> None:
    flaky = "from pathlib import Path\nseen = len(list(Path().glob(f'{name}-*')))\nPath(f'{name}-{seen}').touch()\nassert seen == 2"
    notebook(ws, "flaky", "name: str = 'a'", flaky)
    plan(
        ws, "retry",
        '[steps.a]\nnotebook = "../flaky.ipynb"\nretries = 3\nbackoff = "0.2s"\nretry_on = ["error"]\n'
        '[steps.b]\nnotebook = "../flaky.ipynb"\nparameters = { name = "b" }\nretries = 3\nretry_on = ["timeout"]\n',
    )  # fmt: skip
    with pytest.raises(UserError, match="step b: "):
        pipeline.run("retry")
    rows = read_steps(ws, read_run(ws, "last").id, attempts=True)
    assert [(row.key, row.attempt, row.state) for row in rows] == [
        ("a", 1, "failed"),
        ("a", 2, "failed"),
        ("a", 3, "done"),
        ("b", 1, "failed"),
    ]
    assert rows[1].reason.startswith("tried again: attempt 1 failed: AssertionError")
    assert rows[1].started and rows[0].ended and rows[1].started - rows[0].ended >= 0.1


def test_a_matrix_of_one_notebook_in_this_process(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPLAT_RAY", "local")
    notebook(ws, "grid", "lr: float\nseed: int = 0", "import aiplat\naiplat.output('both', [lr, seed])")
    result = pipeline.run("grid.ipynb", matrix=["lr=0.1,0.2", "seed=1..2"])
    assert [step.outputs["both"] for step in result.steps] == [[0.1, 1], [0.1, 2], [0.2, 1], [0.2, 2]]
    assert not (ws.state / "stack.json").exists(), "Ray was started for a single notebook"
    pipeline.run("grid.ipynb", matrix=["lr=0.1,0.2", "seed=1..3"], cached=True)
    assert sorted(states(ws).values()) == ["cached"] * 4 + ["done"] * 2
    with pytest.raises(UserError, match="no parameter"):
        pipeline.run("grid.ipynb", matrix=["lr=0.1", "rl=1,2"])


def test_what_the_cluster_does_not_have_is_said(ws: Workspace, ray_address: str) -> None:
    notebook(ws, "large", "x = 1", "x")
    plan(ws, "large", '[steps.a]\nnotebook = "../large.ipynb"\nresources = { cpus = 1000 }\n')
    with pytest.raises(UserError, match=r"CPU .* of 1000"):
        pipeline.run("large")
    sound(ws)


# --- cancelling and limits


SLOW = "import os, pathlib, time\npathlib.Path(f'kernel-{n}').write_text(str(os.getpid()))\ntime.sleep({seconds})"


@contextlib.contextmanager
def started(ws: Workspace, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command line in a process of its own."""
    process = warm.begin(words, ws.root, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def kernels(ws: Workspace) -> list[int]:
    """The kernels that have said which they are."""
    return [int(path.read_text()) for path in ws.root.glob("kernel-*") if path.read_text()]


def test_cancelled_from_elsewhere_and_resumed(ws: Workspace, ray_address: str) -> None:
    notebook(ws, "slow", "n: int = 1", SLOW.replace("{seconds}", "600"))
    plan(ws, "slow", '[steps.a]\nnotebook = "../slow.ipynb"\n[steps.b]\nnotebook = "../slow.ipynb"\nneeds = ["a"]\n')
    with started(ws, "pipeline", "run", "slow") as process:
        until(lambda: kernels(ws))
        told = pipeline.cancel("last")
        assert told.state == "cancelled" and states(ws) == {"a": "cancelled", "b": "cancelled"}
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and len(said.splitlines()) == 2 and "resume" in said
    until(lambda: not any(map(alive, kernels(ws))), 20)
    sound(ws)
    notebook(ws, "slow", "n: int = 1", SLOW.replace("{seconds}", "0"))
    pipeline.resume("last")
    assert states(ws) == {"a": "done", "b": "done"}
    sound(ws)


def test_the_time_of_a_run_is_limited(ws: Workspace, ray_address: str) -> None:
    notebook(ws, "slow", "n: int = 1", SLOW.replace("{seconds}", "600"))
    plan(ws, "slow", 'timeout = "6s"\n[steps.a]\nnotebook = "../slow.ipynb"\n')
    with pytest.raises(UserError, match="its time was over"):
        pipeline.run("slow")
    assert read_run(ws, "last").state == "failed" and states(ws) == {"a": "cancelled"}
    until(lambda: not any(map(alive, kernels(ws))), 20)
    sound(ws)


def test_a_locked_database_is_waited_for(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds the ledger's database while the run goes on."""
    monkeypatch.setenv("AIPLAT_RAY", "local")
    wait = "end = time.time() + 120\nwhile not pathlib.Path('held').exists() and time.time() < end: time.sleep(0.05)"
    notebook(ws, "step", "n: int = 1", f"import pathlib, time\npathlib.Path('begun').touch()\n{wait}")

    def hold() -> None:
        until((ws.root / "begun").exists)
        with tables.transaction(ws):
            (ws.root / "held").touch()  # the step ends after this
            time.sleep(17)  # longer than SQLite's own patience

    holder = threading.Thread(target=hold)
    holder.start()
    assert pipeline.run("step.ipynb").outcome == "done" and (ws.root / "held").exists()
    holder.join()
    sound(ws)


def test_a_run_whose_file_is_gone_ends_with_the_reason(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPLAT_RAY", "local")
    path = notebook(ws, "step", "n: int = 1")
    from aiplat.operations.pipelines.files import find

    run = tables.queue(ws, find(path, ws), cause="schedule", schedule="nightly")
    path.rename(ws.root / "moved.ipynb")
    with pytest.raises(UserError, match="there is no notebook"):
        engine.carry_out(ws, run)
    row = read_run(ws, run)
    assert row.state == "failed" and "there is no notebook" in row.error["what"]
    (ws.root / "moved.ipynb").rename(path)
    pipeline.resume(run)
    assert read_run(ws, run).state == "done" and states(ws, run) == {"step": "done"}
    sound(ws)


# --- death


CHAIN = """
concurrency = 2
[steps.mortal_a]
notebook = "../piece.ipynb"
[steps.mortal_b]
notebook = "../piece.ipynb"
matrix = { n = [2, 3] }
parameters = { n = "{{ matrix.n }}", before = "{{ steps.mortal_a.value }}" }
[steps.mortal_c]
notebook = "../piece.ipynb"
needs = ["mortal_b"]
parameters = { n = 4, before = "{{ steps.mortal_a.value }}" }
"""
PIECE = """
import aiplat, os, pathlib, time
pathlib.Path(f'kernel-{n}').write_text(str(os.getpid()))
time.sleep(0.4)
with open('effects', 'a') as effects:
    effects.write(f'{n}\\n')
aiplat.output('value', before + n)
"""


def _victims(ws: Workspace, driver: int, what: str) -> list[int]:
    """The processes of a kind that work for this workspace."""
    if what == "driver":
        return [driver]
    if what == "kernel":
        return [pid for pid in kernels(ws) if alive(pid)]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if what == "worker" and line.startswith("ray::step mortal"):  # other tests' steps run on the same Ray
            found.append(process.pid)
    return found


def _ended(process: subprocess.Popen[str]) -> None:
    process.wait(timeout=200)


def test_killed_at_many_moments(ws: Workspace, ray_address: str) -> None:
    """Driver, kernel and Ray worker die at random moments: the state is true, resume completes, the ledger verifies."""
    notebook(ws, "piece", "n: int = 1\nbefore: int = 0", PIECE)
    plan(ws, "chain", CHAIN)
    pipeline.run("chain", force=True)
    whole = read_run(ws, "last").seconds or 5.0
    chance, seen = random.Random(4), set()
    for number in range(MOMENTS):
        (ws.root / "effects").unlink(missing_ok=True)
        for path in ws.root.glob("kernel-*"):
            path.unlink()
        before = read_run(ws, "last").id
        what = ("driver", "kernel", "worker")[number % 3]
        with started(ws, "pipeline", "run", "chain", "--force") as process:
            until(
                lambda before=before, process=process: read_run(ws, "last").id != before or process.poll() is not None
            )  # type: ignore[misc]
            time.sleep(whole * chance.uniform(0.02, 1.1))
            for pid in _victims(ws, process.pid, what):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _ended(process)
        engine.recover(ws)
        row = read_run(ws, "last")
        moment = f"moment {number}, {what}: {row.state}, {states(ws)}"
        assert row.state in ("done", "failed", "interrupted"), moment
        assert row.state == "done" or what != "driver" or row.state == "interrupted", moment
        if row.state != "done":
            seen.add(what)
            broken = [step for step in read_steps(ws, row.id) if step.state == "failed"]
            assert all((step.error or {}).get("kind") in ("lost", "kernel", "memory") for step in broken), (
                moment,
                broken,
            )
            done = {step.key for step in read_steps(ws, row.id) if step.state == "done"}
            pipeline.resume(row.id)
            again = {s.key for s in read_steps(ws, row.id, attempts=True) if s.attempt > 1}
            assert not done & again, f"{moment}: a step that was done was executed again"
        rows = read_steps(ws, row.id)
        assert {step.key: (step.outputs or {}).get("value") for step in rows} == {
            "mortal_a": 1,
            "mortal_b[n=2]": 3,
            "mortal_b[n=3]": 4,
            "mortal_c": 5,
        }, moment
        assert set((ws.root / "effects").read_text().split()) == {"1", "2", "3", "4"}, moment
        until(lambda: not any(map(alive, kernels(ws))), 30)
        sound(ws)
    if os.environ.get("AIPLAT_CAMPAIGN"):
        assert seen == {"driver", "kernel", "worker"}


@pytest.mark.skipif(not os.environ.get("AIPLAT_CAMPAIGN"), reason="starts a Ray of its own: make campaign")
def test_ray_itself_is_killed(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head, raylet and GCS die in the middle of a step: the driver starts another Ray and goes on by the step's rules."""
    monkeypatch.delenv("AIPLAT_RAY", raising=False)
    notebook(ws, "slow", "n: int = 1", SLOW.replace("{seconds}", "8"))
    plan(
        ws,
        "slow",
        '[steps.a]\nnotebook = "../slow.ipynb"\nretries = 2\nbackoff = "1s"\n[steps.b]\nnotebook = "../slow.ipynb"\nneeds = ["a"]\n',
    )
    run_cli("up", cwd=ws.root)
    try:
        with started(ws, "pipeline", "run", "slow") as process:
            until(lambda: kernels(ws))
            for each in json.loads(ws.path("stack.json").read_text())["ray"]["processes"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each["pid"], signal.SIGKILL)
            assert process.wait(timeout=200) == 0
        assert states(ws) == {"a": "done", "b": "done"}
        assert [step.attempt for step in read_steps(ws, read_run(ws, "last").id)] == [2, 1]
        sound(ws)
    finally:
        run_cli("down", cwd=ws.root, check=False)


def test_what_mlflow_missed_is_written_when_its_server_is_back(
    tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, store = free_port(), f"sqlite:///{tmp_path}/mlflow.db"
    home = tmp_path / "home"
    for folder in (home, tmp_path / "artifacts"):
        folder.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("AIPLAT_TRACKING", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(recording, "PATIENCE", 1.0)
    ws = create(home, user="ana")
    wait = (
        "import pathlib, time\npathlib.Path('at').touch()\nwhile not pathlib.Path('go-on').exists(): time.sleep(0.05)"
    )
    notebook(ws, "slow", "n: int = 1", wait)
    notebook(ws, "picky", "n: int = 1", "import pathlib\nassert pathlib.Path('rows').exists(), 'no rows'")
    plan(
        ws,
        "night",
        '[steps.slow]\nnotebook = "../slow.ipynb"\n[steps.picky]\nnotebook = "../picky.ipynb"\nneeds = ["slow"]\n',
    )
    with contextlib.ExitStack() as first:
        first.enter_context(mlflow_server(store, tmp_path / "artifacts", port))

        def away() -> None:
            until((home / "at").exists)
            first.close()
            (home / "go-on").touch()

        thread = threading.Thread(target=away)
        thread.start()
        with pytest.raises(UserError):
            pipeline.run("night")
        thread.join()
    run = read_run(ws, "last")
    assert run.state == "failed" and any(note.startswith(recording.UNWRITTEN) for note in run.notes), run
    assert recovery.catch_up(ws) == 0 and list((ws.state / "unwritten").iterdir()), "the server is still away"
    with mlflow_server(store, tmp_path / "artifacts", port):
        assert recovery.catch_up(ws) == 1 and not list((ws.state / "unwritten").iterdir())
        found = {each.data.tags.get("aiplat.step", ""): each for each in ws.client().search_runs([ws.experiment_id()])}
        assert {key: each.info.status for key, each in found.items()} == {
            "": "FAILED",
            "slow": "FINISHED",
            "picky": "FAILED",
        }
        assert [each.path for each in ws.client().list_artifacts(run.mlflow_run, "pipeline")] == [
            "pipeline/record.json"
        ]
        run = read_run(ws, "last")
        assert not run.notes and all(step.mlflow_run for step in read_steps(ws, run.id))
        (home / "rows").touch()
        assert pipeline.resume("last").row.state == "done"
        sound(ws)
