"""The error tour: what a person can get wrong ends in two lines, in a shell and in a notebook, and fails the run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from aiplat.core import workspace
from aiplat.core.workspace import Workspace
from aiplat.frontends import cli
from tests import models
from tests.conftest import run_cli
from tests.servers import free_port

GOOD = "age,sex,approved\n" + "".join(f"{20 + i % 50},{'fm'[i % 2]},{int(i % 7 < 3)}\n" for i in range(400))


def table(name: str, text: str | bytes) -> Callable[[Path], None]:
    """A step that writes a file."""

    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return prepare


def column(name: str, value: str) -> str:
    """The good table with one value everywhere in one of its columns."""
    place = {"age": 0, "sex": 1, "approved": 2}[name]
    rows = [line.split(",") for line in GOOD.splitlines()]
    return (
        "\n".join(",".join([*row[:place], value, *row[place + 1 :]] if i else row) for i, row in enumerate(rows)) + "\n"
    )


def notebook(folder: Path) -> None:
    """A notebook that nobody made ready for parameters."""
    nbformat.write(new_notebook(cells=[new_code_cell("rows = 10")]), folder / "plain.ipynb")


def settings(text: str) -> Callable[[Path], None]:
    """A step that replaces the settings file."""
    return table("settings.ini", text)


GAPS = "age,sex,approved\n" + "".join(f",,{i % 2}\n" for i in range(400))
TWICE = "age,age,approved\n1,2,0\n3,4,1\n"


@dataclass(frozen=True)
class Mistake:
    """What somebody types, what it says, what it exits with, and what was there before."""

    line: str
    what: str
    todo: str = "."
    code: int = 1
    before: Callable[[Path], None] | None = None


MISTAKES: dict[str, Mistake] = {
    "misspelt verb": Mistake("promot credit/1", "no verb 'promot'", "did you mean 'promote'", 2),
    "misspelt second word": Mistake(
        "data descrbe good.csv", "no verb 'data descrbe'", "did you mean 'data describe'", 2
    ),
    "misspelt option": Mistake("train good.csv --targt approved", "no option --targt", "did you mean '--target'", 2),
    "option without value": Mistake("train good.csv --target", "--target needs a value", "write aiplat train", 2),
    "wrong kind of value": Mistake("train good.csv --trials many", "cannot be 'many'", "a whole number", 2),
    "misspelt column": Mistake("train good.csv --target aproved", "'aproved'", "did you mean 'approved'"),
    "misspelt column to drop": Mistake("train good.csv --drop agee", "'agee'", "did you mean 'age'"),
    "misspelt metric": Mistake("train good.csv --metric roc_acu", "'roc_acu'", "did you mean 'roc_auc'", 2),
    "misspelt file": Mistake("train god.csv", "no file god.csv", "did you mean 'good.csv'"),
    "misspelt budget": Mistake("train good.csv --budget soon", "soon", "60s", 2),
    "target with one value": Mistake(
        "train one.csv", "one value|only", before=table("one.csv", column("approved", "1"))
    ),
    "target without values": Mistake("train none.csv", "no values", before=table("none.csv", column("approved", ""))),
    "all columns missing": Mistake("train gaps.csv", "no value|missing|empty", before=table("gaps.csv", GAPS)),
    "empty file": Mistake("train empty.csv", "empty.csv is empty", "a header", before=table("empty.csv", "")),
    "header only": Mistake("train h.csv", "no rows", "at least one row", before=table("h.csv", "age,approved\n")),
    "picture as CSV": Mistake("train p.csv", "PNG", before=table("p.csv", b"\x89PNG\r\n\x1a\n" + bytes(99))),
    "CSV as Parquet": Mistake("train c.parquet", "not Parquet", "rename", before=table("c.parquet", GOOD)),
    "torn Parquet": Mistake("data describe t.parquet", "t.parquet", before=table("t.parquet", b"PAR1" + bytes(50))),
    "duplicate column": Mistake("train twice.csv", "'age'", "a name of its own", before=table("twice.csv", TWICE)),
    "unknown run": Mistake("show nosuch", "nosuch"),
    "unknown model": Mistake("promote nosuch/1 --to production", "nosuch"),
    "unknown gate": Mistake("gate nosuch/1 --to productoin", "productoin|nosuch"),
    "no parameters cell": Mistake("pipeline run plain.ipynb", "no cell tagged 'parameters'", "tag it", before=notebook),
    "misspelt notebook": Mistake(
        "pipeline run plan.ipynb", "no notebook plan", "did you mean 'plain.ipynb'", before=notebook
    ),
    "misspelt setting": Mistake(
        "runs", "line 2: .*'rya'", "did you mean 'ray'", before=settings("[aiplat]\nrya = auto\n")
    ),
    "not a setting": Mistake("runs", "line 3: 'ray auto'", "key = value", before=settings("[aiplat]\n\nray auto\n")),
    "unknown profile": Mistake("runs --profile prd", r"no \[profile:prd\]", "AIPLAT_PROFILE"),
}


def words(line: str) -> list[str]:
    """The words of a line; what trains gets a target."""
    return [*line.split(), *(["--target", "approved"] if line.startswith("train") and "--targ" not in line else [])]


def two_lines(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The two lines of a failure, after checking that the standard error holds nothing else."""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, f"{done.args}\n{done.stdout}\n{done.stderr}"
    assert lines[0].startswith("✗ ") and lines[1].startswith("→ ") and "Traceback" not in done.stdout
    assert "unexpected" not in lines[0], done.stderr
    return lines[0], lines[1]


