"""A secret is found in nothing that is kept or shown: looked for byte by byte, in every file and in everything printed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from aiplat.core.errors import UserError
from aiplat.operations.kernels.redaction import Redactor
from aiplat.operations.kinds import literal, plain
from aiplat.operations.parameters import checked, declared
from aiplat.operations.secrets import look_up, secret

SECRET = "tr0ub4dor&3 'horse'/staple"
LONG = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhaXBsYXQifQ.c2lnbmF0dXJl"
CELLS = [
    "import aiplat, sys, os, subprocess, logging, warnings, json, html, base64, urllib.parse\nlong = aiplat.secret('LONG')",
    "print(token, long)\nprint([token], {'token': token}, json.dumps(long))",
    "token",
    "{'token': (token, long)}",
    "for letter in token: print(letter, end='', flush=True)",
    "for letter in long: sys.stderr.write(letter); sys.stderr.flush()",
    "half = len(token) // 2\nprint('a' + token[:half], end='', flush=True)\nprint(token[half:], flush=True)",
    "_ = subprocess.run(['echo', token, long])\nos.system('echo \"$COPY\"')",
    "_ = subprocess.run(['echo', token], stdout=sys.stdout, stderr=sys.stderr)",
    "os.write(1, token.encode()), os.write(2, long.encode())",
    "!echo {long}",
    "logging.warning(token); warnings.warn(long)",
    "print(html.escape(token), urllib.parse.quote(token, safe=''), base64.b64encode(long.encode()).decode())",
    "import pandas\npandas.DataFrame({'token': [token], 'long': [long]})",
    "from IPython.display import HTML, display\ndisplay(HTML(f'<b>{token}</b>')); h = display(1, display_id=True); h.update(long)",
    "import mlflow\nprint('mlflow', mlflow.__version__ != '')",
    "try: aiplat.output('token', token)\nexcept Exception as error: print(type(error).__name__)",
    "aiplat.output('fine', 1)",
    "raise ValueError(f'cannot reach postgresql://ana:{token}@db with {long}')",
]


def traces(*places: Path | str | bytes) -> list[str]:
    """Where a secret is, in one of the spellings that escaping gives it."""
    spelt = {
        text
        for value in (SECRET, LONG)
        for text in (value, quote(value, safe=""), repr(value)[1:-1], json.dumps(value)[1:-1])
    }
    spelt |= {base64.b64encode(value.encode()).decode().rstrip("=") for value in (SECRET, LONG)}
    spelt |= {LONG[:16], LONG[-16:], SECRET[:13], SECRET[13:]}
    found = []
    for place in places:
        files = [p for p in place.rglob("*") if p.is_file()] if isinstance(place, Path) else [place]
        for file in files:
            data = file.read_bytes() if isinstance(file, Path) else file.encode() if isinstance(file, str) else file
            found += [f"{str(file)[:200]}: {text}" for text in spelt if text.encode() in data]
    return found


def book(path: Path, *cells: str) -> Path:
    made = [new_code_cell("token: str = ''", metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)]
    nbformat.write(new_notebook(cells=made), path)
    return path


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "leak").write_text(f"x{SECRET}y")
    assert (
        traces(tmp_path)
        and traces(json.dumps(LONG))
        and traces(base64.b64encode(SECRET.encode()))
        and not traces("nothing")
    )


def test_a_secret_is_nowhere(ws) -> None:
    book(ws.root / "step.ipynb", *CELLS)
    environ = {**os.environ, "DB_PASSWORD": SECRET, "LONG": LONG, "COPY": SECRET}
    command = [
        sys.executable,
        "-m",
        "aiplat.frontends.cli",
        "pipeline",
        "run",
        "step.ipynb",
        "-p",
        "token",
        "secret:DB_PASSWORD",
        "--json",
    ]
    done = subprocess.run(command, cwd=ws.root, env=environ, capture_output=True, timeout=280)
    assert done.returncode == 1, (done.stdout, done.stderr)
    copies = [
        nbformat.read(file, 4)
        for file in ws.root.rglob("*.ipynb")
        if file.name != "step.ipynb" or ".aiplat" in file.parts
    ]
    assert copies, "there is no executed copy"
    said = json.dumps(copies, ensure_ascii=False)
    assert "cannot reach postgresql://ana:••••••@db with ••••••" in said, "the notebook did not come to its end"
    assert "secret('DB_PASSWORD')" in said and "secret:DB_PASSWORD" in said, "the name is kept"
    assert "UserError" in said and "mlflow True" in said
    assert not traces(ws.root, done.stdout, done.stderr), traces(ws.root, done.stdout, done.stderr)


def test_the_kernels_log_holds_none(tmp_path: Path) -> None:
    """Programs that write past Jupyter, in pieces, and after the kernel has been closed."""
    from tests.test_kernels import order, perform

    code = "import aiplat, os, subprocess, sys\ntoken = aiplat.secret('DB_PASSWORD')\nlog = sys.stderr.fileno()\n"
    code += "for letter in token: os.write(log, letter.encode())\n"
    code += "_ = subprocess.run(['sh', '-c', 'for i in 1 2 3; do echo \"$DB_PASSWORD\"; done'], stdout=log)\nos.write(log, b'fine')"
    answer = perform(order(tmp_path, code, environ={"DB_PASSWORD": SECRET}))
    assert answer.outcome == "done" and "fine" in answer.log and "••••••" in answer.log, answer
    assert not traces(tmp_path, answer.log, repr(answer))


# --- where they are looked up


def test_environment_file_keyring(ws, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no secret 'TOKEN'"):
        look_up("TOKEN")
    monkeypatch.setattr("keyring.get_password", lambda service, name: f"{service} {name} ring")
    assert look_up("TOKEN") == ("aiplat TOKEN ring", "the keyring")
    (ws.root / "hidden").mkdir()
    (ws.root / "hidden" / "TOKEN").write_text("from a file\n")
    monkeypatch.setenv("AIPLAT_SECRETS", str(ws.root / "hidden"))
    assert look_up("TOKEN")[0] == "from a file"
    monkeypatch.setenv("TOKEN", "from the environment")
    assert secret("TOKEN") == "from the environment"


@pytest.mark.parametrize("name", ["", "../TOKEN", "/etc/passwd", "a b", "1", ".TOKEN"])
def test_names_that_lead_elsewhere(ws, name: str) -> None:
    with pytest.raises(UserError, match="is not the name of a secret"):
        look_up(name)


def test_too_short_to_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN", "123")
    with pytest.raises(UserError, match="fewer than 4"):
        secret("PIN")


# --- as parameters


def test_a_parameter_holds_the_name_only() -> None:
    asked = declared("db_password: str = ''\nother: 'Secret' = 'secret:OTHER'\nlr = 0.1")
    values = checked(asked, [("db_password", "secret:DB_PASSWORD")])
    assert plain(values) == {"db_password": "secret:DB_PASSWORD", "other": "secret:OTHER"}
    assert literal(values["db_password"]) == "__import__(\"aiplat\").secret('DB_PASSWORD')"
    for name, value in (("db_password", "hunter2"), ("other", "hunter2"), ("lr", "secret:LR")):
        with pytest.raises(UserError):
            checked(asked, [(name, value)])


# --- redaction


@given(
    st.text(min_size=4, max_size=60),
    st.text(max_size=40),
    st.text(max_size=40),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_whole_or_in_pieces(value: str, before: str, after: str, first: int, second: int) -> None:
    redactor = Redactor()
    redactor.add(value)
    text = before + value + after
    assert value not in redactor.text(text) or value in "••••••"
    one, two = sorted((first % (len(text) + 1), second % (len(text) + 1)))
    pieces = [text[:one], text[one:two], text[two:]]
    said = "".join(redactor.feed("stdout", piece) for piece in pieces) + redactor.flush("stdout")
    assert value not in said or value in "••••••"


@given(st.lists(st.text("abcde ", max_size=12), max_size=12))
def test_what_is_no_secret_arrives_as_it_was(pieces: list[str]) -> None:
    redactor = Redactor()
    redactor.add("a secret of letters that never comes")
    assert "".join(redactor.feed("s", piece) for piece in pieces) + redactor.flush("s") == "".join(pieces)


def test_a_tokens_file_is_nobody_elses_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file gets its name, only its owner may read it; it is not given other rights for a moment first."""
    from aiplat.core.workspace import create
    from aiplat.release.serving.tokens import add

    create(tmp_path / "home", user="ana")
    named, replace = {}, Path.replace

    def seen(self: Path, target: Path) -> Path:
        named[Path(target).name] = self.stat().st_mode & 0o777
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    add("shop", out=str(tmp_path / "token"), home=tmp_path / "home")
    assert named["token"] == named["tokens.json"] == 0o600, named


def test_private_columns_are_read_in_one_way(tmp_path: Path) -> None:
    """With commas or on lines of their own; a name may hold spaces."""
    from aiplat.core.settings import load_settings

    (tmp_path / "settings.ini").write_text("[aiplat]\n[serving]\nprivate = ssn, full name,\n  card\n  ssn\n")
    assert load_settings(tmp_path).private == ("ssn", "full name", "card")
