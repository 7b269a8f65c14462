"""The faces of the verbs: one signature behind Python, magics and command line; two lines for every mistake."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic  # noqa: F401  the reader of lines validates with it as soon as anybody has imported it
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiplat
from aiplat.core.errors import Refused, UsageError, UserError
from aiplat.core.show import Result
from aiplat.frontends import cli as command_line
from aiplat.frontends import completion, faces, lines, magics, verbs
from aiplat.frontends.faults import explain, unexpected
from aiplat.frontends.help import help_for
from aiplat.frontends.verbs import VERBS, Verb
from benchmarks.startup import HEAVY
from tests.conftest import run_cli
from tests.stubs import STUBS

GLOBAL = {"json", "debug", "profile", "help", "version", "h"}
Data = Annotated[Any, "data"]


@dataclass
class Echo(Result):
    """What a verb was given."""

    given: dict[str, Any]


def echo(
    data: Data,
    extra: str = "",
    *,
    by: list[str] | None = None,
    trials: int = 12,
    share: float | None = None,
    method: Literal["fast", "slow"] = "fast",
    out: Path | None = None,
    p: list[tuple[str, str]] | None = None,
    loud: bool = False,
    cell: str | None = None,
    namespace: dict[str, Any] | None = None,
) -> Echo:
    """Give back what was given.

    Parameters
    ----------
    data
        Anything.
    by
        Some names.
    """
    return Echo(dict(locals()))


@pytest.fixture
def echoing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb takes every argument and does nothing."""
    monkeypatch.setattr(Verb, "load", lambda self: echo)


@pytest.fixture
def table() -> Any:
    import pandas as pd

    return pd.DataFrame({"age": [31, 44], "hours per week": [40, 20], "income": [0, 1]})


def failing(problem: BaseException) -> Callable[[Verb], Callable[[], None]]:
    """A verb that does nothing but fail."""

    def load(self: Verb) -> Callable[[], None]:
        def fail() -> None:
            """Fail."""
            raise problem

        return fail

    return load


# The table ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_table_repeats_the_docstring(verb: Verb) -> None:
    function = verb.load()
    first = (inspect.getdoc(function) or "").splitlines()[0]
    assert first.endswith(".") and verb.help == first.removesuffix(".")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_option_is_described_and_readable(verb: Verb) -> None:
    page = str(help_for(verb.name.split()))
    assert verb.help in " ".join(page.split()) and page.startswith(f"aiplat {verb.name}")
    parameters = {each.name for each in completion.takes(verb)}
    assert not set(parameters) & GLOBAL, "an option of every verb is hidden by this verb's own"
    documented = re.split(r"^Parameters\n-+$", inspect.getdoc(verb.load()) or "", flags=re.M)[-1]
    for name in parameters:
        assert re.search(rf"^{name}\b", documented, re.M), f"{name} is not described"


def test_stubs_are_in_sync() -> None:
    for path, group in STUBS.items():
        assert path.read_text() == verbs.stub(group), "run: python -m tests.stubs"


def test_python_face() -> None:
    assert aiplat.train is aiplat.train and inspect.signature(aiplat.train) == inspect.signature(
        verbs.find(["train"])[0].load()
    )
    assert aiplat.data.describe.__name__ == "describe" and aiplat.pipeline.run.__name__ == "run"
    assert {"train", "data", "pipeline"} <= set(dir(aiplat))
    with pytest.raises(AttributeError, match="did you mean 'train'"):
        getattr(aiplat, "trian")  # noqa: B009
    from aiplat import data

    assert data.__name__ == "aiplat.data"


def test_python_face_explains_foreign_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    verbs.attribute.cache_clear()
    problem = sqlite3.OperationalError("database is locked")
    monkeypatch.setattr(Verb, "load", failing(problem))
    with pytest.raises(UserError, match="locked") as caught:
        aiplat.runs()
    assert caught.value.__cause__ is problem
    verbs.attribute.cache_clear()


