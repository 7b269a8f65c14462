"""Settings from strangers, and many processes on one workspace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiplat.core import ledger, workspace
from aiplat.core.errors import UserError
from aiplat.core.settings import GATE_KEYS, KEYS, load_settings, settings_text
from tests import warm

anything = st.text(st.characters(codec="utf-8"), max_size=40)
names = st.one_of(st.sampled_from([*KEYS, *GATE_KEYS, "risk"]), anything)
sections = st.one_of(
    st.sampled_from(["aiplat", "roles", "models", "gate:production", "profile:prod", "gate:"]), anything
)
lines = st.one_of(
    st.builds("[{}]".format, sections),
    st.builds("{} = {}".format, names, anything),
    st.builds("{}: {}".format, names, anything),
    anything,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=12))
def test_any_settings_file_is_read_or_refused_in_two_lines(tmp_path: Path, content: list[str]) -> None:
    (tmp_path / "settings.ini").write_text("[aiplat]\n" + "\n".join(content), encoding="utf-8")
    try:
        found = load_settings(tmp_path, environ={"USER": "ana", "LOGNAME": "ana"})
    except UserError as error:
        assert len(error._render_traceback_()) == 2 and "settings.ini" in error.what
    else:
        assert found.tracking and found.workers >= 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(sorted(set(KEYS) - {"workers"})), st.from_regex(r"[a-z0-9:/._@-]{1,30}", fullmatch=True)
    )
)
def test_what_is_written_is_what_is_read(tmp_path: Path, values: dict[str, str]) -> None:
    (tmp_path / "settings.ini").write_text(settings_text(values))
    found = load_settings(tmp_path, environ={"LOGNAME": "ana"})
    assert all(getattr(found, key) == value for key, value in values.items())


def test_a_password_comes_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "settings.ini").write_text("[aiplat]\nstore = postgresql://aiplat:${PW}@db/aiplat\n")
    assert load_settings(tmp_path, environ={"PW": "x", "LOGNAME": "a"}).store == "postgresql://aiplat:x@db/aiplat"
    with pytest.raises(UserError, match=r"line 2.*PW"):
        load_settings(tmp_path, environ={"LOGNAME": "a"})


def _together(code: str, count: int, cwd: Path) -> list[str]:
    """Run the code in several processes at once; what each printed."""
    running = [
        warm.begin(["-c", code, str(i)], cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(count)
    ]
    out = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count, "\n".join(out)
    return out


def test_six_processes_open_a_new_workspace_at_once(tmp_path: Path) -> None:
    """The tables of MLflow and of the ledger are made once; every process then writes to both."""
    (tmp_path / "settings.ini").write_text(settings_text())
    out = _together(
        "from aiplat.core import ledger\n"
        "from aiplat.core.workspace import workspace\n"
        "ws = workspace()\n"
        "run = ws.client().create_run(ws.experiment_id())\n"
        "ledger.append(ws, 'train', f'run:{run.info.run_id}')\n"
        "print(ws.experiment_id())",
        6,
        tmp_path,
    )
    ws = workspace.workspace(tmp_path)
    assert len({line.strip().splitlines()[-1] for line in out}) == 1
    assert len(ledger.entries(ws)) == 6 and ledger.breaks(ws) == []
    assert len(ws.client().search_runs([ws.experiment_id()])) == 6


def test_many_writers_and_readers_keep_the_chain(ws) -> None:
    """Four processes add entries while two read: none is lost, none is out of order, no reader sees a broken chain."""
    code = (
        "import sys\n"
        "from aiplat.core import ledger\n"
        "from aiplat.core.workspace import workspace\n"
        "ws = workspace()\n"
        "for i in range(40):\n"
        "    if int(sys.argv[1]) < 4:\n"
        "        ledger.append(ws, 'snapshot', f'data:{sys.argv[1]}-{i}')\n"
        "    else:\n"
        "        assert ledger.breaks(ws) == []\n"
    )
    _together(code, 6, ws.root)
    found = ledger.entries(ws)
    assert [entry.seq for entry in found] == list(range(1, 161)) and ledger.breaks(ws) == []
    assert len({entry.subject for entry in found}) == 160


def test_only_one_of_many_changes_at_a_time(ws) -> None:
    """What happens between intent and outcome of one subject is never interleaved."""
    code = (
        "import time\n"
        "from aiplat.core import ledger\n"
        "from aiplat.core.workspace import workspace\n"
        "for _ in range(5):\n"
        "    with ledger.change(workspace(), 'promote', 'alias:credit@production', timeout=60):\n"
        "        time.sleep(0.01)\n"
    )
    _together(code, 4, ws.root)
    assert [entry.phase for entry in ledger.entries(ws)] == ["intent", "done"] * 20


def test_a_full_disk_loses_nothing(ws) -> None:
    """A process that may not write any further byte gets two lines; the ledger stays as it was."""
    ledger.append(ws, "snapshot", "data:1")
    code = (
        "import resource, signal\n"
        "from aiplat.core import ledger\n"
        "from aiplat.core.workspace import workspace\n"
        "from aiplat.core.errors import UserError\n"
        "ws = workspace(); ledger.entries(ws)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    ledger.append(ws, 'snapshot', 'data:2', {'x': 'y' * 100_000})\n"
        "except UserError as error:\n"
        "    print(error.what)\n"
    )
    (out,) = _together(code, 1, ws.root)
    assert "cannot be written" in out
    assert [entry.subject for entry in ledger.entries(ws)] == ["data:1"] and ledger.breaks(ws) == []
    assert ledger.append(ws, "snapshot", "data:3").seq == 2
