"""`aiplat pipeline run`: checked parameters, kernels that do not meet, and a record that survives a kill."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from aiplat.core.errors import UserError
from aiplat.core.ledger import entries, unfinished
from aiplat.frontends import cli
from aiplat.operations.kinds import ANY, Kind, from_text, literal
from aiplat.operations.parameters import checked, declared
from aiplat.operations.pipeline import run
from aiplat.release.verify import verify
from tests import warm

HOSTILE = [
    "'", '"', "'''", '"""', "\\", "\\'", "a\nb\r\nc", "$(touch hacked)", "`touch hacked`", "$HOME {x} {pm.run_uuid}",
    "!touch hacked", "%pwd", "what?", "'; import os; os.system('touch hacked') #",
    "__import__('os').system('touch hacked')", "</script><b>", "\u2028\u202e", "-p", "--json", "# comment", "é 漢 🙂",
]  # fmt: skip


def write(path: Path, *cells: str, tags: dict[int, str] | None = None) -> Path:
    """A notebook whose first cell declares the parameters."""
    made = [new_markdown_cell("# A step"), *(new_code_cell(cell) for cell in cells)]
    made[1].metadata["tags"] = ["parameters"]
    for number, tag in (tags or {}).items():
        made[number].metadata["tags"] = [tag]
    nbformat.write(new_notebook(cells=made), path)
    return path


def outputs(path: str | Path) -> list[Any]:
    """The text of each code cell's last output."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return [
        cell.outputs[-1].get("text") or cell.outputs[-1].get("data", {}).get("text/plain") if cell.outputs else None
        for cell in cells
    ]


def two_lines(captured: pytest.CaptureFixture[str], line: str, code: int) -> tuple[str, str]:
    """The two lines on the standard error of a command line, after checking that there is nothing else."""
    captured.readouterr()
    assert cli.main(line.split()) == code
    said = captured.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 2, (said.out, said.err)
    assert lines[0].startswith("✗ ") and lines[1].startswith("→ ")
    return lines[0], lines[1]


# --- parameters


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=8,
    )
)
def test_a_value_written_as_code_is_the_value(value: Any) -> None:
    assert eval(literal(value), {"__builtins__": {"float": float}}) == value
    assert "\n" not in literal(value)


@given(
    st.sampled_from(["bool", "int", "float", "str", "list", "tuple", "set", "dict", "date", "datetime", "path", "any"]),
    st.text(),
)
@settings(max_examples=300)
def test_whatever_is_typed_becomes_one_literal_or_an_error(base: str, text: str) -> None:
    try:
        value = from_text(ANY if base == "any" else Kind(base), text)
    except ValueError:
        return
    (statement,) = ast.parse(f"x = {literal(value)}").body
    calls = [ast.unparse(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)]
    allowed = {"float", "set", "__import__", "__import__('pathlib').Path"}
    allowed |= {f"__import__('datetime').{kind}.fromisoformat" for kind in ("date", "datetime")}
    assert set(calls) <= allowed


@given(st.text())
@settings(max_examples=300)
def test_any_parameters_cell_is_read_or_refused(source: str) -> None:
    try:
        declared(source)
    except UserError as error:
        assert error.what and error.todo


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", "oops", "wants a float"),
        ("rows", "1.5", "wants an int"),
        ("rate", "1", "no parameter 'rate'"),
        ("api_key", "k", "looks like a secret"),
        ("data", "postgresql://eve:pw@db/bank", "holds a password"),
        ("method", "forrest", "did you mean 'forest'?"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_starts(ws, name: str, value: str, said: str) -> None:
    cell = "lr: float = 0.1\nrows = 10\napi_key = ''\ndata = 'x.csv'\nmethod: Literal['forest', 'logistic'] = 'forest'"
    book = write(ws.root / "step.ipynb", cell, "open('started', 'w')")
    with pytest.raises(UserError) as caught:
        run(book, p=[(name, value)])
    assert said in str(caught.value)
    assert (
        not (ws.root / "started").exists()
        and not (ws.state / "pipelines").exists()
        and not (ws.state / "mlflow.db").exists()
    )


def test_parameter_given_twice_or_missing() -> None:
    asked = declared("target: str\nrows = 1")
    for given_, said in [([], "no default"), ([("target", "a"), ("target", "b")], "twice")]:
        with pytest.raises(UserError, match=said):
            checked(asked, given_)


def test_hostile_texts_arrive_as_they_are(ws) -> None:
    book = write(
        ws.root / "step.ipynb", "texts: list[str] = []\none = ''", "import json\nprint(json.dumps([texts, one]))"
    )
    result = run(book, p=[("one", HOSTILE[13])], parameters={"texts": HOSTILE})
    assert json.loads(outputs(result.notebook)[-1]) == [HOSTILE, HOSTILE[13]]
    assert not list(ws.root.glob("**/hacked"))
    assert json.loads(ws.path("pipelines", result.run, "record.json").read_text())["parameters"]["texts"] == HOSTILE
    assert "<b>" not in result._repr_html_()


def test_typed_values_reach_the_kernel_as_their_types(ws) -> None:
    cell = """
