"""The command line in processes that have imported its libraries already: forks of one that has done it once.

Most of the 5 s of CPU of `aiplat models` in a fresh interpreter are imports, and the tests call the command line some hundreds of times.
`run` is `subprocess.run` of `python -m aiplat.frontends.cli WORDS` without them, or of `python -c CODE WORDS` when the first word is
``-c``, and `begin` is `subprocess.Popen` of the same, for what goes on beside the test; what an interpreter reads from the environment as
it starts (`FRESH`) makes it a fresh interpreter after all.
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
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.notebooks import STORES

FRESH = ("PYTHON", "OMP_", "LD_", "FAKETIME", "TZ", "COVERAGE_", "LC_", "LANG")
LATER = ("PYTHONBREAKPOINT",)  # is read by `breakpoint()`; Ray sets it wherever it is connected to
# not Ray, which reads settings as it is imported
WARM = [
    "aiplat.frontends.cli", "cyclopts", "rich.table", "mlflow.sklearn", "mlflow.pyfunc", "mlflow.tracing.processor.base_mlflow",
    *(f"mlflow.store.{part}.sqlalchemy_store" for part in STORES.split()), "sqlalchemy.dialects.sqlite", "filelock",
    "pyarrow.parquet", "duckdb", "sklearn.ensemble", "sklearn.compose", "sklearn.metrics", "scipy.stats", "skops.io",
    "nbformat", "jupyter_client", "IPython",
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
    """In a fork: read what is wanted, run it in another, which tells its number, wait for its end and tell that."""
    length, streams, _, _ = socket.recv_fds(asked, 8, 3)
    wanted = asked.makefile("rb").read(int(length))
    pid = os.fork()
    if not pid:
        try:
            _become(asked, streams, **json.loads(wanted))
        finally:
            os._exit(1)  # a signal at the very end, say
    for stream in streams:
        os.close(stream)
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert end is not None
    # the number becomes free for others when whoever might send it a signal has read of the end, as with a child of his own
    with contextlib.suppress(OSError):
        asked.sendall(f"{end.si_status if end.si_code == os.CLD_EXITED else -end.si_status:8}".encode())
        asked.recv(1)
    os.waitpid(pid, 0)
    os._exit(0)


def _become(
    asked: socket.socket, streams: list[int], words: list[str], folder: str, environment: dict[str, str], alone: bool
) -> None:
    """What `python WORDS` would do from here on."""
    code: object = 1
    try:
        if alone:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(streams[number], number)
            os.close(streams[number])
            # what the server's can do, seek say, need not be what these can do
            before, mode = getattr(sys, name), "w" if number else "r"
            after = os.fdopen(number, mode, 1 if number == 2 else -1, before.encoding, before.errors, closefd=False)
            setattr(sys, name, after)
            setattr(sys, f"__{name}__", after)
        with contextlib.suppress(OSError), asked:
            asked.sendall(f"{os.getpid():8}".encode())
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[0] = folder
        import numpy as np

        random.seed()
        np.random.seed()
        code = _main(*words)
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        code = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else 1
    ends = [threading._shutdown, atexit._run_exitfuncs]  # type: ignore[attr-defined]
    for last in (*ends, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(BaseException):
            last()
    if code is KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _main(how: str, what: str, *words: str) -> object:
    """`python -c CODE` or `python -m MODULE`, of a module that has been imported and has a function `main`; the exit code."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if how == "-c":
        sys.argv = ["-c", *words]
        exec(what, main.__dict__)
        return None
    module = sys.modules[what]
    main.__dict__.update(vars(module) | {"__name__": "__main__"})
    sys.argv = [module.__file__ or "", *words]
    return module.main()


# --- the client

_server: tuple[subprocess.Popen[bytes], str, dict[str, str]] | None = None
_starting = threading.Lock()


def _started() -> tuple[str, dict[str, str]]:
    """The socket of this process's server, and the environment in which it was started."""
    global _server
    with _starting:
        if _server is None:
            place, environment = str(Path(tempfile.mkdtemp(prefix="warm-")) / "socket"), dict(os.environ)
            command, root, pipe = (
                [sys.executable, "-m", "tests.warm", place],
                Path(__file__).parent.parent,
                subprocess.PIPE,
            )
            # it ends when the pipe to it does, that is with this process
            server = subprocess.Popen(
                command, cwd=root, env=environment, stdin=pipe, stdout=pipe, start_new_session=True
            )
            assert server.stdout and server.stdout.readline() == b"ready\n"
            _server = server, place, environment
    return _server[1:]


class Fork(subprocess.Popen[str]):
    """A process that the server forks; all but how it starts and how its end is heard of is `subprocess.Popen`'s own."""

    def _execute_child(self, args: list[str], *how: Any) -> None:
        folder, environment, pipes, alone = str(how[4] or Path.cwd()), how[5], how[9:15], how[20]
        wanted = json.dumps({"words": args[1:], "folder": folder, "environment": environment, "alone": alone}).encode()
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.connect(_started()[0])
        streams = [own if given == -1 else given for own, given in zip(range(3), (pipes[0], *pipes[3::2]), strict=True)]
        socket.send_fds(self._asked, [f"{len(wanted):8}".encode()], streams)
        self._asked.sendall(wanted)
        self.pid = int(self._asked.recv(8))
        assert self.pid > 0, "it ended before it began"
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _ended(self, timeout: float | None) -> bool:
        """Whether it has ended, waiting for that; its number may be another's when this has returned True, not before."""
        self._asked.settimeout(timeout)
        try:
            code = self._asked.recv(8)
        except (BlockingIOError, TimeoutError):
            return False
        assert code, "whoever waited for it was killed"
        self._asked.settimeout(None)
        self._asked.shutdown(socket.SHUT_WR)
        self._asked.recv(1)
        self._asked.close()
        self.returncode = int(code)
        return True

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    self._ended(0)
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None and not self._ended(timeout):
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode


def begin(
    words: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    start_new_session: bool = False,
) -> subprocess.Popen[str]:
    """Start the command line; what `subprocess.Popen` would return, with nothing on standard input and pipes of text."""
    command = [sys.executable, *([] if words[:1] == ["-c"] else ["-m", "aiplat.frontends.cli"]), *words]
    environment = dict(os.environ if environment is None else environment)
    _, known = _started()
    asked_for = {name for name in {*environment, *known} if environment.get(name) != known.get(name)}.difference(LATER)
    fresh = any(name.startswith(FRESH) for name in asked_for) or "COVERAGE_PROCESS_CONFIG" in environment
    kind: type[subprocess.Popen[str]] = subprocess.Popen if fresh else Fork
    return kind(
        command, cwd=folder, env=environment, text=True, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=start_new_session
    )  # fmt: skip


def run(
    words: Sequence[str], folder: Path | None, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, with nothing on standard input; what `subprocess.run` would return or raise."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = begin(words, folder, environment, stdout=out, stderr=err)
        try:
            code = process.wait(timeout)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                error.output, error.stderr = _read(out), _read(err)
            raise
        return subprocess.CompletedProcess(process.args, code, _read(out).decode(), _read(err).decode())


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


if __name__ == "__main__":
    serve(sys.argv[1])
