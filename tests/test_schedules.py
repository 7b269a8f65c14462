"""Schedules: what a calendar means, and that every fire time happens once whatever happens to clocks, databases and processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from aiplat.core import ledger, workspace
from aiplat.core.errors import UserError
from aiplat.frontends import cli
from aiplat.operations.pipelines import tables
from aiplat.operations.schedules.book import Fire, Schedule, read_fires, read_schedule, services, store, table
from aiplat.operations.schedules.calendars import Calendar, cron, seconds_of_period, zone
from aiplat.operations.schedules.firing import decide
from tests import warm
from tests.conftest import run_cli
from tests.servers import Postgres, postgres, postgres_programs

pytestmark = [pytest.mark.timeout(900)]

CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
needs_faketime = pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed")


# --- calendars

NIGHTS = [
    # line, zone, from (local), hours, fires (local, with offset)
    ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", 24, ["03:00+0200"]),
    ("0 2 * * *", "Europe/Berlin", "2026-03-29T00:00", 24, ["03:00+0200"]),
    ("0,20,40 2 * * *", "Europe/Berlin", "2026-03-29T00:00", 24, ["03:00+0200"]),
    ("0 1-3 * * *", "Europe/Berlin", "2026-03-29T00:00", 24, ["01:00+0100", "03:00+0200"]),
    ("0 3 * * *", "Europe/Berlin", "2026-03-29T00:00", 24, ["03:00+0200"]),
    ("0 * * * *", "Europe/Berlin", "2026-03-29T00:00", 4, ["00:00+0100", "01:00+0100", "03:00+0200", "04:00+0200"]),
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00", 1.5, ["01:00+0100", "01:30+0100", "03:00+0200"]),
    ("*/30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", 24, []),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", 24, ["02:30+0200"]),
    ("0 2 * * *", "Europe/Berlin", "2026-10-25T00:00", 24, ["02:00+0200"]),
    ("0 3 * * *", "Europe/Berlin", "2026-10-25T00:00", 24, ["03:00+0100"]),
    ("0 * * * *", "Europe/Berlin", "2026-10-25T01:00", 4, ["01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100"]),
    ("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", 24, ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
    ("30 2 * * *", "America/New_York", "2026-03-08T00:00", 24, ["03:00-0400"]),
    ("30 1 * * *", "America/New_York", "2026-11-01T00:00", 24, ["01:30-0400"]),
    ("30 * * * *", "America/New_York", "2026-11-01T00:00", 4, ["00:30-0400", "01:30-0400", "01:30-0500", "02:30-0500"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00", 24, ["02:30+1100"]),
    ("45 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00", 24, ["02:45+1100"]),
    ("15 * * * *", "Australia/Lord_Howe", "2026-10-04T00:00", 4, ["00:15+1030", "01:15+1030", "03:15+1100", "04:15+1100"]),
    ("*/10 3 * * *", "Australia/Lord_Howe", "2026-10-04T00:00", 3, ["03:00+1100", "03:10+1100", "03:20+1100"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2027-04-04T00:00", 24, ["01:45+1100"]),
    ("45 * * * *", "Australia/Lord_Howe", "2027-04-04T01:00", 2, ["01:45+1100", "01:45+1030"]),
    ("0 0 * * *", "America/Santiago", "2026-09-05T12:00", 24, ["01:00-0300"]),  # midnight itself does not exist
    ("30 2 * * *", "UTC", "2026-03-29T00:00", 24, ["02:30+0000"]),
    ("0 2 * * 1-5", "UTC", "2026-03-27T00:00", 96, ["02:00+0000", "02:00+0000"]),  # Friday and Monday
    ("0 2 L * *", "UTC", "2028-02-27T00:00", 96, ["02:00+0000"]),
    ("0 2 * * MON#2", "UTC", "2026-03-01T00:00", 24 * 31, ["02:00+0000"]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "tz", "start", "hours", "wanted"), NIGHTS)
def test_nights_on_which_clocks_change(line: str, tz: str, start: str, hours: float, wanted: list[str]) -> None:
    begin = datetime.fromisoformat(start).replace(tzinfo=zone(tz)).astimezone(UTC)
    found = [at.astimezone(zone(tz)) for at in Calendar(cron(line), tz).between(begin, begin + timedelta(hours=hours))]
    assert [at.strftime("%H:%M%z") for at in found] == wanted
    assert found == sorted(found, key=datetime.timestamp)


FIELD = st.one_of(
    st.just("*"), st.builds("*/{}".format, st.sampled_from([2, 5, 7, 13, 20])), st.integers(0, 23).map(str),
    st.builds("{},{}".format, st.integers(0, 11), st.integers(12, 23)), st.builds("{}-{}".format, st.integers(0, 5), st.integers(6, 23)),
)  # fmt: skip
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00+00:00"), ("Europe/Berlin", "2026-10-25T01:00+00:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30+00:00"), ("Australia/Lord_Howe", "2027-04-03T15:00+00:00"),
    ("America/New_York", "2026-11-01T06:00+00:00"), ("UTC", "2026-03-29T01:00+00:00"),
]  # fmt: skip


@given(FIELD, FIELD, st.sampled_from(CHANGES))
@settings(max_examples=60, deadline=None)
def test_a_calendar_says_what_a_clock_on_the_wall_would(minute: str, hour: str, change: tuple[str, str]) -> None:
    """Against a walk through every minute of the night, as cron's daemon walks."""
    where, at = zone(change[0]), datetime.fromisoformat(change[1])
    plain = Calendar(f"{minute} {hour} * * *", "UTC")
    wall: Callable[[datetime], datetime] = lambda each: each.astimezone(where).replace(tzinfo=UTC)  # noqa: E731
    walk = [at + timedelta(minutes=n) for n in range(-300, 300)]
    named = set(plain.between(wall(walk[0]) - timedelta(hours=2), wall(walk[-1]) + timedelta(hours=2)))
    if minute.startswith("*") or hour.startswith("*"):
        wanted = [n for n in walk if wall(n) in named]
    else:
        wanted, shown = [], wall(walk[0]) - timedelta(minutes=1)  # the newest time that the wall has shown
        for n in walk:
            wanted += [n] if any(shown < each <= wall(n) for each in named) else []
            shown = max(shown, wall(n))
    found = list(Calendar(f"{minute} {hour} * * *", change[0]).between(walk[0], walk[-1] + timedelta(minutes=1)))
    assert found == wanted
    for before, after in itertools.pairwise(found):
        assert Calendar(f"{minute} {hour} * * *", change[0]).previous(after) == before


