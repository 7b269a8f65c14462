"""Exported schedules, before the judges that decide about them: systemd, cron, sh, the schemas of GitHub and Kubernetes, and Airflow itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from cronsim import CronSim
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiplat.core.errors import UserError
from aiplat.operations.schedules import book
from aiplat.operations.schedules.calendars import Calendar
from aiplat.operations.schedules.dialects import fields, five, of_period, on_calendar
from aiplat.operations.schedules.exports import export
from aiplat.operations.schedules.jobs import job
from aiplat.operations.schedules.machines import cron_files, systemd_files
from aiplat.operations.schedules.platforms import airflow_file, github_file, kubernetes_file

NOW = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
HOSTILE = {
    "quotes": 'it\'s "quoted" `reboot` $(reboot) ${HOME} $$',
    "lines": "a\nb\r\n* * * * * reboot # %",
    "marks": "${{ secrets.KEY }} {{ ds }} {% raw %} {0} %i %% $(AIPLAT_HOME)",
    "python": "'''\"\"\"\\",
    "nobody": "\u2028\x1b[31m é 日本",
    "list": ["a b", "c"],
    "number": -1.5,
    "nothing": "",
}


def needs(program: str) -> Any:
    """Skip, in one line, where a program of Debian is absent."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program} on this machine")


def schedule(spec: str = "0 2 * * 1-5", **more: Any) -> book.Schedule:
    known: dict[str, Any] = {
        "name": "nightly", "pipeline": "nightly", "file": "/srv/credit/pipelines/nightly.toml", "kind": "cron", "spec": spec,
        "tz": "UTC", "anchor": None, "parameters": {}, "missed": "latest", "overlap": "skip", "grace": 60.0, "paused": None,
        "next_fire": None, "last_fire": None, "cursor": "", "created": 0.0, "actor": "ana",
    }  # fmt: skip
    return book.Schedule(**{**known, **more})


def every(seconds: int, **more: Any) -> book.Schedule:
    return schedule(str(seconds), kind="every", anchor=NOW.timestamp() + 23, **more)


WS: Any = types.SimpleNamespace(root=Path("/srv/credit"), settings=types.SimpleNamespace(profile=None))


# ---- the same fire times, by systemd's own reckoning


def _elapses(lines: list[str], count: int, start: datetime) -> list[datetime]:
    found: set[datetime] = set()
    for line in lines:
        done = subprocess.run(
            ["systemd-analyze", "calendar", f"--iterations={count}", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC", line],
            capture_output=True, text=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stderr)
        for text in re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", done.stdout):
            found.add(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC))
    return sorted(found)[:count]


SPECS = [
    "0 2 * * 1-5", "*/15 9-17 * * MON-FRI", "5/20 0 1-3,7 JAN,FEB *", "0 0 13 * FRI", "30 6 L * *", "0 0 * * FRI#2", "0 0 * * 1L",
    "0 0 */2 * 1", "0 0 1-31 * 1", "0 12 31 * *", "0 0 29 2 *", "59 23 * 12 0", "0 0 * * 7", "0 0 L * 3", "15 4 1,L 3,6 *", "0 0 * * 2#5",
]  # fmt: skip


@needs("systemd-analyze")
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("tz", ["UTC", "America/New_York"])
def test_systemd_elapses_when_we_fire(spec: str, tz: str) -> None:
    ours = islice(Calendar(spec, tz).between(NOW, NOW + timedelta(days=20000)), 12)
    assert _elapses(on_calendar(fields(spec), tz), 12, NOW - timedelta(seconds=1)) == list(ours)


@needs("systemd-analyze")
@pytest.mark.parametrize("seconds", [60, 900, 1200, 3600, 5400, 6 * 3600, 86400, 7 * 86400])
def test_systemd_elapses_with_periods(seconds: int) -> None:
    made = job(WS, every(seconds))
    lines = [line for each in made.crons for line in on_calendar(each, "UTC")]
    start = NOW + timedelta(minutes=1)
    assert _elapses(lines, 10, start - timedelta(seconds=1)) == made.fires(10, start)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    one = st.one_of(number.map(str), span, st.integers(2, 9).map(lambda step: f"*/{step}"))
    return st.one_of(st.just("*"), one, st.lists(one, min_size=2, max_size=3).map(",".join))


LINES = st.tuples(_field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(0, 7)).map(" ".join)


@needs("systemd-analyze")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(LINES)
def test_any_line_of_cron_means_the_same_to_systemd(spec: str) -> None:
    ours = list(islice(Calendar(spec).between(NOW, NOW + timedelta(days=4000)), 6))
    assert _elapses(on_calendar(fields(spec), "UTC"), 6, NOW - timedelta(seconds=1)) == ours


