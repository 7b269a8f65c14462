"""What a pipeline run does while something under it is away for a while: the database, the tracking server, the disk."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiplat.core import ledger, workspace
from aiplat.core.workspace import Workspace
from aiplat.operations.pipelines.tables import read_run, read_runs, read_steps
from tests.conftest import run_cli
from tests.servers import free_port, mlflow_server, postgres, postgres_programs
from tests.test_engine import notebook, plan, started, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CHAIN = """
[steps.a]
notebook = "../piece.ipynb"
[steps.b]
notebook = "../piece.ipynb"
parameters = { n = 2, before = "{{ steps.a.value }}" }
[steps.c]
notebook = "../piece.ipynb"
parameters = { n = 3, before = "{{ steps.b.value }}" }
"""
# Waits, in its first step, until the test has done what it does.
PIECE = """
import aiplat, pathlib, time
pathlib.Path(f'at-{n}').touch()
while n == 1 and not pathlib.Path('go-on').exists():
    time.sleep(0.1)
with open('effects', 'a') as effects:
    effects.write(f'{n}\\n')
aiplat.output('value', before + n)
"""


def chain(ws: Workspace) -> None:
    """Three steps, one after another; each adds its number to the one before."""
    notebook(ws, "piece", "n: int = 1\nbefore: int = 0", PIECE)
    plan(ws, "chain", CHAIN)


def whole(ws: Workspace) -> None:
    """All three steps are done, each once, and everybody says so."""
    run = read_run(ws, "last")
    assert run.state == "done", run
    assert {step.key: (step.state, step.outputs["value"]) for step in read_steps(ws, run.id)} == {
        "a": ("done", 1),
        "b": ("done", 3),
        "c": ("done", 6),
    }
    assert (ws.root / "effects").read_text().split() == ["1", "2", "3"]
    assert ledger.breaks(ws) == [] and ledger.unfinished(ws) == []
    assert not read_runs(ws, states=["running"])


@pytest.mark.skipif(not postgres_programs(), reason="PostgreSQL's server is not installed: it is not restarted here")
def test_postgresql_restarts_during_a_run(tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres(tmp_path / "pg") as server:
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.chdir(home)
        monkeypatch.setenv("AIPLAT_STORE", server.create("ledger"))
        ws = workspace.create(home, user="ana")
        chain(ws)
        with started(ws, "pipeline", "run", "chain") as process:
            until((home / "at-1").exists)
            server.stop()
            (home / "go-on").touch()
            until(lambda: "1" in _text(home / "effects"))  # the step has ended while nobody could write that down
            server.start()
            _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
        whole(ws)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_the_tracking_server_restarts_during_a_run(
    tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    (tmp_path / "artifacts").mkdir()
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(home)
    monkeypatch.setenv("AIPLAT_TRACKING", f"http://127.0.0.1:{port}")
    ws = workspace.create(home, user="ana")
    chain(ws)
    with contextlib.ExitStack() as first:
        first.enter_context(mlflow_server(store, tmp_path / "artifacts", port))
        with started(ws, "pipeline", "run", "chain") as process:
            until((home / "at-1").exists)
            first.close()
            (home / "go-on").touch()
            until(lambda: "2" in _text(home / "effects"))  # the run goes on without it
            with mlflow_server(store, tmp_path / "artifacts", port):
                _, said = process.communicate(timeout=200)
                assert process.returncode == 0, said
                whole(ws)
                runs = ws.client().search_runs([ws.experiment_id()])
                assert {run.info.status for run in runs} == {"FINISHED"}
                assert sorted(run.data.tags.get("aiplat.step", "") for run in runs) == ["", "a", "b", "c"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of sixteen megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", place], capture_output=True).returncode:
        pytest.skip("mounting a small disk takes an administrator: the full disk is not tested here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_the_disk_is_full_in_the_middle_of_a_run(disk: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk)
    ws = workspace.create(disk, user="ana")
    chain(ws)
    with started(ws, "pipeline", "run", "chain") as process:
        until((disk / "at-1").exists)
        (disk / "go-on").touch()
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        _, said = process.communicate(timeout=200)
    assert process.returncode == 1 and len(said.strip().splitlines()) == 2, said
    assert "full" in said or "space" in said.lower(), said
    (disk / "ballast").unlink()
    (disk / "effects").unlink(missing_ok=True)
    again = run_cli("pipeline", "resume", "last", cwd=disk)
    run = read_run(ws, "last")
    assert run.state == "done", (again, run)
    assert {step.key: step.outputs["value"] for step in read_steps(ws, run.id)} == {"a": 1, "b": 3, "c": 6}
    assert ledger.breaks(ws) == [] and ledger.unfinished(ws) == []