@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(st.text("0123456789*/,-#LWabcdMONFRIJAN", max_size=6), min_size=5, max_size=5).map(" ".join),
    )
)
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_line_of_cron_or_two_lines_that_say_why_not(text: str) -> None:
    try:
        spec = cron(text)
    except UserError as error:
        assert error.what and error.todo
        return
    calendar = Calendar(spec, "Europe/Berlin")
    at = calendar.next(datetime(2026, 1, 1, tzinfo=UTC))
    assert at > datetime(2026, 1, 1, tzinfo=UTC) and calendar.words()


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 4 */2"])
def test_what_never_comes_is_refused(line: str) -> None:
    with pytest.raises(UserError, match="never comes true"):
        cron(line)


@given(st.integers(1, 400_000), st.floats(0, 4e6), st.integers(0, 2**31))
@settings(deadline=None)
def test_a_period_does_not_drift(period: int, passed: float, anchor: int) -> None:
    calendar = Calendar(str(period), anchor=datetime.fromtimestamp(anchor, UTC))
    now = datetime.fromtimestamp(anchor + passed, UTC)
    following = calendar.next(now)
    assert (
        0 < (following.timestamp() - int(anchor + passed)) <= period and (following.timestamp() - anchor) % period == 0
    )


@pytest.mark.parametrize("text", ["", "0m", "1x", "h", "-5m", "1.5h", "400d", "m15"])
def test_wrong_periods_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        seconds_of_period(text)


# --- deciding


def scheduled(name: str = "s", period: int = 60, first: float = 1_800_000_000.0, **values: Any) -> Schedule:
    whole = {
        "pipeline": "p", "file": "p.ipynb", "kind": "every", "spec": str(period), "tz": "UTC", "anchor": first - period,
        "parameters": {}, "missed": "latest", "overlap": "queue", "grace": 60.0, "paused": None, "next_fire": first,
        "last_fire": None, "cursor": "", "created": first - period, "actor": "ana",
    }  # fmt: skip
    return Schedule(name=name, **whole | values)