@settings(max_examples=150, deadline=None, derandomize=True)
@given(LINES)
def test_five_plain_fields_mean_the_same_or_are_refused(spec: str) -> None:
    start = datetime(2026, 1, 1)
    want = list(islice(CronSim(spec, start), 8))
    for starred in (True, False):
        try:
            said = five(fields(spec), "it", starred=starred)
        except UserError as error:
            assert "both must fit" in error.what and fields(spec).both
            continue
        assert list(islice(CronSim(said, start), 8)) == want
        day, weekday = said.split()[2], said.split()[4]
        if not starred:  # Go and croniter join by `and` only where a star stands alone
            assert "*" in (day, weekday) or not (day.startswith("*") or weekday.startswith("*"))


def test_a_period_as_lines_of_cron_fires_at_the_same_times() -> None:
    for seconds in (300, 2700 * 2, 5400, 10800, 86400):
        anchor = NOW.replace(minute=7)
        lines = [five(each, "it") for each in of_period(seconds, anchor)]
        fires = sorted({at for line in lines for at in islice(CronSim(line, anchor), 50)})[:20]
        ours = Calendar(str(seconds), anchor=anchor).between(anchor + timedelta(minutes=1), anchor + timedelta(days=99))
        assert fires == list(islice(ours, 20))


# ---- what each system's own judge says


@pytest.fixture(params=["plain", "hostile"])
def wanted(request: pytest.FixtureRequest) -> book.Schedule:
    if request.param == "plain":
        return schedule(tz="Europe/Berlin")
    return schedule(
        name="x'; reboot #\n%i ${{ 1 }}", parameters=HOSTILE, tz="Europe/Berlin", overlap="queue", missed="all"
    )