def check(done: subprocess.CompletedProcess[str], code: int, what: str, todo: str) -> None:
    """Two lines that say this, and the exit code."""
    first, second = two_lines(done)
    assert done.returncode == code, done.stderr
    assert re.search(what, first) and re.search(todo, second), done.stderr


@pytest.fixture
def folder(ws: Workspace) -> Path:
    """A fresh workspace with a good table."""
    (ws.root / "good.csv").write_text(GOOD)
    return ws.root


@pytest.fixture
def shell(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """The command line in this process: nothing is imported twice. What it writes is caught at the file descriptors."""

    def call(line: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        code = cli.main(words(line))
        return subprocess.CompletedProcess(line, code, *capfd.readouterr())

    return call


@pytest.mark.parametrize("name", MISTAKES)
def test_two_lines_in_a_shell(
    folder: Path, shell: Callable[[str], subprocess.CompletedProcess[str]], name: str
) -> None:
    mistake = MISTAKES[name]
    if mistake.before:
        mistake.before(folder)
    done = shell(mistake.line)
    check(done, mistake.code, mistake.what, mistake.todo)


def test_no_settings_file(tmp_path: Path) -> None:
    check(run_cli("runs", cwd=tmp_path, check=False), 1, "no settings.ini", "aiplat init")


def test_a_traceback_only_when_asked_for(folder: Path) -> None:
    done = run_cli("train", "good.csv", "--target", "aproved", "--debug", cwd=folder, check=False)
    assert done.returncode == 1 and "Traceback (most recent call last)" in done.stderr


# --- the same in a notebook

IN_A_NOTEBOOK = [
    "misspelt verb", "misspelt option", "misspelt column", "target with one value", "all columns missing", "empty file",
    "picture as CSV", "duplicate column", "unknown model", "no parameters cell",
]  # fmt: skip


def test_the_same_two_lines_in_an_executed_notebook(
    folder: Path, shell: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    import papermill

    cells = [new_code_cell("%load_ext aiplat")]
    expected = []
    for name in IN_A_NOTEBOOK:
        mistake = MISTAKES[name]
        if mistake.before:
            mistake.before(folder)
        line = " ".join(words(mistake.line))
        cells.append(new_code_cell(f"%aiplat {line}", metadata={"tags": ["raises-exception"]}))
        expected.append(two_lines(shell(mistake.line)))
    cells.append(new_code_cell("%aiplat train good.csv --target aproved"))
    nbformat.write(new_notebook(cells=cells), folder / "tour.ipynb")
    with pytest.raises(papermill.PapermillExecutionError) as caught:  # the run fails, and its log has the two lines
        papermill.execute_notebook(
            str(folder / "tour.ipynb"),
            str(folder / "out.ipynb"),
            kernel_name="python3",
            cwd=str(folder),
            progress_bar=False,
        )
    assert "✗ " in str(caught.value) and "→ " in str(caught.value)
    executed = [cell for cell in nbformat.read(folder / "out.ipynb", 4).cells if cell.cell_type == "code"][1:]
    errors = [[out for out in cell.outputs if out.output_type == "error"] for cell in executed]
    assert [tuple(error[-1].traceback) for error in errors[:-1]] == expected
    assert not [
        out for cell in executed for out in cell.outputs if out.output_type == "stream" and out.name == "stderr"
    ]


# --- what does not answer


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for connection in kept:
            connection.close()


TRAIN = "train good.csv --target approved --trials 2"
UNREACHABLE = {
    "tracking server": ("tracking", "http://127.0.0.1:{port}", "runs"),
    "Ray address": ("ray", "127.0.0.1:{port}", TRAIN),
    "Ray client address": ("ray", "ray://127.0.0.1:{port}", TRAIN),
    "ledger's database": ("store", "postgresql://ana:s3cret@127.0.0.1:{port}/aiplat", "ledger"),
    "database with data": ("", "", "data describe postgresql://ana:s3cret@127.0.0.1:{port}/bank?query=SELECT+1"),
}


@pytest.fixture(scope="module")
def waited(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[tuple[subprocess.CompletedProcess[str], float]]]]:
    """Lines that wait for somebody who never answers; they wait together."""

    def one(folder: Path, name: str, silent: bool) -> tuple[subprocess.CompletedProcess[str], float]:
        key, address, line = UNREACHABLE[name]
        with silent_server() as port:
            place = {"port": port if silent else free_port()}
            (folder / "good.csv").write_text(GOOD)
            (folder / "settings.ini").write_text(
                f"[aiplat]\n{key} = {address.format(**place)}\n" if key else "[aiplat]\n"
            )
            began = time.monotonic()
            done = run_cli(*line.format(**place).split(), cwd=folder, check=False, env={"AIPLAT_RAY": ""}, timeout=150)
            return done, time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        cases = [(name, silent) for silent in (True, False) for name in UNREACHABLE]
        yield {
            f"{name} {silent}": pool.submit(one, tmp_path_factory.mktemp("waits"), name, silent)
            for name, silent in cases
        }


@pytest.mark.parametrize("name", UNREACHABLE)
@pytest.mark.parametrize("silent", [True, False], ids=["no answer", "nobody listens"])
def test_unreachable(
    waited: dict[str, Future[tuple[subprocess.CompletedProcess[str], float]]], name: str, silent: bool
) -> None:
    done, seconds = waited[f"{name} {silent}"].result()
    done.stderr = re.sub(r"^\d+/\d+ trials .*\n", "", done.stderr, flags=re.M)  # a search tells how far it is
    first, second = two_lines(done)
    assert done.returncode == 1 and "s3cret" not in first + second
    assert seconds < 90


# --- a full disk, a locked database


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of six megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.name != "posix"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", place], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk takes an administrator: the full disk is not tested here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path, leave: int) -> None:
    """Leave so many bytes."""
    space = os.statvfs(place)
    with (place / "ballast").open("wb") as ballast:
        ballast.write(bytes(max(0, space.f_bavail * space.f_frsize - leave)))


@pytest.mark.parametrize("leave", [0, 40_000, 300_000])
def test_full_disk(small_disk: Path, leave: int) -> None:
    home = workspace.create(small_disk, user="ana")
    (home.root / "good.csv").write_text(GOOD)
    fill(small_disk, leave)
    done = run_cli("data", "snapshot", "sample:credit?rows=20000", cwd=home.root, check=False)
    check(done, 1, "full|cannot be written", "room|full|free")
    kept = list((home.state / "snapshots").glob("*"))
    assert not [path for path in kept if path.stat().st_size == 0 or path.name.startswith(".")], (
        "something half-written"
    )
    (small_disk / "ballast").unlink()
    run_cli("data", "snapshot", "good.csv", cwd=home.root)  # room again: it works again


@pytest.mark.parametrize("leave", [0, 300_000])
def test_full_disk_while_the_tracking_database_is_made(small_disk: Path, leave: int) -> None:
    home = workspace.create(small_disk, user="ana")
    cell = new_code_cell("rows = 10", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), small_disk / "step.ipynb")
    fill(small_disk, leave)
    check(
        run_cli("pipeline", "run", "step.ipynb", cwd=home.root, check=False),
        1,
        "full|cannot be written",
        "room|full|free",
    )
    (small_disk / "ballast").unlink()
    run_cli("pipeline", "run", "step.ipynb", cwd=home.root)


def test_full_disk_when_a_workspace_is_made(small_disk: Path) -> None:
    fill(small_disk, 0)
    check(run_cli("init", cwd=small_disk, check=False), 1, "full|cannot be written", ".")
    assert not (small_disk / "settings.ini").exists()


@contextmanager
def holding(database: Path) -> Iterator[None]:
    """Another process writes to an SQLite database and does not come to an end."""
    code = f"""
import sqlite3, sys
connection = sqlite3.connect({str(database)!r}, isolation_level=None)
connection.execute('BEGIN EXCLUSIVE')
print('held', flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "held\n"
    yield
    other.communicate()


@pytest.mark.parametrize(
    ("database", "line"),
    [("ledger.db", "data snapshot good.csv"), ("mlflow.db", "pipeline run step.ipynb")],
    ids=["ledger", "MLflow"],
)
def test_locked_database(ws: Workspace, folder: Path, database: str, line: str) -> None:
    cell = new_code_cell("rows = 10", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), folder / "step.ipynb")
    run_cli("ledger", cwd=folder)
    ws.client()
    began = time.monotonic()
    with holding(ws.path(database)):
        check(run_cli(*line.split(), cwd=folder, check=False, timeout=200), 1, "locked", ".")
    assert time.monotonic() - began < 90
    run_cli(*line.split(), cwd=folder)  # let go of, it works again


# --- two people at once


def test_two_people_promote_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ws = models.governed(tmp_path)
    model = models.ready(ws, "credit")
    code = """
import sys
from aiplat.core.ledger import change
from aiplat.core.workspace import workspace
with change(workspace(), "promote", "alias:credit@production", {"to": 1}):
    print('held', flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "AIPLAT_USER": "ali"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout and other.stdout.readline() == "held\n"
    done = run_cli("promote", model, "--to", "production", cwd=tmp_path, check=False, timeout=60)
    other.communicate()
    check(done, 1, "ali is changing credit@production at this moment", ".")
