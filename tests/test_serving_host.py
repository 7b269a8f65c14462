"""The server of an endpoint as it is: real processes that are killed, plans that change under load, full disks, tokens, TLS.

The models are stand-ins that answer with their own version, put into the workers' way by a `sitecustomize`: an answer that came from another
version than its headers say is seen at once, and a worker starts as quickly as it can.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aiplat.core import ledger
from aiplat.core.errors import UserError
from aiplat.core.stack import alive, mark
from aiplat.core.workspace import Workspace, create, workspace
from aiplat.operations import overview
from aiplat.operations.incidents import read_incidents
from aiplat.operations.reviving import CALM, PAUSES, settle, standing
from aiplat.release.endpoint import undeploy
from aiplat.release.serving import changes, meters, plans, server, tokens
from aiplat.release.serving.effects import take_over
from aiplat.release.serving.plans import Arm, Plan
from aiplat.release.serving.processes import Crew, folder_of
from tests.conftest import run_cli
from tests.servers import free_port
from tests.test_schedules import Server as Scheduler
from tests.test_schedules import until

NAME = "income"
STAND_IN = """
import sys, types
from pathlib import Path

def load(folder):
    import numpy as np
    from aiplat.core.errors import UserError
    from aiplat.release.serving.answers import Answers, Bundle, Scorer
    from aiplat.release.serving.fields import Field, Schema
    if not folder.is_dir():
        raise UserError(f"the model in {folder.name} is damaged", "deploy it again")
    version = int(folder.name[1:])
    schema = Schema((Field("age", "number", example=41, low=18, high=90),))
    bundle = Bundle(folder, "income", version, str(version) * 64, "1" * 64, "regression", "y", "", (), schema, "onnx")
    return Scorer(bundle, lambda columns: Answers(np.full(len(columns["age"]), float(version))))

sys.modules["aiplat.release.serving.bundles"] = types.ModuleType("aiplat.release.serving.bundles")
sys.modules["aiplat.release.serving.bundles"].load = load
"""


def plan(generation: int, *arms: tuple[int, int]) -> Plan:
    """A plan with versions and their shares in percent."""
    made = tuple(Arm(v, 100 * share, f"b{v}", str(v) * 64) for v, share in arms or ((3, 100),))
    return Plan(NAME, NAME, generation, "single" if len(made) == 1 else "canary", made)


def wait(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return when a condition holds; it is looked at once more after its time, in which this process may have stood still."""
    end, late = time.monotonic() + seconds, False
    while not condition():
        assert not late, "it did not happen"
        late = time.monotonic() > end
        time.sleep(0.01)


def call(
    url: str, path: str = "/predict", *, token: str = "", context: ssl.SSLContext | None = None, timeout: float = 20.0
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    extra = {"context": context} if context else {}
    connection = kind(parts.hostname, parts.port, timeout=timeout, **extra)  # type: ignore[arg-type]
    try:
        body = json.dumps({"records": [{"age": 30}]}) if path == "/predict" else None
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@dataclass
class Crowd:
    """Clients that ask without pause, each on a connection that stays open, and write down what they got."""

    url: str
    size: int = 6
    answers: list[tuple[float, float, int, str, float]] = field(default_factory=list)
    broken: list[tuple[float, str]] = field(default_factory=list)
    ended: bool = False

    def _client(self) -> None:
        parts, connection = urlsplit(self.url), None
        body = json.dumps({"records": [{"age": 30}]})
        while not self.ended:
            begun = time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
                said = answer.getheader("x-model-version") or ""
                value = json.loads(content)["predictions"][0]["prediction"] if answer.status == 200 else -1.0
                self.answers.append((begun, time.monotonic(), answer.status, said, value))
                if (answer.getheader("connection") or "").lower() == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.broken.append((begun, type(error).__name__))
                if connection is not None:
                    connection.close()
                connection = None

    def __enter__(self) -> Crowd:
        self.threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self.size)]
        for thread in self.threads:
            thread.start()
        wait(lambda: len(self.answers) > 50)
        return self

    def __exit__(self, *_: object) -> None:
        self.more()
        self.ended = True
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)

    def more(self, answers: int = 100) -> None:
        """Let it ask on until it got so many more answers."""
        before = len(self.answers)
        wait(lambda: len(self.answers) > before + answers, 60)