def _save(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        assert "/" not in name and name == name.strip() and re.fullmatch(r"[\w.-]+", name)
        (folder / name).write_text(text, encoding="utf-8")


@needs("systemd-analyze")
def test_systemd_verifies_its_units(wanted: book.Schedule, tmp_path: Path) -> None:
    files, _ = systemd_files([job(WS, wanted)], tmp_path)
    _save(files, tmp_path)
    units = [str(path) for path in tmp_path.iterdir() if path.suffix in (".timer", ".service")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "aiplat" in line]
    assert done.returncode == 0 and not ours, done.stderr
    assert len(units) == 2


@needs("crontab")
def test_cron_reads_its_table(wanted: book.Schedule, tmp_path: Path) -> None:
    files, _ = cron_files([job(WS, wanted), job(WS, replace(wanted, name="second", spec="0 2 */2 * 1"))], tmp_path)
    _save(files, tmp_path)
    done = subprocess.run(["crontab", "-n", str(tmp_path / "aiplat.crontab")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    active = [line for line in files["aiplat.crontab"].splitlines() if line and not line.startswith(("#", "CRON_TZ="))]
    assert [line.split(" /bin/sh ")[0] for line in active] == ["0 2 * * 1-5", "0 2 */2 * 1"], (
        "nothing slipped out of a comment"
    )
    assert all(len(line) < 900 for line in active), "Debian's cron cuts longer lines"


@pytest.mark.parametrize("system", ["cron", "systemd"])
def test_a_shell_reads_the_scripts(wanted: book.Schedule, system: str, tmp_path: Path) -> None:
    files, _ = {"cron": cron_files, "systemd": systemd_files}[system]([job(WS, wanted)], tmp_path)
    _save(files, tmp_path)
    (file,) = tmp_path.glob("*.sh")
    assert subprocess.run(["sh", "-n", str(file)], capture_output=True).returncode == 0


def test_github_takes_the_workflow(wanted: book.Schedule, tmp_path: Path) -> None:
    made = [github_file(job(WS, wanted)), github_file(job(WS, every(5400, name="periodic")))]
    _save({name: text for name, text, _ in made}, tmp_path)
    judge = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*judge, *tmp_path.glob("*.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    read = yaml.safe_load((tmp_path / made[0][0]).read_text())
    assert read["on"]["schedule"] == [{"cron": "0 2 * * 1-5", "timezone": "Europe/Berlin"}]
    (tmp_path / "broken.yml").write_text(made[0][1].replace("timezone", "time-zone"))
    assert subprocess.run([*judge, tmp_path / "broken.yml"], capture_output=True).returncode != 0, "the judge looks"


def test_kubernetes_takes_the_cronjob(wanted: book.Schedule) -> None:
    import kubernetes_validate

    _, text, _ = kubernetes_file(job(WS, wanted, "python"), "registry.example/aiplat:1")
    read = yaml.safe_load(text)
    for version in ("1.27", "1.37"):
        kubernetes_validate.validate(read, version, strict=True)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", read["metadata"]["name"])
    read["spec"]["timezone"] = read["spec"].pop("timeZone")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(read, "1.37", strict=True)


POLICIES = [
    ("skip", "latest", "Forbid", False), ("queue", "all", "Forbid", False), ("cancel", "drop", "Replace", True),
]  # fmt: skip


@pytest.mark.parametrize(("overlap", "missed", "policy", "cancels"), POLICIES)
def test_policies_are_said_in_each_systems_words(overlap: str, missed: str, policy: str, cancels: bool) -> None:
    made = job(WS, schedule(overlap=overlap, missed=missed))
    spec = yaml.safe_load(kubernetes_file(made, "aiplat")[1])["spec"]
    assert spec["concurrencyPolicy"] == policy and (spec["startingDeadlineSeconds"] == 60) == (missed == "drop")
    assert yaml.safe_load(github_file(made)[1])["concurrency"]["cancel-in-progress"] is cancels
    source = airflow_file(made, NOW)[1]
    assert f"catchup={missed == 'all'}" in source and "max_active_runs=1" in source
    files, lost = systemd_files([made], Path("/srv/out"))
    assert f"Persistent={'no' if missed == 'drop' else 'yes'}" in files["aiplat-nightly.timer"]
    assert any("skipped, not" in line for line in lost["nightly"]) == (overlap != "skip")
    script = cron_files([made], Path("/srv/out"))[0]["aiplat-nightly.sh"]
    assert ("--nonblock" in script) == (overlap != "queue")


def test_what_is_lost_stands_in_every_file() -> None:
    made = job(WS, schedule("30 2 * * *", tz="Europe/Berlin", missed="all", overlap="cancel"))
    texts = [github_file(made), kubernetes_file(made, "aiplat"), airflow_file(made, NOW)]
    files, lost = systemd_files([made], Path("/srv/out"))
    texts.append(("", files["aiplat-nightly.timer"], lost["nightly"]))
    files, lost = cron_files([made], Path("/srv/out"))
    texts.append(("", files["aiplat.crontab"], lost["nightly"]))
    for _, text, lines in texts:
        assert lines and all(f"#   - {line}" in text for line in lines)
    assert sum("clocks change" in line for _, _, lines in texts for line in lines) == 5
    assert not any(
        "clocks change" in line for line in github_file(job(WS, schedule("30 3 * * *", tz="Europe/Berlin")))[2]
    )


# ---- the words that arrive, whatever they hold


def _sh(script: str, folder: Path) -> list[str]:
    """Run a script whose interpreter is a stand-in that writes down what it was given."""
    told = folder / "told.json"
    told.unlink(missing_ok=True)
    (folder / "srv").mkdir(exist_ok=True)
    subprocess.run(
        ["sh", "-c", script.replace("/srv/credit", str(folder / "srv"))],
        check=True,
        env={**os.environ, "TOLD": str(told)},
    )
    return json.loads(told.read_text())


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    file = tmp_path / "python"
    file.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "if 'aiplat.operations.schedules.latest' in sys.argv: print('2026-11-19T02:00:00+01:00/2026-11-20T02:00:00+01:00'); sys.exit()\n"
        "json.dump([sys.argv[1:], os.environ['AIPLAT_HOME'], os.getcwd()], open(os.environ['TOLD'], 'w'))\n"
    )
    file.chmod(0o755)
    return file


def _kubernetes_expands(text: str) -> str:
    """What the kubelet makes of a command: `$$` is a dollar, `$(NAME)` the variable if there is one."""
    return re.sub(r"\$(\$|\(AIPLAT_HOME\))", lambda found: "$" if found[1] == "$" else "EXPANDED", text)


def _github_expands(text: str) -> str:
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: "${{" if found[1] == "'${{'" else "EXPANDED", text)


def _arriving(system: str, made: Any, folder: Path) -> list[Any]:
    """What ``aiplat`` is called with, as the system would call it."""
    if system == "kubernetes":
        pod = yaml.safe_load(kubernetes_file(made, "i")[1])["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        return _sh(_kubernetes_expands(pod["containers"][0]["command"][2]), folder)
    if system == "github":
        (step,) = yaml.safe_load(github_file(made)[1])["jobs"]["run"]["steps"]
        return _sh(_github_expands(step["run"]), folder)
    if system == "airflow":
        return _airflow_calls(airflow_file(made, NOW)[1])
    files, _ = {"cron": cron_files, "systemd": systemd_files}[system]([made], folder)
    (name,) = (name for name in files if name.endswith(".sh"))
    _save({name: files[name]}, folder)
    return _sh(re.sub(r" --within \d+", "", files[name]), folder)


class _Airflow:
    """As much of Airflow's interface as a DAG file touches; it writes down the keywords of every call."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self.tasks: list[Callable[..., None]] = []

    def modules(self) -> dict[str, types.ModuleType]:
        def dag(**keywords: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
            self.calls["dag"] = keywords
            return lambda function: function

        def task(**keywords: Any) -> Callable[[Callable[..., None]], Callable[[], None]]:
            self.calls["task"] = keywords
            return lambda function: lambda: self.tasks.append(function)

        def trigger(cron: str, *, timezone: str) -> tuple[str, str]:
            return cron, timezone

        sdk, timetables = types.ModuleType("airflow.sdk"), types.ModuleType("airflow.timetables.trigger")
        sdk.dag, sdk.task, timetables.CronTriggerTimetable = dag, task, trigger  # type: ignore[attr-defined]
        parents = {name: types.ModuleType(name) for name in ("airflow", "airflow.timetables")}
        return {**parents, "airflow.sdk": sdk, "airflow.timetables.trigger": timetables}


def _airflow_calls(source: str) -> list[Any]:
    airflow, called = _Airflow(), []
    with pytest.MonkeyPatch.context() as patch:
        for name, module in airflow.modules().items():
            patch.setitem(sys.modules, name, module)
        said = "2026-11-19T02:00:00+01:00/2026-11-20T02:00:00+01:00\n"
        answer = types.SimpleNamespace(stdout=said)
        patch.setattr(subprocess, "run", lambda words, **more: called.append((words, more)) or answer)
        exec(compile(source, "dag.py", "exec"), {"__name__": "dag"})
        airflow.tasks[0](data_interval_end=datetime(2026, 11, 20, 1, tzinfo=UTC))
    assert airflow.calls["dag"]["start_date"].tzinfo is UTC and airflow.calls["task"] == {"retries": 0}
    (question, _), (words, more) = called
    assert question[-2:] == ["--at", "2026-11-20T01:00:00+00:00"] and more["check"] is True
    return [words[1:], more["env"]["AIPLAT_HOME"], more["cwd"]]


@pytest.mark.parametrize("system", ["cron", "systemd", "github", "kubernetes", "airflow"])
def test_parameters_arrive_as_they_were(system: str, stand_in: Path, tmp_path: Path) -> None:
    from aiplat.frontends.lines import flags

    made = job(WS, schedule(parameters=HOSTILE, file="/srv/credit/my notebooks/night's work.ipynb"), str(stand_in))
    words, home, folder = _arriving(system, made, tmp_path)
    assert words[:5] == ["-m", "aiplat", "pipeline", "run", "my notebooks/night's work.ipynb"]
    assert words[-2:] == ["--date", "2026-11-19T02:00:00+01:00/2026-11-20T02:00:00+01:00"]
    assert home == folder == ("/srv/credit" if system == "airflow" else str(tmp_path / "srv"))
    given = dict(zip(words[6:-2:3], words[7:-2:3], strict=True))
    assert set(words[5:-2:3]) == {"-p"}
    assert given == {name: value if isinstance(value, str) else json.dumps(value) for name, value in HOSTILE.items()}
    assert flags(words[2:])[1] == words[2:], "no value is taken for a flag"


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30))
def test_any_text_arrives_or_is_refused(value: str, stand_in: Path, tmp_path: Path) -> None:
    try:
        made = job(WS, schedule(parameters={"p": value}), str(stand_in))
    except UserError:
        assert value.startswith("-")
        return
    for system in ("kubernetes", "github", "airflow"):
        words = _arriving(system, made, tmp_path)[0]
        assert words[words.index("-p") + 2] == value, system


def test_what_no_command_line_can_carry_is_refused() -> None:
    for value in ("--json", "-x", "a\x00b", "\ud800"):
        with pytest.raises(UserError):
            job(WS, schedule(parameters={"p": value}))


@pytest.mark.parametrize("wanted", [
    schedule("30 0 * * 1-5", tz="Europe/Berlin"),  # in UTC, that is the day before
    schedule("15 */6 * * *"), schedule("0 6 1 * *", tz="America/New_York"),
    schedule("5400", kind="every", tz="Asia/Kolkata", anchor=NOW.timestamp()),
])  # fmt: skip
def test_templates_see_what_they_would_under_aiplats_own_service(
    wanted: book.Schedule, capsys: pytest.CaptureFixture[str]
) -> None:
    from aiplat.operations.pipeline import _moment
    from aiplat.operations.pipelines.templates import context
    from aiplat.operations.schedules import latest
    from aiplat.operations.schedules.firing import moment_of

    made = job(WS, wanted)
    for fire in made.fires(6, NOW):
        own = moment_of(wanted, fire.timestamp())
        for late in (0, 420):  # GitHub comes late
            assert latest.main([*made.question, "--at", (fire + timedelta(seconds=late)).isoformat()]) == 0
            theirs = _moment(capsys.readouterr().out.strip())
            assert theirs.to_dict() == own.to_dict() and context(theirs) == context(own)


# ---- the verb


@pytest.fixture
def three(ws: Any) -> Iterator[Any]:
    with book.store(ws).begin() as connection:
        for each in (
            schedule(),
            schedule("0 6 L * *", name="month-end"),
            schedule("credit", name="fresh", kind="data"),
        ):
            connection.execute(book.table("schedules").insert().values(**each.__dict__))
    yield ws


@pytest.mark.parametrize("system", ["cron", "systemd", "github", "kubernetes", "airflow"])
def test_all_schedules_that_can_be_said(three: Any, system: Any) -> None:
    found = export(to=system)
    assert set(found.refused) == ({"fresh"} if system == "systemd" else {"fresh", "month-end"})
    assert sorted(found.files) == sorted(path.name for path in (three.root / "exports" / system).iterdir())
    assert export(to=system).files == found.files, "its own files are replaced"


def test_named_ones_are_refused_and_nothing_is_written(three: Any, cli: Any) -> None:
    done = cli("schedule", "export", "nightly", "month-end", "--to", "github", check=False)
    assert done.returncode == 2 or done.returncode == 1
    assert "L and # are not part of the cron" in done.stderr and "Traceback" not in done.stderr
    assert not (three.root / "exports").exists()
    done = cli("schedule", "export", "nightly", "--to", "systemd", "--out", "units", "--json")
    assert json.loads(done.stdout)["files"] == [f"aiplat-nightly.{kind}" for kind in ("timer", "service", "sh")]


def test_the_question_is_answered_without_a_workspace(tmp_path: Path) -> None:
    ask = [sys.executable, "-m", "aiplat.operations.schedules.latest"]
    done = subprocess.run(
        [*ask, "* * * * *", "--tz", "Asia/Tokyo"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    before, found = (datetime.fromisoformat(each) for each in done.stdout.strip().split("/"))
    assert found - before == timedelta(minutes=1)
    assert timedelta() <= datetime.now(UTC) - found < timedelta(seconds=90) and found.utcoffset() == timedelta(hours=9)
    hour = (datetime.now(UTC) - timedelta(hours=3)).hour
    done = subprocess.run([*ask, f"0 {hour} * * *", "--within", "600"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Debian's cron ignores CRON_TZ" in done.stderr and not done.stdout


# ---- Airflow itself


LOOK = """
import json, sys
from datetime import datetime, timezone
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import instance

bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
told = {}
for name, dag in bag.dags.items():
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))  # as the scheduler gets it
    start, last, fires = instance(datetime(2026, 11, 20, 8, 30, tzinfo=timezone.utc)), None, []
    for _ in range(5):
        among = TimeRestriction(max(start, dag.start_date), None, True)
        info = read.timetable.next_dagrun_info(last_automated_data_interval=last, restriction=among)
        last = info.data_interval
        fires.append(last.end.isoformat())
    told[name] = [fires, dag.task_ids]
print("TOLD " + json.dumps(told))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The Python of an Airflow in a folder of its own."""
    home = tmp_path_factory.mktemp("airflow")
    uv, python = str(Path(sys.executable).parent / "uv"), str(home / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(home)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "apache-airflow>=3"], check=True)
    return ["env", f"AIRFLOW_HOME={home}", "AIRFLOW__CORE__LOAD_EXAMPLES=False", python]


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not os.environ.get("AIPLAT_CAMPAIGN"), reason="installs Airflow in a folder of its own: make campaign"
)
def test_airflow_loads_the_dags(airflow: list[str], tmp_path: Path, wanted: book.Schedule) -> None:
    made = [job(WS, wanted), job(WS, every(5400, name="periodic", missed="all"))]
    _save({name: text for name, text, _ in (airflow_file(each, NOW) for each in made)}, tmp_path)
    subprocess.run([*airflow, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    done = subprocess.run([*airflow, "-c", LOOK, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.partition("TOLD ")[2])
    assert len(told) == 2
    for each in made:
        fires, tasks = told[each.name.replace("-", "_")]
        assert [datetime.fromisoformat(at) for at in fires] == each.fires(5, NOW) and tasks == ["run"]