def test_light() -> None:
    """Loading the extension, listing the verbs and misspelling one imports no heavy library."""
    code = "import sys; from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance()\n"
    code += "before = set(sys.modules); s.run_line_magic('load_ext', 'aiplat')\n"
    code += "import aiplat.frontends.cli as c; c.main(['--help']); c.main(['trian'])\n"
    code += f"bad = [m for m in {HEAVY} if m in sys.modules and m not in before]; assert not bad, bad"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Lines --------------------------------------------------------------------------------------------------------------


def read(line: str, **names: Any) -> dict[str, Any]:
    return magics.run_line(line, names=names).given


@pytest.mark.usefixtures("echoing")
def test_values(table: Any) -> None:
    got = read(
        'train people --by "a, b" --by c -p lr 0.1 -p n 5 --trials=3 --share .25 --method slow --out x.csv --loud',
        people=table,
    )
    assert got["data"] is table and got["by"] == ["a", "b", "c"] and got["p"] == [("lr", "0.1"), ("n", "5")]
    assert (got["trials"], got["share"], got["method"], got["out"], got["loud"]) == (
        3,
        0.25,
        "slow",
        Path("x.csv"),
        True,
    )
    assert read("train people.csv more")["extra"] == "more"
    assert read("train --data people.csv --extra=more")["extra"] == "more"
    assert read(r"train x.csv --by 'income\, yearly,age'")["by"] == ["income, yearly", "age"]
    assert read("train x.csv --share -1e-3")["share"] == -0.001


@pytest.mark.usefixtures("echoing")
def test_variables(table: Any) -> None:
    got = read(
        "train $frame --trials $n --by $cols --out $where -p lr $lr",
        frame=table,
        n=7,
        cols=["a, b", "c"],
        where=Path("o"),
        lr=0.5,
    )
    assert (
        got["data"] is table
        and got["trials"] == 7
        and got["by"] == ["a, b", "c"]
        and got["out"] == Path("o")
        and got["p"] == [("lr", "0.5")]
    )
    assert read("train x.csv --trials $n", n=None)["trials"] == 12  # None is: not given
    best = Echo({})
    best.run = "4f1c9a33"  # type: ignore[attr-defined]
    assert read("train x.csv $best", best=best)["extra"] == "4f1c9a33"  # the result of an earlier line
    assert read("train $name/3 $name@production", name="credit")["data"] == "credit/3"
    assert read("train x.csv $$n", n=1)["extra"] == "$n"
    assert read("train x.csv $text", text="--loud")["extra"] == "--loud"  # a value never turns into an option
    assert read("train x.csv '{n} costs 3$'", n=1)["extra"] == "{n} costs 3$"
    with pytest.raises(UsageError, match="did you mean 'trials'"):
        read("train x.csv --trials $trails", trials=3)
    with pytest.raises(UsageError, match="--trials cannot be 'ten'"):
        read("train x.csv --trials $n", n="ten")


MISTAKES = {
    "trian x.csv": ("there is no verb 'trian'", "did you mean 'train'"),
    "data descrbe": ("there is no verb 'data descrbe'", "did you mean 'data describe'"),
    "data": ("'data' needs a second word", "data describe"),
    "train x.csv --trails 3": ("train has no option --trails", "did you mean '--trials'"),
    "train x.csv --trials ten": ("--trials cannot be 'ten'", "a whole number"),
    "train x.csv --method fsat": ("--method cannot be 'fsat'", "did you mean 'fast'"),
    "train x.csv --trials": ("--trials needs a value", "aiplat train DATA"),
    "train": ("DATA is missing", "aiplat train DATA"),
    "train a.csv b c d": ("there is no place for 'c d'", "aiplat train DATA"),
    "train a.csv --trials 1 --trials 2": ("--trials is given twice", "once"),
    "train a.csv -p lr": ("-p needs a name and a value", "write"),
    "train 'a.csv": ("a quote is not closed", "close it"),
    "train poeple": ("there is no DataFrame and no file named 'poeple'", "did you mean 'people'"),
    "runs --profile": ("--profile needs a name", "NAME"),
    "train x.csv --cell 3": ("train has no option --cell", "--"),
}