@given(
    st.sampled_from(["latest", "all", "drop"]),
    st.lists(st.floats(-4000, 9000), min_size=1, max_size=30),
    st.integers(5, 700),
)
@settings(max_examples=60, deadline=None)
def test_however_the_clock_jumps_a_fire_time_comes_once_and_in_order(
    missed: str, jumps: list[float], period: int
) -> None:
    schedule, now, fired, first = scheduled(period=period, missed=missed), 1_800_000_000.0, [], 1_800_000_000.0
    for jump in jumps:
        now += jump
        while schedule.next_fire is not None and schedule.next_fire <= now:
            what = decide(schedule, now)
            assert what.next_fire > schedule.next_fire
            fired += [] if what.fire is None else [what.fire]
            assert what.fire is None or what.fire <= now
            schedule = Schedule(**vars(schedule) | {"next_fire": what.next_fire})
    assert fired == sorted(set(fired)) and all((at - first) % period == 0 for at in fired)
    if missed == "all" and fired:
        assert fired == [first + period * n for n in range(len(fired))]


# --- processes


def notebook(ws: workspace.Workspace, name: str = "step", *cells: str) -> Path:
    made = [new_code_cell(cell) for cell in ("day = ''", *cells)]
    made[0].metadata["tags"] = ["parameters"]
    path = ws.root / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=made), path)
    return path


def put(ws: workspace.Workspace, *schedules: Schedule) -> None:
    with store(ws).begin() as connection:
        for each in schedules:
            connection.execute(table("schedules").insert().values(**vars(each)))