def settings(folder: Path, **serving: object) -> Workspace:
    """A workspace whose settings have a section for endpoints."""
    create(folder, user="ana")
    values = {"port": free_port(), "workers": 2, "record": "off", **serving}
    text = (folder / "settings.ini").read_text() + "\n[serving]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
    (folder / "settings.ini").write_text(text)
    return create(folder)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workspace]]:
    """Makes workspaces with an endpoint that may be started; nothing of it runs afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-in"))
    made: list[Workspace] = []

    def one(place: Path | None = None, **serving: object) -> Workspace:
        ws = settings(place or tmp_path / f"home{len(made)}", **serving)
        folder = folder_of(ws, NAME)
        for version in (3, 4, 5):
            (folder / "bundles" / f"b{version}").mkdir(parents=True)
        plans.write(folder, plan(1))
        made.append(ws)
        return ws

    yield one
    for ws in made:
        left = server.running(ws, NAME)
        server.stop(ws, NAME)
        assert not left or not any(_there(pid) for pid in left.pids)


def _there(pid: int) -> bool:
    try:
        return alive(mark(pid))
    except Exception:
        return False


def test_an_endpoint_starts_answers_changes_over_and_stops(make) -> None:
    ws = make()
    assert server.running(ws, NAME) is None and not server.stop(ws, NAME)
    found = server.start(ws, NAME)
    assert server.start(ws, NAME) == found and len(found.workers) == 2 and set(found.generations.values()) == {1}
    status, headers, body = call(found.url)
    assert (
        status == 200 and headers["x-model-version"] == "3" and json.loads(body)["predictions"][0]["prediction"] == 3.0
    )
    now = server.apply(ws, plan(2, (4, 100)))
    assert now and set(now.generations.values()) == {2} and now.pids == found.pids
    assert {call(found.url)[1]["x-model-version"] for _ in range(20)} == {"4"}
    figures = {
        sample.name: sample.value for sample in meters.read(folder_of(ws, NAME) / "metrics") if not sample.labels
    }
    assert figures["aiplat_generation"] == 2 and b"aiplat_requests_total" in call(found.url, "/metrics")[2]
    assert server.stop(ws, NAME) and server.running(ws, NAME) is None and not any(map(_there, found.pids))
    with pytest.raises(OSError):
        call(found.url)
    assert server.apply(ws, plan(3, (5, 100))) is None  # nobody follows now, but whoever starts does
    again = server.start(ws, NAME)
    assert call(again.url)[1]["x-model-version"] == "5"


def test_a_change_of_plans_under_load_drops_nothing_and_every_answer_is_of_a_plan_in_force(make) -> None:
    ws = make()
    found = server.start(ws, NAME)
    changes = [(0.0, 0.0, {"3"})]
    with Crowd(found.url) as crowd:
        for generation in range(2, 14):
            arms = [((3, 100),), ((4, 100),), ((3, 50), (5, 50)), ((5, 90), (4, 10))][generation % 4]
            begun = time.monotonic()
            server.apply(ws, plan(generation, *arms))
            changes.append((begun, time.monotonic(), {str(v) for v, _ in arms}))
            crowd.more(40)
    assert not crowd.broken and {status for _, _, status, _, _ in crowd.answers} == {200}
    for begun, ended, _, said, value in crowd.answers:
        assert float(said) == value  # the version that the headers name is the one that answered
        possible = set()
        for i, (start, _, versions) in enumerate(changes):
            over = (
                changes[i + 1][1] if i + 1 < len(changes) else float("inf")
            )  # until the next one was in force everywhere
            if start <= ended and begun <= over:
                possible |= versions
        assert said in possible
    after = [said for begun, _, _, said, _ in crowd.answers if begun > changes[-1][1]]
    assert after and set(after) <= changes[-1][2]


def test_killed_workers_take_only_their_own_requests_with_them(make) -> None:
    ws = make()
    found = server.start(ws, NAME)
    kills = 0
    with Crowd(found.url) as crowd:
        for _ in range(3):
            for worker in ("0", "1"):
                now = server.running(ws, NAME)
                assert now
                os.kill(now.workers[worker], signal.SIGKILL)
                kills += 1
                wait(lambda w=worker, n=now: (m := server.running(ws, NAME)) and m.workers.get(w, n.workers[w]) != n.workers[w] and min(m.generations.values()) == 1 and len(m.workers) == 2)  # fmt: skip
                crowd.more(30)
    assert {status for _, _, status, _, _ in crowd.answers} == {200}
    assert len(crowd.broken) <= kills * crowd.size  # a client at most once for each
    last = max(begun for begun, _ in crowd.broken) if crowd.broken else 0.0
    assert any(begun > last for begun, *_ in crowd.answers)
    counted = sum(s.value for s in meters.read(folder_of(ws, NAME) / "metrics") if s.name == "aiplat_requests" and s.labels["status"] == "200" and s.labels["route"])  # fmt: skip
    assert (
        counted >= len(crowd.answers) - kills
    )  # what the dead counted still counts, but for the one that they were at


def test_a_killed_supervisor_is_replaced_and_no_request_notices(make) -> None:
    ws = make()
    found = server.start(ws, NAME)
    with Crowd(found.url) as crowd:
        os.kill(found.supervisor, signal.SIGKILL)
        wait(lambda: (now := server.running(ws, NAME)) and now.supervisor not in (0, found.supervisor))
        now = server.running(ws, NAME)
        assert now and now.workers == found.workers and now.url == found.url
        server.apply(ws, plan(2, (4, 100)))
        crowd.more()
        assert not crowd.broken
        os.kill(found.workers["0"], signal.SIGKILL)  # which the new one must notice although it is no child of it
        wait(lambda: (m := server.running(ws, NAME)) and len(m.workers) == 2 and m.workers["0"] != found.workers["0"] and min(m.generations.values()) == 2)  # fmt: skip
    assert {status for _, _, status, _, _ in crowd.answers} == {200}
    os.kill(server.running(ws, NAME).supervisor, signal.SIGKILL)  # type: ignore[union-attr]
    assert server.start(ws, NAME).supervisor  # a verb that comes just then waits for the new one
    assert server.stop(ws, NAME) and not any(map(_there, now.pids))


def test_a_verb_waits_for_the_supervisor_that_workers_start_however_late_it_is(make, tmp_path: Path) -> None:
    """Another one would end the workers, with what they are answering."""
    ws = make()
    found = server.start(ws, NAME)
    late = "import time\nif len(sys.orig_argv) > 4 and 'supervise' in sys.orig_argv[2]: time.sleep(10)\n"
    (tmp_path / "stand-in" / "sitecustomize.py").write_text(STAND_IN + late)
    os.kill(found.supervisor, signal.SIGKILL)
    wait(lambda: not server.running(ws, NAME).supervisor)  # type: ignore[union-attr]
    now = server.start(ws, NAME)
    assert now.supervisor not in (0, found.supervisor) and now.workers == found.workers and now.url == found.url


def test_a_supervisor_that_is_too_late_is_not_left_behind(make, monkeypatch: pytest.MonkeyPatch) -> None:
    ws, launch, begun = make(), server.launch, []

    def stopped(*told: Any, **how: Any) -> subprocess.Popen[bytes]:
        begun.append(launch(*told, **how))
        os.kill(begun[0].pid, signal.SIGSTOP)
        return begun[0]

    monkeypatch.setattr(server, "launch", stopped)
    with pytest.raises(UserError, match="did not follow within"):
        server.start(ws, NAME, timeout=0.5)
    try:
        assert begun[0].poll() is not None
    finally:
        begun[0].kill()


def test_after_everything_was_killed_at_once_it_starts_again_at_the_same_address(make) -> None:
    ws = make()
    found = server.start(ws, NAME)
    server.apply(ws, plan(2, (4, 100)))
    end_at_once(found)
    wait(lambda: server.running(ws, NAME) is None)
    folder = folder_of(ws, NAME)
    crew = Crew.read(folder)
    assert crew
    strangers = subprocess.Popen(["sleep", "600"])  # has got the number of one of them
    try:
        other = {"pid": strangers.pid, "created": crew.supervisor["created"] - 60}
        Crew(crew.url, crew.since, other, {"0": other}).write(folder)
        assert server.running(ws, NAME) is None and server.revive(ws) == ([NAME], []) and strangers.poll() is None
    finally:
        strangers.kill()
        strangers.wait()
    now = server.running(ws, NAME)
    assert now and now.url == found.url and call(now.url)[1]["x-model-version"] == "4"
    assert server.revive(ws) == ([], []) and server.missing(ws) == {}


def test_after_the_machine_was_switched_off_up_starts_what_was_deployed(make) -> None:
    """An orderly end of everything, as a machine gives before it is switched off; then the verbs of a person, who has no Ray."""
    ws = make(workers=1)
    other = make(port=ws.settings.serving["port"], workers=1)  # it has the next port, and must keep it
    server.start(ws, NAME)
    found = server.start(other, NAME)
    server.stop(ws, NAME)
    for pid in found.pids:
        with contextlib.suppress(ProcessLookupError):  # the first may have ended the others
            os.kill(pid, signal.SIGTERM)
    wait(lambda: not any(map(_there, found.pids)))
    assert server.missing(other) == {NAME: ""} and Crew.read(folder_of(other, NAME))
    env = {"AIPLAT_HOME": str(other.root), "AIPLAT_RAY": "127.0.0.1:9"}
    told = run_cli("status", "--json", env=env)
    problems = json.loads(told.stdout)["problems"]
    assert [f"the endpoint {NAME} was deployed and does not run", "start it: aiplat up"] in problems, told.stdout
    ended = run_cli("up", env=env, check=False)
    assert ended.returncode and "127.0.0.1:9" in ended.stderr, "it says that there is no Ray"
    now = server.running(other, NAME)
    assert now and now.url == found.url and call(now.url)[1]["x-model-version"] == "3"
    assert NAME not in json.dumps(json.loads(run_cli("status", "--json", env=env).stdout)["problems"])


def end_at_once(found: server.Running) -> None:
    """Kill every process of an endpoint, so that nobody can help anybody."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in found.pids:
            os.kill(pid, number)