@pytest.mark.usefixtures("echoing")
@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_get_two_lines(line: str, table: Any) -> None:
    with pytest.raises(UserError) as caught:
        magics.run_line(line, names={"people": table})
    what, todo = MISTAKES[line]
    assert what in caught.value.what and todo in caught.value.todo
    assert caught.value.exit_code == (1 if "poeple" in line else 2) and len(caught.value._render_traceback_()) == 2


NAMES = st.sampled_from(["x", "people", "_", "naïve", "a b", "$", "trials"])
PIECES = st.one_of(
    st.sampled_from([word for verb in VERBS for word in verb.name.split()]),
    st.sampled_from(
        [
            "--by",
            "--trials",
            "--data",
            "-p",
            "--loud",
            "--no-loud",
            "--json",
            "--debug",
            "--profile",
            "--help",
            "--",
            "-",
            "$x",
            "$$",
            "=",
            "a,b",
            "#",
            ";",
            "\\",
        ]
    ),
    st.text(max_size=12),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(PIECES, max_size=7),
    names=st.dictionaries(
        NAMES, st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.text(max_size=3)))
    ),
)
def test_any_line_gives_a_result_or_two_lines(echoing: None, pieces: list[str], names: dict[str, Any]) -> None:
    line = " ".join(pieces)
    try:
        result = magics.run_line(line, names=dict(names))
    except UserError as error:
        assert len(error._render_traceback_()) == 2 or os.environ.get("AIPLAT_DEBUG")
        assert "unexpected" not in error.what, error.what
    else:
        assert isinstance(result, Result | dict | str)
    assert "AIPLAT_DEBUG" not in os.environ and "AIPLAT_PROFILE" not in os.environ
    completion.completions(f"%aiplat {line}", names)  # nor does completing any line fail


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=8).filter(lambda name: name.strip() == name and "\\" not in name), max_size=4)
)
def test_lists_survive_commas(names: list[str]) -> None:
    assert faces.split_list(",".join(name.replace(",", "\\,") for name in names)) == names


# Faults -------------------------------------------------------------------------------------------------------------


def _foreign(name: str, text: str, module: str = "mlflow.exceptions") -> Exception:
    return type(name, (Exception,), {"__module__": module})(text)


