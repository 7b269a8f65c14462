"""Real servers for tests: PostgreSQL and MLflow, started on loopback and stopped with the test session."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port: int, seconds: float = 60, process: subprocess.Popen | None = None) -> None:
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
        subprocess.run([programs / "initdb", "-D", data, "-U", "aiplat", "-A", "scram-sha-256", f"--pwfile={password}", "-N"], check=True, **run)
        server = subprocess.Popen([programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", "/tmp"], **run)
        try:
            wait_for(port, process=server)
            yield Postgres(port)
        finally:
            server.send_signal(signal.SIGINT)  # "fast": does not wait for clients
            server.wait(30)
    finally:
        password.unlink(missing_ok=True)
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def mlflow_server(store: str, artifacts: Path) -> Iterator[str]:
    """An MLflow server process on ``store``; yields its URI."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination", str(artifacts), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (artifacts.parent / "mlflow-server.log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        wait_for(port, seconds=120, process=server)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(30)
        log.close()