from datetime import date
from pathlib import Path
lr: float = 1
day: date = date.today()
by: list[str] = ["sex"]
limit: int | None = 3
file: Path = Path("x")
yes = False
"""
    book = write(
        ws.root / "step.ipynb",
        cell,
        "print([type(v).__name__ for v in (lr, day, by, limit, yes)], day.isoformat(), file.suffix)",
    )
    result = run(
        book,
        p=[("lr", "5"), ("day", "2026-02-28"), ("by", "sex,race"), ("limit", "none"), ("yes", "on"), ("file", "a.csv")],
    )
    assert outputs(result.notebook)[-1].strip() == "['float', 'date', 'list', 'NoneType', 'bool'] 2026-02-28 .csv"
    assert result.parameters["day"] == "2026-02-28" and ws.client().get_run(result.run).data.params["limit"] == "null"


# --- where it runs and what it leaves


def test_the_kernel_works_in_the_notebooks_folder_and_this_process_stays(ws) -> None:
    (ws.root / "steps").mkdir()
    book = write(
        ws.root / "steps" / "step.ipynb",
        "x = 1",
        "import os; from aiplat.core.workspace import workspace\nprint(os.getcwd(), workspace().root)",
    )
    here = os.getcwd()
    result = run("steps/step.ipynb")
    assert os.getcwd() == here and outputs(result.notebook)[-1].split() == [str(book.parent), str(ws.root)]


def test_a_notebook_from_elsewhere_finds_the_workspace_of_whoever_runs_it(
    ws, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    book = write(
        elsewhere / "step.ipynb", "x = 1", "from aiplat.core.workspace import workspace\nprint(workspace().root)"
    )
    assert outputs(run(book).notebook)[-1].strip() == str(ws.root)
    assert sorted(path.name for path in elsewhere.iterdir()) == ["step.ipynb"]


def test_the_record(ws) -> None:
    inside = """
from aiplat.core.workspace import workspace
from aiplat.training.runs import origin
ws = workspace()
tags = origin() | {"aiplat.kind": "train", "aiplat.data_digest": "d1"}
ws.client().create_run(ws.experiment_id(), tags=tags).info.run_id
"""
    book = write(ws.root / "step.ipynb", "rows: int = 10", inside)
    result = run(book, p=[("rows", "7")])
    record = json.loads(ws.path("pipelines", result.run, "record.json").read_text())
    assert (
        record["environment"]["packages"]["papermill"] and record["digests"]["notebook"] == result.digests["notebook"]
    )
    assert [cell["state"] for cell in record["cells"]] == ["done"] * 3 and all(
        cell["seconds"] >= 0 for cell in record["cells"]
    )
    assert [made["data_digest"] for made in result.made] == ["d1"]
    logged = ws.client().get_run(result.run)
    assert logged.info.status == "FINISHED" and logged.data.tags["aiplat.executed_digest"] == result.digests["executed"]
    assert len(ws.client().get_metric_history(result.run, "cell_seconds")) == 3
    (intent, done) = entries(ws, action="pipeline")
    assert (intent.phase, done.phase, done.intent) == ("intent", "done", intent.seq) and done.body["made"] == [
        result.made[0]["run"]
    ]
    assert "papermill" in nbformat.read(result.notebook, 4).metadata
    again = run(result.notebook, p=[("rows", "8")], out="again.ipynb")  # an executed copy is a notebook like any other
    assert (
        again.parameters == {"rows": 8}
        and sum("rows = 8" in cell.source for cell in nbformat.read(again.notebook, 4).cells) == 1
    )


def test_out_goes_where_it_was_told_and_nowhere_else(ws) -> None:
    book = write(ws.root / "{pm.run_uuid}..%2e$x.ipynb", "x = 1")
    result = run(book)
    assert Path(result.notebook).parent == ws.state / "pipelines" / result.run
    (ws.root / "copies").mkdir()
    assert run(book, out="copies").notebook == str(ws.root / "copies" / book.name)
    assert run(book, out="copies/{x}.ipynb").notebook == str(ws.root / "copies" / "{x}.ipynb")
    for out in (book, "copy.html", "s3://bucket/copy.ipynb"):
        with pytest.raises(UserError):
            run(book, out=str(out))


# --- what fails


def test_a_failing_cell_names_itself(ws, capfd: pytest.CaptureFixture[str]) -> None:
    book = write(ws.root / "step.ipynb", "x = 1", "y = 2", "# why\n1 / 0", "open('after', 'w')")
    first, second = two_lines(capfd, "pipeline run step.ipynb", 1)
    assert first == "✗ cell 3 '1 / 0' failed: ZeroDivisionError: division by zero"
    copy = Path(second.partition("executed so far: ")[2])
    assert copy.is_file() and not (ws.root / "after").exists()
    assert "In [3]" in nbformat.read(copy, 4).cells[0].source  # papermill's note at the top
    assert entries(ws, action="pipeline")[-1].phase == "failed"
    assert cli.main(["pipeline", "run", book.name, "--json"]) == 1
    document = json.loads(capfd.readouterr().out)
    assert document["result"]["outcome"] == "failed" and [cell["state"] for cell in document["result"]["cells"]][
        2:
    ] == ["failed", "skipped"]


def test_a_refusal_inside_stays_a_refusal(ws, capfd: pytest.CaptureFixture[str]) -> None:
    write(ws.root / "step.ipynb", "x = 1", "from aiplat.core.errors import Refused\nraise Refused('may not', 'ask')")
    first, second = two_lines(capfd, "pipeline run step.ipynb", 3)
    assert first.endswith("failed: may not") and second.startswith("→ ask · executed so far: ")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(7)", "lost its kernel (it exited with code 7)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "lost its kernel (it was killed"),
        ("import time; time.sleep(60)", "was still running"),
        ("%nosuch", "UsageError: Line magic function `%nosuch` not found"),
        ("input()", "StdinNotImplementedError"),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
    ],
)
def test_other_ways_to_fail(ws, code: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        run(write(ws.root / "step.ipynb", "x = 1", code, "2"), timeout="3s")
    assert caught.value.what.startswith(f"cell 2 '{code[:40]}") and said in caught.value.what
    assert [cell.state for cell in caught.value.result.cells] == ["done", "failed", "skipped"]
    assert ws.client().get_run(caught.value.result.run).info.status == "FAILED" and not unfinished(ws)


def test_cells_that_may_fail_and_an_early_end(ws) -> None:
    book = write(
        ws.root / "step.ipynb",
        "x = 1",
        "1 / 0",
        "print('on')",
        "import sys; sys.exit(0)",
        "never",
        tags={2: "raises-exception"},
    )
    assert [cell.state for cell in run(book).cells] == ["done", "allowed", "done", "allowed", "skipped"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"nbformat": 4}',
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
        "PK\x03\x04",
    ],
)
def test_what_is_no_notebook_is_refused(ws, content: str) -> None:
    (ws.root / "step.ipynb").write_text(content)
    with pytest.raises(UserError, match="is not a notebook"):
        run("step.ipynb")


# --- many at once, and a kill


@pytest.mark.slow
def test_six_at_once_three_times(ws) -> None:
    write(ws.root / "step.ipynb", "number: int = 0", "print(number ** 2)")
    code = """