def test_schedulers_start_what_was_killed_once_and_leave_alone_what_a_person_ended(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = make(workers=1)
    changes.switch(ws, "deploy", plan(1), lambda wanted: plans.write(folder_of(ws, NAME), wanted), seen=0)
    found = server.start(ws, NAME)
    with Scheduler(ws, "--runs", "0") as one, Scheduler(ws, "--runs", "0") as other:
        end_at_once(found)
        said = lambda: one.said() + other.said()  # noqa: E731
        until(lambda: "started again" in said(), said)
        now = server.running(ws, NAME)
        assert now and now.url == found.url and call(now.url)[1]["x-model-version"] == "3"
        assert [entry.body["url"] for entry in ledger.entries(ws, action="revive")] == [found.url]
        assert [each.count for each in read_incidents(ws, name=f"endpoint:{NAME}")] == [1]
        assert said().count("started again") == 1 and settle(ws, time.time()) == []
    assert settle(ws, time.time() + 2 * CALM) == [f"endpoint:{NAME} is over: it answers at {found.url}"]
    assert call(found.url)[0] == 200, "it does not end with a scheduler"
    monkeypatch.chdir(ws.root)
    undeploy(NAME)
    assert server.missing(ws) == {}
    told = run_cli("scheduler", "run", "--runs", "0", "--once", cwd=ws.root).stdout
    assert server.running(ws, NAME) is None and f"endpoint:{NAME}" not in told


def test_a_scheduler_waits_between_attempts_to_start_what_cannot_be_started(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = make(workers=1)
    monkeypatch.chdir(ws.root)
    found = server.start(ws, NAME)
    end_at_once(found)
    bundle = folder_of(ws, NAME) / "bundles" / "b3"
    bundle.rename(bundle.with_name("away"))
    with Scheduler(ws, "--runs", "0") as scheduler:  # it was dead before the scheduler began
        until(lambda: NAME in standing(ws), scheduler.said)
        first = standing(ws)[NAME]
        assert first.count == 1 and "the model in b3 is damaged" in first.text["title"]
        until(lambda: standing(ws)[NAME].count == 2, scheduler.said)
        assert standing(ws)[NAME].last - first.last >= PAUSES[0]
        until(lambda: "the next attempt comes in 20 s" in scheduler.said(), scheduler.said)
        assert any(NAME in what for what, _ in overview.status().problems)
        bundle.with_name("away").rename(bundle)
        until(lambda: (now := server.running(ws, NAME)) and all(now.generations.values()), scheduler.said)
        assert call(found.url)[0] == 200
    assert server.start(ws, NAME).url == found.url


def test_what_another_machine_serves_is_not_started_here(make) -> None:
    ws = make(workers=1)
    server.start(ws, NAME)
    server.stop(ws, NAME)
    file = folder_of(ws, NAME) / "server.json"
    file.write_text(json.dumps({"machine": "elsewhere", "url": "http://10.0.0.7:8080", "since": 1.0}))
    again, wrong = server.revive(ws)
    assert again == [] and "was started on elsewhere" in wrong[0].what and server.missing(ws) == {NAME: "elsewhere"}
    with ws.lock(f"endpoint:{NAME}"):
        file.unlink()
        ended = subprocess.run(
            [sys.executable, "-c", "from aiplat.release.serving.server import revive; from aiplat.core.workspace import workspace; print(revive(workspace()))"],
            env={**os.environ, "AIPLAT_HOME": str(ws.root)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert "somebody else is working on" in ended.stdout, ended.stderr
    assert server.running(ws, NAME) is None, "what somebody is changing is left to them"


def test_a_model_that_cannot_be_loaded_changes_nothing(make) -> None:
    ws = make()
    found = server.start(ws, NAME)
    with Crowd(found.url, size=2) as crowd:
        with pytest.raises(UserError, match="the model in b9 is damaged"):
            server.apply(ws, plan(2, (9, 100)))
        crowd.more()
        server.apply(ws, plan(3, (4, 100)))
    assert not crowd.broken and {said for _, _, _, said, _ in crowd.answers} == {"3", "4"}
    (folder_of(ws, NAME) / "bundles" / "b4").rename(folder_of(ws, NAME) / "bundles" / "away")
    with Crowd(found.url, size=2) as crowd:
        os.kill(
            found.workers["0"], signal.SIGKILL
        )  # who comes after it has no model, and leaves the connections to the other
        wait(lambda: (folder_of(ws, NAME) / "server.log").read_text().count("a worker died") >= 3)
    assert {status for _, _, status, _, _ in crowd.answers} == {200} and len(crowd.broken) <= 2
    (folder_of(ws, NAME) / "bundles" / "away").rename(folder_of(ws, NAME) / "bundles" / "b4")
    wait(lambda: (now := server.running(ws, NAME)) and set(now.generations.values()) == {3} and len(now.workers) == 2)
    server.stop(ws, NAME)
    plans.write(folder_of(ws, NAME), plan(4, (9, 100)))
    with pytest.raises(UserError, match="damaged"):
        server.start(ws, NAME)
    assert server.running(ws, NAME) is None


def test_workers_are_renewed_one_after_another_and_no_request_is_lost(make) -> None:
    ws = make(workers=2, timeout="5s")
    found = server.start(ws, NAME)
    with Crowd(found.url) as crowd:
        now = server.renew(ws, NAME)
    assert not crowd.broken and {status for _, _, status, _, _ in crowd.answers} == {200}
    assert not set(now.workers.values()) & set(found.workers.values()) and now.supervisor == found.supervisor


def change(ws: Workspace, **serving: object) -> Workspace:
    """The workspace after somebody edited its settings."""
    file = ws.root / "settings.ini"
    head, _, tail = file.read_text().rpartition("[serving]")
    kept = dict(line.split(" = ", 1) for line in tail.strip().splitlines()) | {k: str(v) for k, v in serving.items()}
    file.write_text(f"{head}[serving]\n" + "".join(f"{k} = {v}\n" for k, v in kept.items()))
    return workspace(ws.root)


def test_settings_are_taken_over_while_the_endpoint_answers(make) -> None:
    ws = make(workers=2, timeout="5s")
    found = server.start(ws, NAME)
    with Crowd(found.url) as crowd:
        ws = change(ws, workers=3, body_limit="20B", log="debug")
        assert server.news(ws, NAME) == {"workers": "2 → 3", "body_limit": "8000000 → 20", "log": "info → debug"}
        now = server.renew(ws, NAME)
        assert len(now.workers) == 3 and now.url == found.url and server.news(ws, NAME) == {}
        crowd.more()
        ws = change(ws, workers=1, body_limit="8MB")
        assert len(server.renew(ws, NAME).workers) == 1
    assert not crowd.broken
    seen = {status for _, _, status, _, _ in crowd.answers}
    assert seen == {200, 413}, "what was too long in between was said to be so, and nothing else went wrong"
    assert '"status": 200' in (folder_of(ws, NAME) / "server.log").read_text(), "the level of the log was taken over"

    port = free_port()
    ws = change(ws, port=port)
    moved = server.renew(ws, NAME)
    assert urlsplit(moved.url).port == port and call(moved.url)[0] == 200
    with pytest.raises(OSError):
        call(found.url)
    ws = change(ws, address="localhost")
    assert server.renew(ws, NAME).url == f"http://localhost:{port}" and call(server.running(ws, NAME).url)[0] == 200  # type: ignore[union-attr]


def test_settings_with_which_no_worker_comes_up_change_nothing(make) -> None:
    ws = make(workers=2, timeout="5s")
    found = server.start(ws, NAME)
    ws = change(ws, rate="7/s", workers=4)
    bundle = folder_of(ws, NAME) / "bundles" / "b3"
    with Crowd(found.url, size=2) as crowd:
        bundle.rename(bundle.with_name("away"))  # whoever starts now has nothing to answer by
        with pytest.raises(UserError, match="did not follow the settings"):
            server.renew(ws, NAME)
        bundle.with_name("away").rename(bundle)
        wait(lambda: (m := server.running(ws, NAME)) and len(m.workers) == 2 and all(m.generations.values()))
    assert {status for _, _, status, _, _ in crowd.answers} == {200} and not crowd.broken
    assert "rate" in server.news(ws, NAME) and server.running(ws, NAME).url == found.url  # type: ignore[union-attr]
    assert len(server.renew(ws, NAME).workers) == 4 and server.news(ws, NAME) == {}
    with pytest.raises(UserError, match=r"nobody can listen at 203\.0\.113\.7"):
        tokens.add("shop", home=ws.root)
        server.renew(change(ws, address="203.0.113.7"), NAME)
    assert call(found.url)[0] == 200, "an address that is not this machine's ends nothing"


def test_processes_end_when_their_record_is_gone(make) -> None:
    ws = make()
    found = server.start(ws, NAME)
    (folder_of(ws, NAME) / "server.json").unlink()
    wait(lambda: not any(map(_there, found.pids)))
    found = server.start(ws, NAME)
    os.kill(found.supervisor, signal.SIGSTOP)  # it cannot tell its workers
    (folder_of(ws, NAME) / "server.json").unlink()
    wait(lambda: not any(map(_there, found.workers.values())))
    os.kill(found.supervisor, signal.SIGKILL)


def test_two_endpoints_do_not_want_the_same_port_and_strangers_need_tokens(make) -> None:
    first = make()
    taken = server.start(first, NAME)
    port = urlsplit(taken.url).port
    assert port
    second = make(port=port)
    other = server.start(second, NAME)
    assert urlsplit(other.url).port != port and call(other.url)[0] == call(taken.url)[0] == 200
    with pytest.raises(UserError, match=r"line .*: the endpoint would listen at 0.0.0.0"):
        server.start(make(address="0.0.0.0"), NAME)


def test_tokens_forged_ended_of_another_scope_and_taken_back(make) -> None:
    ws = make(tokens="always")
    home = ws.root
    good = tokens.add("shop", home=home)
    figures = tokens.add("prometheus", scope=["metrics"], home=home)
    elsewhere = tokens.add("elsewhere", endpoint="credit", home=home)
    found = server.start(ws, NAME)
    forged = f"aip_{good.id}_{'A' * 43}"
    expected = {"": 401, good.token: 200, forged: 401, "aip_x": 401, figures.token: 403, elsewhere.token: 403}
    for token, status in expected.items():
        got, headers, body = call(found.url, token=token)
        assert got == status, (token, got)
        if status != 200:
            assert headers["content-type"] == "application/problem+json" and "www-authenticate" in headers
            assert good.token.encode() not in body
    assert (
        call(found.url, "/metrics", token=figures.token)[0] == 200
        and call(found.url, "/metrics", token=good.token)[0] == 403
    )
    assert call(found.url, "/healthz")[0] == 200
    for seconds in (4, 8, 16, 32):  # a machine may stand still until a token has ended
        short, end = tokens.add(f"short-{seconds}", expires=f"{seconds}s", home=home), time.monotonic() + seconds
        while not (known := call(found.url, token=short.token)[0] == 200) and time.monotonic() < end:
            time.sleep(0.01)
        if known:
            break
    assert known
    wait(lambda: call(found.url, token=short.token)[0] == 401)
    tokens.revoke("shop", home=home)
    wait(lambda: all(call(found.url, token=good.token)[0] == 401 for _ in range(10)), 5)  # by every worker
    log = (folder_of(ws, NAME) / "server.log").read_text()
    assert good.token not in log and forged not in log


def test_a_limit_on_requests_is_shared_by_the_workers(make) -> None:
    ws = make(rate="50/m")
    found = server.start(ws, NAME)
    begun = time.monotonic()
    statuses = [call(found.url)[0] for _ in range(70)]
    most = 51 + (time.monotonic() - begun) * 50 / 60  # meanwhile more become free
    assert 50 <= statuses.count(200) <= most and statuses.count(429) == 70 - statuses.count(200)


def certificate(folder: Path, name: str) -> str:
    """A self-signed certificate for this machine, with its key beside it; its serial number."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return f"{made.serial_number:X}"


def test_tls_and_a_certificate_that_is_renewed(make, tmp_path: Path) -> None:
    certificate(tmp_path, "first")
    ws = make(tls_certificate=tmp_path / "certificate.pem", tls_key=tmp_path / "key.pem", timeout="3s")
    found = server.start(ws, NAME)
    assert found.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    assert call(found.url, context=context)[0] == 200
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert call(found.url.replace("https", "http"))[0] != 200
    with pytest.raises(ssl.SSLError):
        call(found.url, context=ssl.create_default_context())
    silent = socket.create_connection((urlsplit(found.url).hostname, urlsplit(found.url).port))  # speaks no TLS at all
    certificate(tmp_path, "second")
    context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))

    def renewed() -> bool:
        with contextlib.suppress(ssl.SSLError):
            return all(call(found.url, context=context)[0] == 200 for _ in range(6))
        return False

    wait(renewed)
    silent.settimeout(20)
    with contextlib.suppress(ConnectionError):
        assert silent.recv(10) == b""  # its time was over
    ws.root.joinpath("settings.ini").write_text((ws.root / "settings.ini").read_text().replace("key.pem", "none.pem"))
    with pytest.raises(UserError, match=r"line .*the certificate and its key cannot be used"):
        server.renew(create(ws.root), NAME)


def test_slow_and_endless_clients_do_not_hinder_others(make) -> None:
    ws = make(timeout="1s")
    found = server.start(ws, NAME)
    where = (urlsplit(found.url).hostname, urlsplit(found.url).port)
    slow = [socket.create_connection(where) for _ in range(50)]
    for i, one in enumerate(slow):
        one.sendall(
            [b"", b"POST /predict HT", b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"][
                i % 3
            ]
        )
    with Crowd(found.url, size=3) as crowd:
        crowd.more()
    assert not crowd.broken and {status for _, _, status, _, _ in crowd.answers} == {200}
    for one in slow:
        one.settimeout(20)
        answer = one.recv(1000)
        assert answer == b"" or b" 408 " in answer.splitlines()[0]
    endless = socket.create_connection(where)
    with contextlib.suppress(ConnectionError):
        endless.sendall(b"GET / HTTP/1.1\r\n")
        while True:
            endless.sendall(b"x-more: " + b"a" * 8000 + b"\r\n")
    assert call(found.url)[0] == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], capture_output=True).returncode:
        pytest.skip("only an administrator may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_for_a_while(make, small_disk: Path) -> None:
    ws = make(small_disk / "home", record="on")
    found = server.start(ws, NAME)
    with Crowd(found.url, size=3) as crowd:
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)
        with pytest.raises((UserError, OSError)):
            (small_disk / "home" / "probe").write_bytes(b"\0" * 100_000)
        with pytest.raises(UserError, match="cannot be written"):
            server.apply(ws, plan(2, (4, 100)))
        crowd.more()
        os.kill(found.workers["0"], signal.SIGKILL)  # and its place is taken although nothing can be written down
        crowd.more(200)
        (small_disk / "ballast").unlink()
        server.apply(ws, plan(3, (5, 100)))
    assert {status for _, _, status, _, _ in crowd.answers} == {200} and len(crowd.broken) <= crowd.size
    wait(lambda: (now := server.running(ws, NAME)) and len(now.workers) == 2 and set(now.generations.values()) == {3})


def registered(ws: Workspace, versions: int) -> list[Plan]:
    """Versions of a small model, prepared in an endpoint's folder, and a plan of each; the first one is written."""
    from aiplat.core.refs import find_model
    from aiplat.data.sample import credit
    from aiplat.release.serving.bundles import prepare
    from aiplat.release.versions import register
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.runs import log_run

    people, folder, made = credit(rows=400, seed=1), folder_of(ws, "credit"), []
    columns = [name for name in people if name != "approved"]
    about = {"task": "binary", "target": "approved", "positive": "1", "features": columns}
    for number in range(1, versions + 1):
        few = people[: 200 + 100 * number]
        model = build("linear", usable_columns(few[columns]), {}, task="binary").fit(few[columns], few["approved"])
        register(log_run(ws, "train", model, train=few, test=few, **about).run.id, "credit")  # type: ignore[arg-type]
        bundle = prepare(ws, find_model(ws, f"credit/{number}"), folder / "bundles")
        arm = Arm(number, 10_000, bundle.folder.name, bundle.model_digest)
        made.append(Plan("credit", "credit", number, "single", (arm,)))
    plans.write(folder, made[0])
    return made


@dataclass
class Asking:
    """Clients of an endpoint under an address with a path, each on a connection that stays open: (begun, status, version)."""

    url: str
    body: bytes
    size: int
    answers: list[tuple[float, int, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    ended: bool = False

    def _client(self) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while not self.ended:
            begun = time.time()
            try:
                connection.request("POST", f"{parts.path}/predict", self.body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                self.answers.append((begun, answer.status, answer.getheader("x-model-version") or ""))
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                connection.close()

    def __enter__(self) -> Asking:
        self.threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self.size)]
        for thread in self.threads:
            thread.start()
        wait(lambda: len(self.answers) > 20, 60)
        return self

    def __exit__(self, *_: object) -> None:
        before = len(self.answers)
        wait(lambda: len(self.answers) > before + 100, 60)
        self.ended = True
        for thread in self.threads:
            thread.join(60)


def body_of(ws: Workspace, plan: Plan) -> bytes:
    """A request that the plan's model can answer."""
    from aiplat.release.serving.bundles import load

    schema = load(folder_of(ws, "credit") / "bundles" / plan.champion.bundle).bundle.schema
    return json.dumps({"records": [schema.example()]}).encode()


def test_on_ray_serve_replicas_follow_plans_and_no_request_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_address: str
) -> None:
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    ws = settings(tmp_path, host="ray", workers=1)
    (first,) = registered(ws, 1)
    try:
        found = server.start(ws, "credit")
        with Asking(found.url, body_of(ws, first), 1) as crowd:
            for generation in range(2, 6):
                now = server.apply(ws, replace(first, generation=generation))
                assert now and set(now.generations.values()) == {generation}
        assert {status for _, status, _ in crowd.answers} == {200} and not crowd.broken
        assert call(found.url, urlsplit(found.url).path + "/metrics")[0] == 200
        with pytest.raises(UserError, match="cannot follow"):
            server.apply(ws, replace(first, generation=9, arms=(replace(first.champion, bundle="missing"),)))
    finally:
        assert server.stop(ws, "credit") and server.running(ws, "credit") is None


def test_on_ray_serve_load_brings_replicas_and_a_next_version_loses_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ws = settings(tmp_path, host="ray", replicas="1-2")
    first, second = registered(ws, 2)
    try:
        found = server.start(ws, "credit")
        assert len(found.workers) == 1
        with Asking(found.url, body_of(ws, first), 44) as crowd:
            wait(lambda: (now := server.running(ws, "credit")) and len(now.workers) == 2, 120)
            now = server.apply(ws, second)
            changed = time.time()
            assert now and len(now.workers) == 2 and set(now.generations.values()) == {2}
        assert {status for _, status, _ in crowd.answers} == {200} and not crowd.broken, crowd.broken[:3]
        assert {version for begun, _, version in crowd.answers if begun < changed} == {"1", "2"}
        assert {version for begun, _, version in crowd.answers if begun > changed} == {"2"}
    finally:
        assert server.stop(ws, "credit")


def test_on_ray_serve_settings_are_taken_over_while_it_answers_and_its_port_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ws = settings(tmp_path, host="ray", replicas="1", timeout="5s")
    (first,) = registered(ws, 1)
    try:
        found = server.start(ws, "credit")
        body = body_of(ws, first)
        with Asking(found.url, body, 4) as crowd:
            ws = change(ws, replicas="2-2", timeout="9s", body_limit="20B")
            wanted = {"replicas": "1-1 → 2-2", "timeout": "5.0 → 9.0", "body_limit": "8000000 → 20"}
            assert server.news(ws, "credit") == wanted and take_over(ws, "credit") == wanted
            changed = time.time()
            now = server.running(ws, "credit")
            assert now and len(now.workers) == 2 and not set(now.workers) & set(found.workers) and now.url == found.url
            assert server.news(ws, "credit") == {} == take_over(ws, "credit")
        assert not crowd.broken, crowd.broken[:3]
        assert {status for _, status, _ in crowd.answers} == {200, 413}
        assert {status for begun, status, _ in crowd.answers if begun > changed} == {413}, "too long since then"
        assert ledger.entries(ws, action="settings")[-1].body["changed"] == wanted

        bundle = folder_of(ws, "credit") / "bundles" / first.champion.bundle
        ws = change(ws, body_limit="8MB")
        server.renew(ws, "credit")
        there = server.running(ws, "credit")
        with Asking(found.url, body, 2) as crowd:
            bundle.rename(bundle.with_name("away"))  # whoever starts now has nothing to answer by
            ws = change(ws, timeout="7s")
            with pytest.raises(UserError, match="Ray Serve could not start credit"):
                take_over(ws, "credit")
            bundle.with_name("away").rename(bundle)
        assert not crowd.broken and {status for _, status, _ in crowd.answers} == {200}, "those before go on"
        now = server.running(ws, "credit")
        assert there and now and set(there.workers) & set(now.workers) and "timeout" in server.news(ws, "credit")

        port = urlsplit(found.url).port or 0
        ws = change(ws, port=port + 1, timeout="9s")
        assert server.news(ws, "credit") == {} and server.unmet(ws, "credit") == {"port": f"{port}, not {port + 1}"}
    finally:
        assert server.stop(ws, "credit")


@pytest.mark.skipif(not os.environ.get("AIPLAT_CAMPAIGN"), reason="starts a cluster of two nodes: make campaign")
def test_replicas_on_two_nodes_answer_by_one_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import two_nodes

    monkeypatch.chdir(tmp_path)
    with two_nodes() as (address, _):
        monkeypatch.setenv("AIPLAT_RAY", address)
        ws = settings(tmp_path, host="ray", replicas="2-2")
        first, second = registered(ws, 2)
        try:
            found = server.start(ws, "credit")
            wait(lambda: (now := server.running(ws, "credit")) and len(now.workers) == 2, 60)
            from ray.serve import context

            told: Any = context._get_global_client()
            (one,) = told.get_serve_details()["applications"]["aiplat-credit"]["deployments"].values()
            assert len({replica["node_id"] for replica in one["replicas"]}) == 2, one
            with Asking(found.url, body_of(ws, first), 4) as crowd:
                assert server.apply(ws, second)
                changed = time.time()
            assert {status for _, status, _ in crowd.answers} == {200} and not crowd.broken
            assert {version for begun, _, version in crowd.answers if begun > changed} == {"2"}
        finally:
            assert server.stop(ws, "credit")
            from aiplat.core.attach import leave

            leave()