class Server:
    """A scheduler in a process of its own."""

    def __init__(self, ws: workspace.Workspace, *args: str, env: dict[str, str] | None = None):
        self.ws = ws
        self.log = ws.root / f"out-{time.monotonic_ns()}.txt"
        with self.log.open("w") as out:
            self.process = warm.begin(
                ["scheduler", "run", *args], ws.root, {**os.environ, **(env or {})}, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )  # fmt: skip

    def __enter__(self) -> Server:
        here = lambda: any(each.pid == self.process.pid for each in services(self.ws))  # noqa: E731
        try:
            until(lambda: here() or self.process.poll() is not None, self.said)
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def said(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(60)


def until(holds: Callable[[], Any], about: Callable[[], object] = str, seconds: float = 90) -> None:
    """Return when it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s for nothing: {about()}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if postgres_programs() is None:
        pytest.skip("PostgreSQL's server is not installed")
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def team(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> workspace.Workspace:
    """A workspace whose store is a file, then a server."""
    monkeypatch.chdir(tmp_path)
    values = {"user": "ana"}
    if request.param == "postgresql":
        url = request.getfixturevalue("server").create(f"s{time.monotonic_ns()}")
        monkeypatch.setenv("AIPLAT_STORE", url)
    return workspace.create(tmp_path, **values)


def exactly_once(ws: workspace.Workspace, period: float = 1.0) -> list[Fire]:
    """Every fire time from the first to the last of each schedule: there, once, with one run."""
    fires = read_fires(ws, limit=100_000)
    runs = tables.read_runs(ws, limit=100_000)
    by = Counter((run.schedule, run.fire_time) for run in runs)
    assert by == Counter((fire.schedule, fire.fire_time) for fire in fires), (
        "a fire without its run, or a run without its fire"
    )
    for name in {fire.schedule for fire in fires}:
        times = sorted(fire.fire_time for fire in fires if fire.schedule == name)
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert set(gaps) <= {period}, f"{name}: fire times lost or doubled: {gaps}"
    assert ledger.breaks(ws) == []
    return fires


@pytest.mark.parametrize("number", [2, 4])
def test_several_schedulers_fire_every_time_once_though_one_is_killed(team: workspace.Workspace, number: int) -> None:
    book, begin, chance = notebook(team), float(int(time.time())) + 2, random.Random(number)
    put(team, *(scheduled(f"s{n}", 1, begin, file=str(book)) for n in range(12)))
    with contextlib.ExitStack() as running:
        servers = [running.enter_context(Server(team, "--runs", "0")) for _ in range(number)]
        kills = 40 if CAMPAIGN else 2
        for _ in range(kills):
            before = len(read_fires(team, limit=100_000))
            until(lambda before=before: len(read_fires(team, limit=100_000)) > before, servers[0].said)
            time.sleep(chance.random() / 2)  # any moment: there is nothing to wait for
            unlucky = chance.randrange(number)
            servers[unlucky].kill()
            servers[unlucky] = running.enter_context(Server(team, "--runs", "0"))
        until(lambda: len(read_fires(team, limit=100_000)) >= 12 * (kills + 5))
        assert [each.stop() for each in servers] == [0] * number
    fires = exactly_once(team)
    assert len({fire.schedule for fire in fires}) == 12 and services(team) == []
    assert min(fire.fire_time for fire in fires) == begin


def test_a_database_that_is_locked_is_waited_for(ws) -> None:
    book, begin = notebook(ws), float(int(time.time())) + 1
    put(ws, *(scheduled(f"s{n}", 1, begin, file=str(book)) for n in range(3)))
    with Server(ws, "--runs", "0") as running:
        until(lambda: read_fires(ws), running.said)
        with contextlib.closing(sqlite3.connect(ws.path("ledger.db"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held = len(read_fires(ws, limit=1000))
            time.sleep(60 if CAMPAIGN else 4)  # how long somebody else needs the database
            assert len(read_fires(ws, limit=1000)) == held
            other.execute("ROLLBACK")
        until(lambda: len(read_fires(ws, limit=1000)) > held + 12, running.said)
        assert running.stop() == 0
        assert running.said().count("waiting:") == (1 if CAMPAIGN else 0), running.said()
    exactly_once(ws)


def test_a_server_that_drops_its_connections_is_waited_for(server: Postgres, tmp_path: Path, monkeypatch) -> None:
    import psycopg

    monkeypatch.setenv("AIPLAT_STORE", server.create("dropped"))
    monkeypatch.chdir(tmp_path)
    ws = workspace.create(tmp_path, user="ana")
    book, begin = notebook(ws), float(int(time.time())) + 1
    put(ws, *(scheduled(f"s{n}", 1, begin, file=str(book)) for n in range(3)))
    with Server(ws, "--runs", "0") as running, psycopg.connect(server.url(), autocommit=True) as other:
        for _ in range(6):
            before = len(read_fires(ws, limit=1000))
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dropped'")
            until(lambda before=before: len(read_fires(ws, limit=1000)) > before, running.said)
        assert running.stop() == 0
    exactly_once(ws)


# --- clocks


class Clock:
    """The clock of another process, which is put where a test wants it."""

    def __init__(self, folder: Path):
        self.file = folder / "clock.rc"

    def put(self, text: str) -> None:
        draft = self.file.with_suffix(".new")
        draft.write_text(f"@{text}\n")
        draft.replace(self.file)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "TZ": "UTC",
        }  # fmt: skip


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _fired(ws: workspace.Workspace, name: str) -> list[str]:
    times = sorted(fire.fire_time for fire in read_fires(ws, name, 1000) if fire.state == "queued")
    return [datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at in times]


@needs_faketime
def test_the_two_nights_of_the_year_with_a_real_clock(ws) -> None:
    """Berlin: spring's gap (01:00 UTC) and autumn's hour that comes twice (00:00 to 02:00 UTC), with two schedulers."""
    book, clock = str(notebook(ws)), Clock(ws.root)
    berlin = {"kind": "cron", "tz": "Europe/Berlin", "anchor": None, "file": book}
    spring, autumn = _at("2026-03-29T01:00:00"), _at("2026-10-25T00:30:00")
    put(
        ws,
        scheduled("gap", spec="30 2 * * *", **berlin | {"next_fire": spring}),
        scheduled("twice", spec="30 2 * * *", **berlin | {"next_fire": autumn}),
        scheduled("passing", spec="*/30 * * * *", **berlin | {"next_fire": autumn}),
    )
    clock.put("2026-03-29 00:59:58")
    with (
        Server(ws, "--runs", "0", env=clock.environment()) as first,
        Server(ws, "--runs", "0", env=clock.environment()) as second,
    ):
        until(lambda: _fired(ws, "gap") == ["01:00"], first.said)
        assert read_schedule(ws, "gap").next_fire == _at("2026-03-30T00:30:00")
        with store(ws).begin() as connection:
            connection.execute(table("schedules").delete().where(table("schedules").c.name == "gap"))
        for number, at in enumerate(("00:29:58", "00:59:58", "01:29:58"), 1):
            clock.put(f"2026-10-25 {at}")
            until(lambda number=number: len(_fired(ws, "passing")) == number, first.said)
        assert [first.stop(), second.stop()] == [0, 0]
    assert _fired(ws, "passing") == ["00:30", "01:00", "01:30"]  # 02:30, 02:00 again, 02:30 again
    assert _fired(ws, "twice") == ["00:30"] and read_schedule(ws, "twice").next_fire == _at("2026-10-26T01:30:00")


@needs_faketime
def test_a_clock_that_jumps(ws) -> None:
    book, clock = str(notebook(ws)), Clock(ws.root)
    noon = _at("2026-11-20T12:00:00")
    policies = ("latest", "all", "drop")
    put(ws, *(scheduled(missed, 3600, noon, missed=missed, file=book) for missed in policies))
    clock.put("2026-11-20 11:59:58")
    with Server(ws, "--runs", "0", env=clock.environment()) as running:
        until(lambda: all(_fired(ws, name) == ["12:00"] for name in policies), running.said)
        clock.put("2026-11-20 11:00:00")  # back: noon is to come once more
        clock.put("2026-11-20 11:59:58")
        put(ws, scheduled("again", 3600, noon + 1, file=book))  # when this has fired, noon has come twice
        until(lambda: _fired(ws, "again") == ["12:00"], running.said)
        assert all(_fired(ws, name) == ["12:00"] for name in policies)
        clock.put("2026-11-20 15:20:00")  # forward: three fire times that nobody was there for
        until(lambda: _fired(ws, "all") == ["12:00", "13:00", "14:00", "15:00"], running.said)
        until(
            lambda: all(read_schedule(ws, name).next_fire == _at("2026-11-20T16:00:00") for name in policies),
            running.said,
        )
        clock.put("2026-11-20 15:59:58")
        until(lambda: all(_fired(ws, name)[-1] == "16:00" for name in policies), running.said)
        assert running.stop() == 0
    assert _fired(ws, "latest") == ["12:00", "15:00", "16:00"] and _fired(ws, "drop") == ["12:00", "16:00"]
    reasons = {fire.schedule: fire.reason for fire in read_fires(ws, limit=100) if "missed" in fire.reason}
    assert "2 fire times missed" in reasons["latest"] and "3 fire times missed" in reasons["drop"]


# --- verbs


@pytest.fixture
def say(ws, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A line of the command line in this process: its JSON, or the two lines on the standard error of one that is refused."""

    def call(*args: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert cli.main([*args, *([] if code else ["--json"])]) == code
        said = capsys.readouterr()
        if not code:
            return json.loads(said.out)
        lines = said.err.splitlines()
        assert len(lines) == 2 and lines[0].startswith("✗ ") and lines[1].startswith("→ "), said.err
        return said.err

    return call


def test_a_schedule_from_the_command_line(ws, say) -> None:
    notebook(ws)
    made = say("schedule", "add", "step.ipynb", "--cron", "0 2 * * 1-5", "--tz", "Europe/Berlin", "-p", "day", "monday")
    assert (
        made["name"] == "step"
        and made["when"] == "at 02:00, Monday to Friday, Europe/Berlin"
        and len(made["next"]) == 3
    )
    assert all(re.search(r" 02:00 \+0[12]00$", at) for at in made["next"])
    add = ("schedule", "add", "step.ipynb")
    assert "there is a schedule 'step' already" in say(*add, "--every", "1h", code=1)
    assert "cannot be '61'" in say(*add, "--name", "b", "--cron", "61 * * * *", code=1)
    assert "no parameter 'dya'" in say(*add, "--name", "b", "--every", "1h", "-p", "dya", "1", code=1)
    assert "never comes true" in say(*add, "--name", "b", "--cron", "0 0 30 2 *", code=1)
    assert "no time zone" in say(*add, "--name", "b", "--cron", "@daily", "--tz", "Berlin", code=1)
    assert "nothing says when" in say(*add, "--name", "b", code=2)
    assert "did you mean 'step'" in say("schedule", "pause", "stpe", code=1)
    assert [each["name"] for each in say("schedule", "list")["schedules"]] == ["step"]
    say("schedule", "pause", "step")
    (row,) = say("schedule", "list")["schedules"]
    assert row["paused"] and row["next"] is None
    say("schedule", "resume", "step")
    run = say("schedule", "trigger", "step")["run"]
    (fire,) = say("schedule", "history", "step")["fires"]
    assert (fire["run"], fire["state"], fire["reason"]) == (run, "queued", "triggered by ana")
    assert len(say("schedule", "next", "--count", "4")["fires"]) == 4
    assert run[:8] in say("schedule", "remove", "step")["notes"][0]
    assert say("schedule", "list")["schedules"] == []
    done = [entry.body["change"] for entry in ledger.entries(ws, action="schedule", phase="intent")]
    assert done == ["add", "pause", "resume", "trigger", "remove"] and ledger.unfinished(ws) == []


def test_a_backfill_queues_what_has_not_succeeded(ws, say) -> None:
    notebook(ws)
    say("schedule", "add", "step.ipynb", "--cron", "0 2 * * *", "--tz", "Europe/Berlin")
    ask = ("backfill", "step", "2026-10-24", "2026-10-27")
    first = say(*ask)
    nights = ["2026-10-24T02:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-26T02:00:00+01:00"]
    assert [each["at"] for each in first["runs"]] == nights
    runs, wanted = tables.runs_table(), [each["run"] for each in first["runs"]]
    for run, state in zip(wanted, ("done", "failed", "queued"), strict=True):
        with store(ws).begin() as connection:
            connection.execute(runs.update().where(runs.c.id == run).values(state=state))
    assert [each["new"] for each in say(*ask)["runs"]] == [False, True, False]
    assert [each["new"] for each in say(*ask, "--again")["runs"]] == [True, False, False]
    assert tables.read_run(ws, wanted[1]).moment["start"] == "2026-10-24T02:00:00+02:00"
    assert "is not a date" in say("backfill", "step", "soon", "2026-10-27", code=1)


def test_new_data_under_a_name_starts_a_run(ws, say) -> None:
    notebook(ws)
    keep = ("data", "snapshot", "--name", "applications")
    say(*keep, "sample:credit?rows=100")
    say("schedule", "add", "step.ipynb", "--on", "data:applications")
    with Server(ws, "--runs", "0") as running:
        say(*keep, "sample:credit?rows=100")  # nothing new
        kept = say(*keep, "sample:credit?rows=200")
        until(lambda: read_fires(ws), running.said)
        assert running.stop() == 0
    (run,) = tables.read_runs(ws)
    assert run.cause == "data" and run.options["data"]["digest"] == kept["digest"]


def test_an_alert_starts_a_run_and_only_a_new_one(ws, say) -> None:
    from aiplat.operations import alerts

    notebook(ws)
    before = alerts.raise_alert(ws, "drift", "before there was a schedule", {})
    say("schedule", "add", "step.ipynb", "--on", "alert:drift")
    with Server(ws, "--runs", "0") as running:
        say("alerts", "close", before)
        alerts.raise_alert(ws, "drift", "income has moved", {"column": "income"})
        until(lambda: read_fires(ws), running.said)
        assert running.stop() == 0
    (run,) = tables.read_runs(ws)
    assert run.cause == "alert" and run.options["alert"]["parameters"] == {"column": "income"}


def test_overlap_is_skipped_queued_or_cancels_the_older(ws) -> None:
    book, now = str(notebook(ws)), float(int(time.time()))
    put(ws, *(scheduled(each, 1, now, overlap=each, file=book) for each in ("skip", "queue", "cancel")))
    with Server(ws, "--runs", "0") as running:
        until(lambda: len(read_fires(ws, limit=1000)) >= 12, running.said)
        assert running.stop() == 0
    states = {
        name: Counter(run.state for run in tables.read_runs(ws, schedule=name)) for name in ("skip", "queue", "cancel")
    }
    fires = {name: Counter(fire.state for fire in read_fires(ws, name)) for name in states}
    assert states["skip"] == {"queued": 1} and fires["skip"]["skipped"] >= 3
    assert set(states["queue"]) == {"queued"} and states["queue"]["queued"] >= 4
    assert states["cancel"]["queued"] == 1 and states["cancel"]["cancelled"] >= 3
    assert all("is still queued" in fire.reason for fire in read_fires(ws, "skip") if fire.state == "skipped")


# --- whole runs

WRITES = "import os, time\nwith open('ran.txt', 'a') as f: f.write(day + ' ' + str(os.getpid()) + '\\n')"


def ended(ws: workspace.Workspace, number: int) -> bool:
    runs = tables.read_runs(ws)
    return len(runs) == number and all(run.state in tables.ENDED for run in runs)


def test_a_fire_is_driven_to_its_end(ws) -> None:
    book, now = notebook(ws, "step", WRITES), float(int(time.time()))
    put(ws, scheduled("s", 3600, now - 5, file=str(book), parameters={"day": "friday"}, actor="olga"))
    done = run_cli("scheduler", "run", "--runs", "1", "--once", cwd=ws.root)
    (run,) = tables.read_runs(ws)
    assert run.actor == "olga" and run.options["fired_by"].endswith(f" as {ws.user}"), "who wanted it, and who fired it"
    assert tables.read_run(ws, run.mlflow_run[:12]).id == run.id != run.mlflow_run, "as a model's run names it"
    tags = ws.client().get_run(run.mlflow_run).data.tags
    assert (tags["aiplat.schedule"], tags["aiplat.owner"]) == ("s", "olga")
    (intent,) = [each for each in ledger.entries(ws) if each.action == "pipeline" and each.phase == "intent"]
    assert intent.body["owner"] == "olga" and intent.body["fired_by"] == run.options["fired_by"]
    assert run.state == "done", done.stdout
    assert (ws.root / "ran.txt").read_text().startswith("friday ") and "driver" in done.stdout


def test_drivers_outlive_a_scheduler_that_is_killed(ws) -> None:
    """The scheduler is killed while a run goes: it ends by itself, and the next scheduler neither doubles nor loses anything."""
    wait = "while not os.path.exists('go'): time.sleep(0.05)"
    book, now = notebook(ws, "step", WRITES, wait), float(int(time.time()))
    put(ws, scheduled("s", 3600, now - 5, file=str(book), parameters={"day": "one"}))
    first = Server(ws, "--runs", "1")
    until(lambda: (ws.root / "ran.txt").exists(), first.said)
    first.kill()
    with Server(ws, "--runs", "1") as second:
        assert [run.state for run in tables.read_runs(ws)] == ["running"]
        (ws.root / "go").touch()
        until(lambda: ended(ws, 1), second.said)
        assert second.stop() == 0
    assert tables.read_runs(ws)[0].state == "done" and len((ws.root / "ran.txt").read_text().splitlines()) == 1


def test_a_run_whose_driver_is_killed_is_taken_up_again(ws) -> None:
    """A step that may be retried runs again; without that the run fails, truly, and may be resumed."""
    pipelines = ws.root / "pipelines"
    pipelines.mkdir()
    wait = "while os.path.exists('stay'): time.sleep(0.05)"
    notebook(ws, "step", WRITES, wait)
    (pipelines / "again.toml").write_text(
        '[steps.one]\nnotebook = "../step.ipynb"\nretries = 2\nbackoff = "1s"\ncache = false\n'
    )
    (ws.root / "stay").touch()
    put(ws, scheduled("s", 3600, float(int(time.time())) - 5, pipeline="again", file=str(pipelines / "again.toml")))
    with Server(ws, "--runs", "1") as running:
        ran = ws.root / "ran.txt"
        until(lambda: ran.exists() and ran.read_text().endswith("\n"), running.said)  # not only opened
        (run,) = tables.read_runs(ws)
        assert run.driver is not None
        os.kill(run.driver["pid"], signal.SIGKILL)
        (ws.root / "stay").unlink()
        until(lambda: ended(ws, 1), running.said)
        assert running.stop() == 0
        assert "taken up again" in running.said()
    assert tables.read_runs(ws)[0].state == "done" and len((ws.root / "ran.txt").read_text().splitlines()) == 2
