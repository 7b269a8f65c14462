"""Fixtures that every test may use: a workspace, the command line, one Ray cluster, the team's servers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import warm
from tests.servers import free_port

if threading.current_thread() is threading.main_thread():
    # A job that a shell starts in the background inherits that Ctrl-C is ignored, and hands that on to what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tutorials first: they are minutes in one file, for which all others would wait at the end."""
    items.sort(key=lambda item: item.path.stem != "test_tutorials")


@pytest.fixture(autouse=True, scope="session")
def _ports_of_kernels() -> None:
    """Jupyter chooses a kernel's ports a second before it listens; of the system's range, one may be somebody's connection by then."""
    from jupyter_client.connect import LocalPortCache

    LocalPortCache.find_available_port = lambda self, ip: free_port()  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _no_inherited_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not leak into them; the shared Ray's address must."""
    for name in list(os.environ):
        if name.startswith("AIPLAT_") and name != "AIPLAT_RAY":
            monkeypatch.delenv(name)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A fresh workspace; the working directory is in it."""
    from aiplat.core import workspace

    monkeypatch.chdir(tmp_path)
    return workspace.create(tmp_path, user="ana", roles={"risk": "rosa, ali"})


# how long an example takes depends on what else the machine does; all else stays as the profile in force (CI's own in CI) has it
hypothesis.settings.register_profile("untimed", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("untimed")

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def run_cli(
    *args: str, cwd: Path | None = None, check: bool = True, env: dict[str, str] | None = None, timeout: float = 240
):
    """Run the command line in a process of its own."""
    done = warm.run([*map(str, args)], cwd, {**os.environ, **(env or {})}, timeout)
    if check and done.returncode:
        raise AssertionError(
            f"aiplat {' '.join(map(str, args))} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


@pytest.fixture
def cli(ws) -> Cli:
    """The command line in the fresh workspace: ``cli("train", "sample:credit", "--target", "approved")``."""

    def call(*args: str, check: bool = True, env: dict[str, str] | None = None, timeout: float = 240):
        return run_cli(*args, cwd=ws.root, check=check, env=env, timeout=timeout)

    return call


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Ray cluster with warm workers for all tests; the one in ``AIPLAT_RAY`` when somebody has started it."""
    if os.environ.get("AIPLAT_RAY"):
        yield os.environ["AIPLAT_RAY"]
        return
    import json

    from aiplat.core import workspace

    home = workspace.create(tmp_path_factory.mktemp("stack"))
    run_cli("up", cwd=home.root)
    address = json.loads(home.path("stack.json").read_text())["ray"]["address"]
    os.environ["AIPLAT_RAY"] = address
    yield address
    os.environ.pop("AIPLAT_RAY")
    run_cli("down", cwd=home.root, check=False)
