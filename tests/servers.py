"""Real servers for tests: PostgreSQL, MLflow and a Ray cluster of two nodes, started on loopback and stopped with the test session."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiplat.core import stack

_given: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody uses, below those that the system gives to connections: one of these may be gone before it is listened on.

    As long as this process lives it is given to nobody else who asks here, in whatever process, also while nothing listens on it.
    """
    while True:
        port = random.SystemRandom().randrange(24_001, 32_000)  # Ray gives those from 23,000 on to its clients' servers
        given = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, contextlib.suppress(OSError):
            given.bind(f"\0aiplat-test-port-{port}")  # a name without a file; the system forgets it with this process
            probe.bind(("127.0.0.1", port))
            _given.append(given)
            return port
        given.close()


def wait_for(port: int, seconds: float = 240, process: subprocess.Popen | None = None) -> None:
    """Return when something listens on the port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process and process.poll() is not None:
            raise RuntimeError(f"the server on port {port} ended with {process.returncode}")
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s")


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, the newest installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(p) for p in [shutil.which("initdb")] if p]
    return found[-1].parent if found else None


@dataclass
class Postgres:
    port: int
    command: list[object] = field(default_factory=list)
    how: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        import psycopg

        self.process = subprocess.Popen(self.command, **self.how)
        wait_for(self.port, process=self.process)
        end = time.monotonic() + 240
        while True:  # it listens first, and refuses everybody until it has recovered
            try:
                return psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop it the way an upgrade does: every client's connection is cut."""
        if self.process:
            self.process.send_signal(signal.SIGINT)  # "fast": does not wait for clients
            self.process.wait(120)
            self.process = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://aiplat:s3cret-pw@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database and return its URL."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL server of its own; as root it runs as the user that Debian's package made."""
    programs = postgres_programs()
    assert programs, "PostgreSQL's server is not installed"
    person: dict = {}
    data = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:  # the server refuses to run as root
        entry = pwd.getpwnam("postgres")
        person = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        data = Path(f"/var/lib/postgresql/aiplat-test-{os.getpid()}")
        shutil.rmtree(data, ignore_errors=True)
    port = free_port()
    password = Path(f"/tmp/aiplat-pg-{os.getpid()}")
    password.write_text("s3cret-pw")
    password.chmod(0o644)
    run = {"cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **person}
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "aiplat", "-A", "scram-sha-256", f"--pwfile={password}", "-N"],
            check=True,
            **run,
        )
        command = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", "/tmp"]
        server = Postgres(port, command, run)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        password.unlink(missing_ok=True)
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def mlflow_server(store: str, artifacts: Path, port: int = 0) -> Iterator[str]:
    """An MLflow server process on ``store``; yields its URI."""
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination", str(artifacts), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (artifacts.parent / "mlflow-server.log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        wait_for(port, process=server)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for whoever is connected still
                server.wait(30)
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(120)
        log.close()


def _ray_node(
    command: list[str], log: Path, environment: dict[str, str], processes: list[subprocess.Popen[bytes]]
) -> None:
    """Start a node of Ray, added to ``processes``; on a busy machine at the second or third attempt, since Ray itself waits for each of its parts for 20 or 30 s only."""
    for _ in range(4):
        with log.open("w") as out:
            port = f"--dashboard-agent-listen-port={free_port()}"
            node = subprocess.Popen([*command, port], stdout=out, stderr=out, env=environment, start_new_session=True)
        processes.append(node)
        end = time.monotonic() + 240
        while node.poll() is None and time.monotonic() < end:
            if "Ray runtime started" in log.read_text():
                return
            time.sleep(0.2)
        stack.stop_tree(*([stack.mark(node.pid)] if node.poll() is None else []), patience=1)
        node.wait(120)
    raise RuntimeError(f"Ray did not start: {log.read_text()}")


@contextlib.contextmanager
def two_nodes(hidden: Path | None = None) -> Iterator[tuple[str, str]]:
    """A cluster as people start it by hand, of two nodes with a CPU each; yields its address and its client server.

    The second node does not see the folder ``hidden``: it might as well be another machine. (Where only an administrator may
    hide a folder, and nobody is one, it sees it.)
    """
    alone = [
        "unshare",
        "--mount",
        "--uts",
        "bash",
        "-c",
        f'hostname elsewhere && mount -t tmpfs none "{hidden}" && exec "$@"',
        "node",
    ]
    if hidden is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # the path of a socket must be short
    ray, port, client = str(Path(sys.executable).parent / "ray"), free_port(), free_port()
    first = ["--head", f"--port={port}", f"--ray-client-server-port={client}", f"--temp-dir={folder}"]
    common = ["--num-cpus=1", "--object-store-memory=200000000", "--disable-usage-stats", "--block"]
    (folder / "lean").mkdir()  # Ray's agents start twice as fast without a grammar that they do not need
    (folder / "lean" / "rfc3987_syntax.py").write_text("raise ImportError\n")
    # This process may have been in a cluster of aiplat's, whose settings for Ray must not reach this one.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # A token that an earlier Ray of this person left at home would be asked for by the first node and not shown by the second.
    environment = ours | {"PYTHONPATH": str(folder / "lean"), "RAY_AUTH_MODE": "disabled"}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, role in enumerate([[*first, "--include-dashboard=false"], [f"--address=127.0.0.1:{port}"]]):
            command = [*(alone if number else []), ray, "start", *role, *common]
            _ray_node(command, folder / f"log{number}", environment, processes)
        wait_for(client)
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
    except Exception as error:
        for log in sorted((folder / "session_latest" / "logs").glob("ray_client_server*")):
            error.add_note(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        stack.stop_tree(*(stack.mark(process.pid) for process in processes if process.poll() is None), patience=1)
        for process in processes:
            process.wait(120)
        shutil.rmtree(folder, ignore_errors=True)
