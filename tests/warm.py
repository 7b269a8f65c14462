"""The command line in processes that have imported its libraries already: forks of one that has done it once.

Most of the 5 s of CPU of `aiplat models` in a fresh interpreter are imports, and the tests call the command line some hundreds of times.
`run` is `subprocess.run` of `python -m aiplat.frontends.cli WORDS` without them, or of `python -c CODE WORDS` when the first word is
``-c``; what an interpreter reads from the environment as it starts (`FRESH`) makes it a fresh interpreter after all.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.notebooks import STORES

FRESH = ("PYTHON", "OMP_", "LD_", "FAKETIME", "TZ", "COVERAGE_", "LC_", "LANG")
# not Ray, which reads settings as it is imported
WARM = [
    "aiplat.frontends.cli", "rich.table", "mlflow.sklearn", *(f"mlflow.store.{part}.sqlalchemy_store" for part in STORES.split()),
    "pyarrow.parquet", "duckdb", "sklearn.ensemble", "sklearn.compose", "sklearn.metrics", "scipy.stats", "skops.io",
]  # fmt: skip


# --- the server


def serve(place: str) -> None:
    """Import everything, then fork for whoever asks at the socket ``place``; until standard input ends."""
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1, "a fork would lose a thread"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen(64)
    print("ready", flush=True)
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        asked, _ = listening.accept()
        if not os.fork():
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(asked)
        asked.close()
    shutil.rmtree(Path(place).parent, ignore_errors=True)
    os._exit(0)


def _answer(asked: socket.socket) -> None:
    """In a fork: read what is wanted, run it in another, tell its number, wait for its end and tell that."""
    text, streams, _, _ = socket.recv_fds(asked, 8, 3)
    wanted = asked.makefile("rb").read(int(text))
    pid = os.fork()
    if not pid:
        asked.close()
        _become(streams, **json.loads(wanted))
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(OSError):
        asked.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(streams: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    """What `python -m aiplat.frontends.cli` would do from here on."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    code: object = 1
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        cli, code_given = sys.modules["aiplat.frontends.cli"], words[:1] == ["-c"]
        sys.argv = ["-c", *words[2:]] if code_given else [cli.__file__ or "", *words]
        sys.path[0] = folder
        import numpy as np

        random.seed()
        np.random.seed()
        code = exec(words[1], {"__name__": "__main__"}) if code_given else cli.main()  # type: ignore[func-returns-value]
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    ends = [threading._shutdown, atexit._run_exitfuncs]  # type: ignore[attr-defined]
    for last in (*ends, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(BaseException):
            last()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


# --- the client

_server: tuple[subprocess.Popen[bytes], str, dict[str, str]] | None = None


def _started() -> tuple[str, dict[str, str]]:
    """The socket of this process's server, and the environment in which it was started."""
    global _server
    if _server is None:
        place, environment = str(Path(tempfile.mkdtemp(prefix="warm-")) / "socket"), dict(os.environ)
        command, root, pipe = [sys.executable, "-m", "tests.warm", place], Path(__file__).parent.parent, subprocess.PIPE
        # it ends when the pipe to it does, that is with this process
        server = subprocess.Popen(command, cwd=root, env=environment, stdin=pipe, stdout=pipe, start_new_session=True)
        assert server.stdout and server.stdout.readline() == b"ready\n"
        _server = server, place, environment
    return _server[1:]


def run(
    words: Sequence[str], folder: Path | None, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, with nothing on standard input; what `subprocess.run` would return or raise."""
    command = (
        [sys.executable, *words] if words[:1] == ["-c"] else [sys.executable, "-m", "aiplat.frontends.cli", *words]
    )
    place, known = _started()
    asked_for = {name for name in {*environment, *known} if environment.get(name) != known.get(name)}
    if any(name.startswith(FRESH) for name in asked_for) or "COVERAGE_PROCESS_CONFIG" in environment:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )  # fmt: skip
    wanted = json.dumps(
        {"words": list(words), "folder": str(folder or Path.cwd()), "environment": environment}
    ).encode()
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(socket.socket(socket.AF_UNIX))
        asked.connect(place)
        empty = stack.enter_context(open(os.devnull, "rb"))
        out, err = stack.enter_context(tempfile.TemporaryFile()), stack.enter_context(tempfile.TemporaryFile())
        socket.send_fds(asked, [f"{len(wanted):8}".encode()], [empty.fileno(), out.fileno(), err.fileno()])
        asked.sendall(wanted)
        told = stack.enter_context(asked.makefile())
        pid = int(told.readline())
        asked.settimeout(timeout)
        try:
            code = int(told.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout, _read(out), _read(err)) from None
        return subprocess.CompletedProcess(command, code, _read(out).decode(), _read(err).decode())


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


if __name__ == "__main__":
    serve(sys.argv[1])