FAULTS = {
    "locked": (
        _foreign("OperationalError", "(sqlite3.OperationalError) database is locked\n[SQL: INSERT …]"),
        "locked",
    ),
    "disk": (OSError(28, "No space left on device"), "disk is full"),
    "sqlite disk": (sqlite3.OperationalError("database or disk is full"), "disk is full"),
    "arrow disk": (_foreign("ArrowInvalid", "[errno 28] No space left on device"), "disk is full"),
    "rights": (PermissionError(13, "Permission denied", "/etc/shadow"), "/etc/shadow"),
    "mlflow": (
        _foreign("MlflowException", "API request to http://ml:5000/api failed: Max retries exceeded"),
        "http://ml:5000/api does not answer",
    ),
    "requests": (
        _foreign("ConnectionError", "HTTPConnectionPool(host='ml', port=5000): Max retries exceeded"),
        "ml:5000 does not answer",
    ),
    "postgres": (
        _foreign(
            "OperationalError", 'connection failed: connection to server at "10.0.0.5", port 5432 failed: timeout'
        ),
        "10.0.0.5:5432",
    ),
    "password": (
        ConnectionRefusedError("postgresql://ann:s3cret@db:5432/ml refused"),
        "postgresql://ann:***@db:5432/ml",
    ),
    "memory": (MemoryError(), "memory"),
    "package": (ModuleNotFoundError("No module named 's3fs'", name="s3fs"), "s3fs"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_well_known_failures_are_explained(name: str) -> None:
    problem, said = FAULTS[name]
    wrapped = RuntimeError("could not save the model")
    wrapped.__cause__ = problem
    for each in (problem, wrapped):
        error = explain(each)
        assert error is not None and said in error.what and "s3cret" not in str(error)


def test_requests_really() -> None:
    import requests

    with pytest.raises(requests.ConnectionError) as caught:
        requests.get("http://127.0.0.1:9/x", timeout=2)
    error = explain(caught.value)
    assert error is not None and error.what == "127.0.0.1:9 does not answer"


def test_a_fault_in_ones_own_cell_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiplat.core import workspace

    monkeypatch.chdir(workspace.create(tmp_path).root)
    for cell, said in [
        ("x = 1\nmodel = Forest()", "line 2 of the cell fails: NameError"),
        ("model = (", "line 1 is not Python"),
    ]:
        with pytest.raises(UserError, match=said) as caught:
            magics.run_line("train sample:credit?rows=200 --target approved", cell, {})
        assert caught.value.todo.startswith("mend it: model = ")


def test_unexpected_names_the_place() -> None:
    with pytest.raises(TypeError) as caught:
        from aiplat.core.settings import load_settings

        load_settings(object())  # type: ignore[arg-type]
    assert explain(caught.value) is None
    assert re.search(r"unexpected: TypeError: .* in core/settings\.py:\d+$", unexpected(caught.value).what)


# The command line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (UserError("bad", "mend"), 1),
        (UsageError("bad", "mend"), 2),
        (Refused("bad", "mend"), 3),
        (KeyboardInterrupt(), 130),
        (KeyError("x"), 1),
        (OSError(28, "full"), 1),
    ],
)
def test_exit_codes(
    problem: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Verb, "load", failing(problem))
    assert command_line.run(["runs"]) == code
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"✗ .+\n→ .+\n", err)
    assert command_line.run(["runs", "--json"]) == code
    out, err = capsys.readouterr()
    assert set(json.loads(out)["error"]) == {"what", "todo"} and err == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Verb, "load", failing(KeyError("x")))
    assert command_line.run(["runs", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err and "AIPLAT_DEBUG" not in os.environ


def test_result_of_an_error_is_shown_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Verb, "load", failing(Refused("refused", "mend", result=Echo({"rule": "roc_auc >= 0.9"}))))
    assert command_line.run(["runs"]) == 3
    assert "roc_auc >= 0.9" in capsys.readouterr().out
    command_line.run(["runs", "--json"])
    assert json.loads(capsys.readouterr().out)["result"] == {"given": {"rule": "roc_auc >= 0.9"}}


@pytest.mark.usefixtures("echoing")
def test_flags_stand_anywhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for line in [
        "--json train x.csv",
        "train --json x.csv",
        "train x.csv --profile prod --json",
        "--profile=prod train x.csv --json",
    ]:
        assert command_line.run(line.split()) == 0
        assert json.loads(capsys.readouterr().out)["given"]["data"] == "x.csv"
    seen = []
    monkeypatch.setattr(Verb, "load", lambda self: lambda: seen.append(os.environ.get("AIPLAT_PROFILE")))
    command_line.run(["runs", "--profile", "prod"])
    assert seen == ["prod"] and "AIPLAT_PROFILE" not in os.environ
    assert command_line.run(["--", "--json"]) == 2


def test_in_a_process(tmp_path: Path) -> None:
    done = run_cli("promot", cwd=tmp_path, check=False)
    assert (
        done.returncode == 2
        and done.stdout == ""
        and done.stderr == "✗ there is no verb 'promot'\n→ did you mean 'promote'? (aiplat --help lists all)\n"
    )
    done = run_cli("runs", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "aiplat init" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(run_cli("--version", "--json", cwd=tmp_path).stdout) == {"version": aiplat.__version__}
    page = run_cli(cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    assert "\x1b" not in page and max(map(len, page.splitlines())) <= 80 and all(verb.name in page for verb in VERBS)


def test_closed_pipe_is_quiet(tmp_path: Path) -> None:
    line = f"{sys.executable} -m aiplat --help | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        assert done.stderr == "" and done.returncode in (0, 141)


def test_ctrl_c(tmp_path: Path) -> None:
    code = "import time; from aiplat.frontends import cli, verbs\n"
    code += "def wait():\n    'Wait.'\n    print('waiting', flush=True); time.sleep(60)\n"
    code += "verbs.Verb.load = lambda self: wait\nraise SystemExit(cli.main(['runs']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err.splitlines()[0] == "✗ interrupted" and len(err.splitlines()) == 2


def test_ascii_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiplat", "--help"], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0 and b"train" in done.stdout


# Magics -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(echoing: None) -> Iterator[Any]:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "aiplat")
    yield shell
    shell.run_line_magic("unload_ext", "aiplat")
    InteractiveShell.clear_instance()


def run(shell: Any, code: str) -> Any:
    done = shell.run_cell(code)
    done.raise_error()
    return done.result


def test_magic_returns_and_fails(shell: Any, table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.user_ns["people"] = table
    assert run(shell, "%aiplat train people --trials 5").given["data"] is table
    run(shell, "x = %aiplat train people --by sex,race")
    assert shell.user_ns["x"].given["by"] == ["sex", "race"]
    assert run(shell, "%aiplat train people.csv --json")["given"]["data"] == "people.csv"
    assert "data describe" in str(run(shell, "%aiplat")) and "Some names." in str(run(shell, "%aiplat train --help"))
    with pytest.raises(UsageError):
        run(shell, "%aiplat trian people")
    monkeypatch.setattr(Verb, "load", failing(KeyError("x")))
    with pytest.raises(UserError, match="unexpected: KeyError"):
        run(shell, "%aiplat runs")


def test_cell_magic(shell: Any) -> None:
    shell.user_ns["n"] = 5
    got = run(shell, "%%aiplat train x.csv --trials $n\nmodel = {n}  # $n stays")
    assert (
        got.given["cell"].strip() == "model = {n}  # $n stays"
        and got.given["namespace"] is shell.user_ns
        and got.given["trials"] == 5
    )
    with pytest.raises(UsageError, match="empty"):
        run(shell, "%%aiplat train x.csv\n\n")


def test_cell_for_a_verb_without_one(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verb, "load", lambda self: lambda: None)
    with pytest.raises(UsageError, match="takes no cell"):
        run(shell, "%%aiplat runs\n1 + 1")


def test_debug_lasts_until_the_next_line(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verb, "load", failing(KeyError("x")))
    with pytest.raises(UserError) as caught:
        run(shell, "%aiplat runs --debug")
    assert (
        any("KeyError" in line for line in caught.value._render_traceback_())
        and len(caught.value._render_traceback_()) > 2
    )
    with pytest.raises(UserError) as caught:
        run(shell, "%aiplat runs")
    assert len(caught.value._render_traceback_()) == 2


def test_papermill_reports_the_two_lines(tmp_path: Path) -> None:
    import nbformat
    import papermill

    cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext aiplat", "%aiplat trian people.csv")]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "p"}}),
        tmp_path / "in.ipynb",
    )
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), progress_bar=False, log_output=False
        )
    assert "there is no verb 'trian'" in str(caught.value) and "did you mean 'train'" in str(caught.value)
    (output,) = [
        o
        for c in nbformat.read(tmp_path / "out.ipynb", 4).cells
        for o in c.get("outputs", [])
        if o.output_type == "error"
    ]
    assert output.ename == "UsageError" and len(output.traceback) == 2


def test_flags_reader() -> None:
    given, rest = lines.flags(["-h", "train", "--", "--json"])
    assert given.help and rest == ["train", "--", "--json"] and not given.json