import sys
from aiplat.operations.pipeline import run
for i in range(3):
    print(run('step.ipynb', p=[('number', sys.argv[1])]).notebook)
"""
    workers = [
        warm.begin(["-c", code, str(n)], ws.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(6)
    ]
    for number, worker in enumerate(workers):
        out, err = worker.communicate(timeout=280)
        assert worker.returncode == 0 and len(out.split()) == 3, err
        assert [outputs(path)[-1].strip() for path in out.split()] == [str(number**2)] * 3
    assert len(entries(ws, action="pipeline", phase="done")) == 18 and not unfinished(ws)


@pytest.mark.slow
def test_a_killed_run_is_explained_and_closed(ws) -> None:
    write(
        ws.root / "step.ipynb",
        "x = 1",
        "import os, pathlib, time\npathlib.Path('kernel').write_text(str(os.getpid()))\ntime.sleep(120)",
    )
    worker = warm.begin(["pipeline", "run", "step.ipynb"], ws.root)
    deadline = time.monotonic() + 60
    while not (ws.root / "kernel").exists() or not (ws.root / "kernel").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    (intent,) = unfinished(ws)
    copy = Path(intent.body["copy"])
    assert intent.action == "pipeline" and outputs(copy)[0] is None and nbformat.read(copy, 4)
    assert verify().exit_code == 1 and "pipeline" in str(verify())
    write(ws.root / "other.ipynb", "x = 1")
    (note,) = run("other.ipynb").notes
    assert "was killed" in note and str(copy) in note and not unfinished(ws)
    assert ws.client().get_run(intent.subject.partition(":")[2]).info.status == "KILLED"
    assert run("other.ipynb").notes == []
    kernel = int((ws.root / "kernel").read_text())
    deadline = time.monotonic() + 15
    while Path(f"/proc/{kernel}").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not Path(f"/proc/{kernel}").exists(), "the kernel outlived its run"


@pytest.mark.slow
def test_an_interrupted_run_is_closed(ws) -> None:
    write(ws.root / "step.ipynb", "x = 1", "import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(120)")
    worker = warm.begin(["pipeline", "run", "step.ipynb"], ws.root, stderr=subprocess.PIPE)
    while not (ws.root / "begun").exists():
        time.sleep(0.2)
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 130 and len(err.splitlines()) == 2, err
    assert not unfinished(ws)
    (run_,) = ws.client().search_runs([ws.experiment_id()])
    assert run_.info.status == "KILLED"
