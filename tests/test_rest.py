"""The routes under aiplat/api on a real Jupyter server: who may, what is refused, and what survives."""

from __future__ import annotations

import http.cookiejar
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest

from aiplat.core import ledger, workspace
from aiplat.frontends.rest import openapi
from aiplat.frontends.rest.routes import ROUTES
from tests.servers import free_port, wait_for

PATIENCE = 120.0  # seconds: CI is loaded


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Server:
    """A Jupyter server in a folder, as a person starts it."""

    root: Path
    port: int
    token: str = field(default_factory=secrets.token_hex)
    extra: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        log = (self.root.parent / f"server-{self.port}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", f"--port={self.port}", "--ServerApp.port_retries=0", "--allow-root",
             "--ServerApp.jpserver_extensions={'aiplat.frontends.rest': True}", f"--ServerApp.root_dir={self.root}", *self.extra],
            cwd=self.root.parent, env={**os.environ, "JUPYTER_TOKEN": self.token, "JUPYTER_CONFIG_DIR": str(self.root.parent / "jupyter")},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        wait_for(self.port, seconds=90, process=self.process)
        return self

    def kill(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/aiplat/api{path}"

    def ask(
        self, method: str, path: str, body: Any = None, *, token: bool = True, headers: dict[str, str] | None = None, opener: Any = None, timeout: float = PATIENCE
    ) -> Answer:  # fmt: skip
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = {
            "Content-Type": "application/json",
            **({"Authorization": f"token {self.token}"} if token else {}),
            **(headers or {}),
        }
        request = urllib.request.Request(self.url(path), data=data, method=method, headers=sent)
        opened = (opener or urllib.request.build_opener()).open
        try:
            with opened(request, timeout=timeout) as reply:
                return Answer(reply.status, reply.headers, reply.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read().decode())

    def get(self, path: str, status: int = 200) -> Any:
        found = self.ask("GET", path)
        assert found.status == status, found
        return found.json

    def job(self, verb: str, **arguments: Any) -> dict[str, Any]:
        found = self.ask("POST", "/jobs", {"verb": verb, "arguments": arguments})
        assert found.status == 201, found
        assert found.headers["Location"].endswith(found.json["id"])
        return found.json

    def until(self, id_: str, *states: str) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while (job := self.get(f"/jobs/{id_}"))["state"] not in (states or ("done", "failed", "refused", "stopped")):
            assert time.monotonic() < end, job
            time.sleep(0.1)
        return job


def notebook(file: Path, *cells: str) -> None:
    """A notebook whose first cell is tagged ``parameters``."""
    made = [
        nbformat.v4.new_code_cell(cells[0], metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, cells[1:]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), file)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("served") / "work"
    ws = workspace.create(root, user="ana", roles={"risk": "rosa"}, gates={"production": {"approvals": "1 by risk"}})
    notebook(root / "night.ipynb", "n: int = 2  # how many\nkind: str = 'a'", "print(n)")
    run = ws.client().create_run(
        ws.experiment_id(),
        tags={"aiplat.kind": "train", "aiplat.metric": "roc_auc"},
        run_name="<img src=x onerror=alert(1)>",
    )
    ws.client().create_registered_model("credit")
    ws.client().create_model_version("credit", str(root), run.info.run_id)
    found = Server(root, free_port()).start()
    yield found
    found.kill()


# -- forms, lists, pages ---------------------------------------------------------------------------------------------------------------------


def test_the_openapi_file_is_what_the_routes_are(server):
    assert openapi.stored() == openapi.text(), "write openapi.text() into aiplat/frontends/rest/openapi.json"
    assert server.get("/openapi.json") == openapi.document()
    assert set(openapi.document()["paths"]) == {route.path for route in [*ROUTES, openapi.ROUTE]} | {
        "/events",
        "/incidents/events",
    }


def test_a_status_says_who_and_where(server):
    found = server.get("/")
    assert found["workspace"] and found["user"] == "ana" and found["root"] == str(server.root) and found["roles"] == []


def test_every_verb_has_a_form_and_a_line(server):
    verbs = server.get("/verbs")["verbs"]
    for verb in verbs:
        assert server.get(f"/verbs/{verb['name'].replace(' ', '-')}")["schema"]["type"] == "object"
    filled = {"arguments": {"data": "sample:credit", "target": "approved", "by": ["age group"]}}
    said = server.ask("POST", "/verbs/train/line", filled).json["line"]
    assert said == "%aiplat train sample:credit --target approved --by 'age group'"
    wrong = server.ask("POST", "/verbs/train/line", {"arguments": {"data": "x"}})
    assert (
        wrong.status == 422
        and "--target is missing" in wrong.json["title"]
        and wrong.headers["Content-Type"].startswith("application/problem+json")
    )


def test_lists_and_pages(server):
    run = server.get("/runs")["runs"][0]
    assert run["state"] == "running" and run["metric"] == "roc_auc"
    assert server.get("/models")["models"][0]["versions"][0]["gates"][0]["holds"] is False
    assert server.get("/pipelines")["scheduler"] == {"alive": False}
    for view in (
        f"run/{run['id']}",
        "model/credit",
        "version/credit/1",
        "version/credit%2F1",
        "gate/credit/1@production",
        "cluster/all",
    ):
        page = server.get(f"/views/{view}")
        assert "<img" not in page["html"] and "aiplat" in page["html"] and page["line"].startswith("%aiplat"), view
    assert "&lt;img src=x" in server.get(f"/views/run/{run['id']}")["html"]
    for view in (
        "run/nothing",
        "model/nothing",
        "version/credit/9",
        "pipeline/nothing",
        "schedule/nothing",
        "pipeline-run/nothing",
        "job/nothing",
    ):
        assert server.get(f"/views/{view}", 404)["todo"], view


def test_endpoints_are_told_as_the_ledger_has_them(server):
    from aiplat.release.serving import plans
    from aiplat.release.serving.changes import folder, subject, switch

    assert server.get("/endpoints") == {"endpoints": [], "streams": []}
    ws = workspace.workspace(server.root)
    arms = (plans.Arm(1, 9000, "b1", "1" * 64), plans.Arm(2, 1000, "b2", "2" * 64))
    plan = plans.Plan("letters", "credit", 1, "canary", arms, by="ana", reason="<img src=x onerror=alert(1)>")
    switch(ws, "deploy", plan, lambda each: plans.write(folder(ws, "letters"), each), seen=0)
    try:
        (row,) = server.get("/endpoints")["endpoints"]
        assert (row["name"], row["model"], row["state"], row["rate"]) == ("letters", "credit", "down", None)
        assert [(arm["version"], arm["role"], arm["share"]) for arm in row["versions"]] == [
            (1, "champion", 0.9),
            (2, "canary", 0.1),
        ]
        page = server.get("/views/endpoint/letters")
        assert (
            page["line"] == "%aiplat traffic letters"
            and "does not run" in page["html"]
            and "aiplat deploy credit/1" in page["html"]
        )
        assert "<img" not in page["html"] and "&lt;img src=x" in page["html"]
        assert "letters" in server.get("/views/endpoint/leters", 404)["todo"]
    finally:
        with ledger.change(ws, "undeploy", subject("letters"), {}):
            pass
    assert server.get("/endpoints") == {"endpoints": [], "streams": []}


def test_a_notebook_says_what_it_asks_for_and_none_outside_is_read(server):
    found = server.get("/notebook?path=night.ipynb")["parameters"]
    assert [(each["name"], each["schema"]["type"], each["default"]) for each in found] == [
        ("n", "integer", 2),
        ("kind", "string", "a"),
    ]
    notebook(server.root.parent / "outside.ipynb", "secret = 1")
    (server.root / "link.ipynb").symlink_to(server.root.parent / "outside.ipynb")
    for path in (
        "../outside.ipynb",
        str(server.root.parent / "outside.ipynb"),
        "link.ipynb",
        "..%2Foutside.ipynb",
        "/etc/passwd",
    ):
        assert "secret" not in json.dumps(server.get(f"/notebook?path={urllib.parse.quote(path)}", 404))
    (server.root / "link.ipynb").unlink()


def test_choices(server):
    assert "sample:credit" in server.get("/choices/data")["choices"]
    assert "night.ipynb" in server.get("/choices/notebook?q=NIGHT")["choices"]
    assert "credit/1" in server.get("/choices/model")["choices"] and server.get("/choices/alias")["choices"] == [
        "production"
    ]
    assert "approved" in server.get("/choices/columns?data=sample:credit&q=app")["choices"]


# -- who may -------------------------------------------------------------------------------------------------------------------------------------


def addresses() -> list[tuple[str, str]]:
    """Every method of every route with names filled in, and the stream."""
    names = {"name": "train", "kind": "run", "id": "x", "key": "x"}
    return [
        *((route.method, route.path.format(**names)) for route in [*ROUTES, openapi.ROUTE]),
        ("GET", "/events"),
        ("GET", "/nowhere"),
    ]


def body_of(method: str) -> Any:
    return {"verb": "runs", "arguments": {}} if method == "POST" else None


def logged_in(server: Server) -> tuple[Any, str]:
    """A browser with Jupyter's cookies, and its XSRF token."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"http://127.0.0.1:{server.port}/login?token={server.token}", timeout=60).close()
    return opener, next(cookie.value or "" for cookie in jar if cookie.name == "_xsrf")


@pytest.mark.parametrize(("method", "path"), addresses())
def test_nobody_gets_in_without_a_token(server, method, path):
    for headers in (
        {},
        {"Authorization": "token wrong"},
        {"Cookie": "username-127-0-0-1=forged; _xsrf=1", "X-XSRFToken": "1"},
    ):
        found = server.ask(method, path, body_of(method), token=False, headers=headers)
        assert found.status == 403, (path, found)
        assert found.headers["Content-Type"].startswith("application/problem+json") and found.json["status"] == 403


@pytest.mark.parametrize(("method", "path"), addresses())
def test_a_page_of_another_origin_gets_nothing(server, method, path):
    opener, xsrf = logged_in(server)
    headers = {"Origin": "https://evil.example", "X-XSRFToken": xsrf}
    found = server.ask(method, path, body_of(method), token=False, headers=headers, opener=opener)
    assert found.status in (403, 404) and found.json["title"], (path, found)
    assert "Access-Control-Allow-Origin" not in found.headers


@pytest.mark.parametrize(("method", "path"), [each for each in addresses() if each[0] != "GET"])
def test_a_forged_request_changes_nothing(server, method, path):
    opener, xsrf = logged_in(server)
    before = len(server.get("/jobs")["jobs"])
    for headers in ({}, {"X-XSRFToken": "forged"}, {"Referer": "https://evil.example/"}):
        found = server.ask(method, path, body_of(method), token=False, headers=headers, opener=opener)
        assert found.status == 403, (path, headers, found)
    form = {"Content-Type": "text/plain"}  # what a form of another page can send without asking
    assert server.ask(method, path, b'{"verb": "runs"}', token=False, headers=form, opener=opener).status == 403
    assert len(server.get("/jobs")["jobs"]) == before
    good = server.ask(method, path, body_of(method), token=False, headers={"X-XSRFToken": xsrf}, opener=opener)
    assert good.status in (201, 404, 422), (path, good)


def test_the_host_of_another_name_is_refused(server):
    assert server.ask("GET", "/runs", headers={"Host": "evil.example"}).status == 403


def test_methods_that_there_are_not(server):
    for method in ("PUT", "PATCH", "DELETE"):
        assert server.ask(method, "/runs").status == 405
    assert server.get("/nowhere", 404)["todo"]


READERS = """
from jupyter_server.auth import Authorizer, IdentityProvider, User
class People(IdentityProvider):
    "Who somebody is stands in a header that only a proxy can set."
    def get_user(self, handler):
        name = handler.request.headers.get("X-Proxy-User")
        return User(name) if name else None
class Reading(Authorizer):
    "Only rosa may do things."
    def is_authorized(self, handler, user, action, resource):
        return resource != "aiplat" or action == "read" or user.username == "rosa"
"""


def test_an_authorizer_and_an_identity_provider_are_heard(tmp_path):
    workspace.create(tmp_path / "work", user="ana", roles={"risk": "rosa"})
    (tmp_path / "people_of_a_test.py").write_text(READERS)
    extra = (
        "--ServerApp.identity_provider_class=people_of_a_test.People",
        "--ServerApp.authorizer_class=people_of_a_test.Reading",
        "--ServerApp.disable_check_xsrf=True",
    )
    server = Server(tmp_path / "work", free_port(), extra=extra)
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        server.start()
        rosa, tom = {"X-Proxy-User": "rosa"}, {"X-Proxy-User": "tom"}
        assert server.ask("GET", "/", headers=rosa).json["roles"] == ["risk"]
        assert server.ask("GET", "/runs", headers=tom).status == 200
        refused = server.ask("POST", "/jobs", {"verb": "init"}, headers=tom)
        assert refused.status == 403 and "execute" in refused.json["title"]
        job = server.ask("POST", "/jobs", {"verb": "status"}, headers=rosa).json
        assert server.ask("DELETE", f"/jobs/{job['id']}", headers=tom).status == 403
        end = time.monotonic() + PATIENCE
        while (found := server.ask("GET", f"/jobs/{job['id']}", headers=tom).json)["state"] == "running":
            assert time.monotonic() < end
            time.sleep(0.1)
        assert found["result"]["user"] == "rosa" and found["user"] == "rosa"
    finally:
        os.environ.pop("PYTHONPATH")
        server.kill()


# -- jobs ----------------------------------------------------------------------------------------------------------------------------------------


def test_a_job_has_a_result_a_page_and_an_exit_code(server):
    job = server.until(server.job("data describe", data="sample:credit")["id"])
    assert job["state"] == "done" and job["exit_code"] == 0 and job["result"]["columns"]
    assert "<table>" in server.get(f"/views/job/{job['id']}")["html"]
    refused = server.until(server.job("promote", model="credit/1", to="production")["id"])
    assert refused["state"] in ("refused", "failed") and refused["problem"]["title"] and refused["view"]


def test_the_token_of_the_server_is_not_in_a_job(server):
    notebook(
        server.root / "env.ipynb",
        "x: int = 1",
        "import os\nprint(sorted(n for n in os.environ if 'TOKEN' in n and 'JUPYTER' in n))",
    )
    job = server.until(server.job("pipeline run", pipeline="env.ipynb")["id"])
    assert job["state"] == "done", job
    assert "JUPYTER_TOKEN" not in Path(job["result"]["notebook"]).read_text().replace("'JUPYTER' in n", "")


def test_a_killed_server_leaves_the_job_alone_and_its_successor_stops_it(server):
    go = server.root / "go"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.05)"
    notebook(server.root / "slow.ipynb", "n: int = 1", wait, "print('through')")
    first, second = (server.job("pipeline run", pipeline="slow.ipynb")["id"] for _ in range(2))
    for id_ in (first, second):
        end = time.monotonic() + PATIENCE
        while "cell 2" not in ((server.get(f"/jobs/{id_}").get("progress") or {}).get("text") or ""):
            assert time.monotonic() < end, server.get(f"/jobs/{id_}")
            time.sleep(0.1)
    server.kill(signal.SIGKILL)
    server.start()
    found = server.get(f"/jobs/{first}")
    assert found["state"] == "running" and found["made"]["pipeline_run"]
    stopped = server.ask("DELETE", f"/jobs/{second}").json
    assert stopped["stopping"] or stopped["state"] != "running"
    assert server.until(second)["state"] in ("stopped", "failed")
    assert server.get(f"/jobs/{first}")["state"] == "running"
    go.touch()
    done = server.until(first)
    assert done["state"] == "done" and "through" in Path(done["made"]["notebook"]).read_text()
    states = {run["id"]: run["state"] for run in server.get("/pipelines")["runs"]}
    assert states[done["made"]["pipeline_run"]] == "done" and "running" not in states.values()


def test_a_killed_job_is_told_as_what_it_is(server):
    job = server.job("scheduler run")
    process = server.root / ".aiplat" / "jobs" / job["id"] / "process.json"
    end = time.monotonic() + PATIENCE
    while not process.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(json.loads(process.read_text())["pid"], signal.SIGKILL)
    found = server.until(job["id"])
    assert found["state"] == "failed" and found["problem"]["todo"]


def test_a_workspace_is_made_from_nothing(tmp_path):
    root = tmp_path / "new"
    root.mkdir()
    server = Server(root, free_port()).start()
    try:
        assert not server.get("/")["workspace"] and server.get("/")["problem"]["todo"]
        assert server.get("/runs", 409)["todo"] and server.ask("POST", "/jobs", {"verb": "status"}).status == 409
        assert server.until(server.job("init")["id"])["state"] == "done"
        assert server.get("/")["workspace"] and server.get("/runs") == {"runs": []}
    finally:
        server.kill()


# -- the stream --------------------------------------------------------------------------------------------------------------------------------


def test_the_stream_tells_what_changes(server):
    ws = workspace.workspace(server.root)
    heard: list[tuple[str, dict[str, Any]]] = []
    ready = threading.Event()

    def listen() -> None:
        request = urllib.request.Request(server.url("/events"), headers={"Authorization": f"token {server.token}"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            event = ""
            for raw in stream:
                line = raw.decode().rstrip("\n")
                ready.set()
                event = line.partition(": ")[2] if line.startswith("event") else event
                if line.startswith("data"):
                    heard.append((event, json.loads(line.partition(": ")[2])))

    threading.Thread(target=listen, daemon=True).start()
    assert ready.wait(60)
    job = server.job("pipeline run", pipeline="night.ipynb")
    wanted = {"ledger", "jobs", "pipelines", "runs"}
    end = time.monotonic() + PATIENCE
    while True:
        ledger.append(
            ws, "note", "data:x"
        )  # something happens again and again: the first look only learns how things are
        topics = {data["topic"] for event, data in list(heard) if event == "changed"}
        states = {data["state"] for event, data in list(heard) if event == "job" and data["id"] == job["id"]}
        told = {data["state"] for event, data in list(heard) if event == "pipeline-run"}
        if wanted <= topics and "done" in states and "done" in told:
            break
        assert time.monotonic() < end, (topics, states, told)
        time.sleep(0.3)


# -- fuzzing -------------------------------------------------------------------------------------------------------------------------------------


def test_what_no_route_expects_is_refused_in_two_lines(server):
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"verb": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"verb": "runs", "x": 1}',
        b'{"verb": 3}',
        b'{"verb": "runs", "arguments": []}',
    ):
        found = server.ask("POST", "/jobs", body)
        assert found.status in (400, 422) and found.json["title"] and found.json["status"] == found.status, (
            body[:40],
            found,
        )
    hostile = (
        "\x00",
        "\ud800",
        "a" * 100_000,
        "-x",
        "--json",
        "$(id)",
        "../../etc/passwd",
        "<script>",
        "\u202e",
        "\U0001f600" * 50,
    )
    for value in hostile:
        for verb in ("train", "show", "pipeline run", "data describe"):
            name = {"train": "target", "show": "ref", "pipeline run": "pipeline", "data describe": "data"}[verb]
            found = server.ask(
                "POST",
                f"/verbs/{verb.replace(' ', '-')}/line",
                json.dumps({"arguments": {"data": "x", name: value} if verb == "train" else {name: value}}).encode(),
            )
            assert found.status in (200, 422), (verb, value[:20], found)
    for path in (
        "/runs?limit=0",
        "/runs?limit=x",
        "/runs?limit=99999999999999999999",
        "/models?before=-1",
        "/runs?before=%00",
        "/notebook?path=%ff",
        "/views/run/-x",
        "/jobs/..%2f..%2fx",
    ):
        assert server.ask("GET", path).status in (400, 404, 422), path


def test_fuzzed_requests_by_the_openapi_file_give_no_500(server, tmp_path):
    """Schemathesis makes requests that fit the file, and some that do not, for every route but the stream; verbs are not really started."""
    deep = os.environ.get("AIPLAT_CAMPAIGN")
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", server.url("/openapi.json"), "--url", server.url(""), "-H", f"Authorization: token {server.token}",
         "--checks", "not_a_server_error,content_type_conformance,response_schema_conformance", "--exclude-path", "/events", "--exclude-operation-id", "post_jobs",
         "--max-examples", "200" if deep else "8", "--seed", "7", "--phases", "examples,fuzzing", "--mode", "all", "--no-color", "--request-timeout", "60"],
        cwd=tmp_path, capture_output=True, text=True, timeout=3000 if deep else 300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# -- many ----------------------------------------------------------------------------------------------------------------------------------------


def test_ten_thousand_runs_come_in_pages(server):
    """Each once, newest first, without the trials in between; and a page reads a page, not the table."""
    import sqlite3

    ws = workspace.workspace(server.root)
    experiment, now = ws.experiment_id(), int(time.time() * 1000)
    with sqlite3.connect(ws.state / "mlflow.db", timeout=60) as database:
        rows, tags = [], []
        for number in range(60_000):
            id_ = f"{number:032x}"
            rows.append(
                (id_, f"run {number}", "ana", "FINISHED", now + number, now + number + 1, "active", experiment, "LOCAL")
            )
            tags.append(
                ("aiplat.kind", "train", id_)
                if number % 6 == 0
                else ("mlflow.parentRunId", f"{number - number % 6:032x}", id_)
            )
        columns = "run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, experiment_id, source_type"
        database.executemany(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
    seen, before = list[str](), ""
    for _ in range(4):
        page = server.get(f"/runs?limit=200&before={before}")
        seen += [run["id"] for run in page["runs"]]
        before = page["next"]
    assert seen == [f"{number:032x}" for number in range(59_994, 59_994 - 6 * 800, -6)]
    assert page["runs"][0]["trials"] == 5
    last = server.get(f"/runs?limit=200&before={6 * 3:032x}")
    assert [run["id"] for run in last["runs"]][:3] == [f"{number:032x}" for number in (12, 6, 0)] and "next" not in last
