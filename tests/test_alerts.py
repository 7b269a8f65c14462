"""Alerts arrive, once: real receivers that refuse, hang, restart or die at the wrong moment, and texts that somebody chose with care."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.server
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
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.core import ledger, workspace
from aiplat.core.settings import load_settings
from aiplat.core.workspace import Workspace
from aiplat.operations import alerts, incidents, outbox
from aiplat.operations.channels import Channel, Message, Undelivered, channels, chat, mail, send
from aiplat.operations.pipelines import tables
from aiplat.operations.pipelines.tables import RunRow, StepRow
from tests.conftest import run_cli
from tests.servers import free_port, postgres, postgres_programs

NOON = 1_793_700_000.0


# ---- receivers ------------------------------------------------------------------------------------------------------


class Hook:
    """A webhook's receiver: what it got, and what it answers (a status, or a function of the handler)."""

    def __init__(self, port: int = 0):
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[int | Callable[[Any], None]] = []
        self.path = "/hooks/T0/secret-of-the-hook"
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.got.append((self.headers["Idempotency-Key"], body))
                answer = hook.answers.pop(0) if hook.answers else 200
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
                self.end_headers()
                self.wfile.write(b"ok" if answer == 200 else b"no <b>way</b>")

            def do_GET(self) -> None:
                hook.got.append(("followed", {}))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def ids(self) -> list[str]:
        return [key for key, _ in self.got]

    @property
    def titles(self) -> list[str]:
        return [body["blocks"][0]["text"]["text"] for _, body in self.got]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.stop()


def alerting(home: Path, *lines: str, store: str = "sqlite") -> Workspace:
    """A workspace whose [alerts] has these lines."""
    workspace.create(home, user="ana", store=store)
    file = home / "settings.ini"
    file.write_text(file.read_text() + "\n[alerts]\n" + "\n".join(lines) + "\n")
    return workspace.workspace(home)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Hook) -> Workspace:
    """A workspace whose alerts go to the webhook."""
    monkeypatch.chdir(tmp_path)
    return alerting(tmp_path, f"webhook = {hook.url}")


def run_id(number: int) -> str:
    return f"{number:012x}{'0' * 20}"


def end_run(ws: Workspace, number: int, state: str, steps: list[StepRow] | None = None, **changes: Any) -> RunRow:
    """A run ends: the call that the engine makes, in a transaction."""
    row: dict[str, Any] = {
        "id": run_id(number), "pipeline": "nightly", "file": "nightly.toml", "digest": "d", "parameters": {},
        "moment": {"logical_date": f"2026-11-{number % 28 + 1:02d}T02:00:00+01:00"}, "cause": "schedule", "schedule": "nightly",
        "fire_time": NOON, "options": {}, "state": state, "reason": "", "error": None, "actor": "ana", "created": NOON,
        "started": NOON, "ended": NOON + 60 * number, "driver": None, "beat": None, "cancel_asked": None, "mlflow_run": "",
        "notes": [],
    }  # fmt: skip
    run = RunRow(**{**row, **changes})
    with tables.transaction(ws) as connection:
        alerts.ended(ws, connection, run, steps or [])
    return run


def deliver(ws: Workspace, now: float | None = None) -> int:
    """Deliver, and wait until that is done."""
    return alerts.deliver(ws, now, wait=None)


def broken(run: str = "", **error: Any) -> StepRow:
    what = {
        "kind": "cell",
        "what": "ValueError: no rows",
        "todo": "mend the cell",
        "cell": 4,
        "line": "model.fit(X)",
        **error,
    }
    return StepRow(run, "train[segment=north]", 1, "nightly", "train", 1, "failed", error=what)


def state_of(ws: Workspace) -> list[tuple[str, str, int]]:
    """Event, state and attempts of every message."""
    found = incidents.read_incidents(ws)
    return [(m["event"], m["state"], m["attempts"]) for m in incidents.read_messages(ws, [each.id for each in found])]


# ---- once per incident ----------------------------------------------------------------------------------------------


def test_three_failed_nights_are_one_message_and_the_fourth_tells_of_them(told: Workspace, hook: Hook) -> None:
    for number, state in enumerate(["failed", "cancelled", "failed", "failed", "skipped"]):
        end_run(told, number, state, [broken()] if state == "failed" else [])
        deliver(told, NOON + 10_000)
    assert hook.titles == ["✗ nightly failed in step train[segment=north]"]
    text = hook.got[0][1]["text"]
    for part in ("nightly", "2026-11-01T02:00", "cell: 4: model.fit(X)", "ValueError: no rows", "mend the cell"):
        assert part in text, f"{part} is not in the message"
    assert f"aiplat pipeline resume {0:012x}" in text
    (incident,) = incidents.read_incidents(told, open_only=True)
    assert (incident.count, incident.run, incident.last_run) == (3, run_id(0), run_id(3))
    end_run(told, 9, "done")
    assert deliver(told, NOON + 10_000) == 1 and deliver(told, NOON + 20_000) == 0
    assert hook.titles[1:] == ["✓ nightly works again after 3 failures"]
    end_run(told, 10, "failed", [broken()])
    assert deliver(told, NOON + 20_000) == 1, "a new incident after the recovery is told"
    assert len(set(hook.ids)) == 3


def test_runs_by_hand_and_other_schedules_are_incidents_of_their_own(told: Workspace) -> None:
    for schedule in ("nightly", "", "weekly"):
        end_run(told, 1, "failed", schedule=schedule)
    end_run(told, 2, "done", schedule="")
    names = {each.name for each in incidents.read_incidents(told, open_only=True)}
    assert names == {"pipeline:nightly@nightly", "pipeline:nightly@weekly"}


def test_an_interrupted_run_that_is_taken_up_again_wakes_nobody(told: Workspace, hook: Hook) -> None:
    end_run(told, 1, "interrupted")
    deliver(told, NOON + 61)
    end_run(told, 1, "done")
    deliver(told, NOON + 10_000)
    assert hook.got == [] and [state for _, state, _ in state_of(told)] == ["dropped"]
    end_run(told, 2, "interrupted")
    end_run(told, 2, "failed", [broken()])
    deliver(told, NOON + 121)
    assert len(hook.got) == 1, "a failure is told at once, also when an interruption came before it"
    assert incidents.read_incidents(told, open_only=True)[0].count == 1


def test_a_run_that_rolls_back_leaves_no_incident(told: Workspace) -> None:
    run = RunRow(**{**vars(end_run(told, 1, "cancelled")), "state": "failed"})
    with pytest.raises(RuntimeError), tables.transaction(told) as connection:
        alerts.ended(told, connection, run, [])
        raise RuntimeError  # what the engine wrote in the same transaction could not be written
    assert incidents.read_incidents(told) == [] and deliver(told, NOON + 100) == 0


def test_settings_say_what_is_told(tmp_path: Path, hook: Hook) -> None:
    ws = alerting(tmp_path, f"webhook = {hook.url}", "on = recovery")
    end_run(ws, 1, "failed")
    end_run(ws, 2, "done")
    deliver(ws, NOON + 10_000)
    assert hook.got == [] and len(incidents.read_incidents(ws)) == 1, (
        "nobody heard of the failure, so nobody hears of its end"
    )


def test_lateness_is_told_once_and_the_late_success_ends_it(told: Workspace, hook: Hook) -> None:
    run = RunRow(
        **{**vars(end_run(told, 1, "cancelled")), "state": "running", "ended": None, "options": {"late": 3600}}
    )
    with tables.transaction(told) as connection:
        connection.execute(tables.runs_table().insert().values(**vars(run)))
    for seconds in (3599, 3601, 3602):
        alerts.late(told, NOON + seconds)
        deliver(told, NOON + seconds)
    assert len(hook.titles) == 1 and "late: still running" in hook.titles[0]
    with tables.transaction(told) as connection:
        connection.execute(tables.runs_table().update().values(state="done", ended=NOON + 7200))
    end_run(told, 1, "done", ended=NOON + 7200)
    alerts.late(told, NOON + 7300)
    deliver(told, NOON + 7300)
    assert hook.titles[1:] == ["✓ nightly is done, 2 h after its time"]


def test_the_file_of_the_pipeline_says_what_is_late_and_else_the_settings(tmp_path: Path) -> None:
    import nbformat

    ws = alerting(tmp_path, "late = 3h")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "step.ipynb")
    for name, line in (("quick", 'late = "1h"'), ("slow", "")):
        file = tmp_path / "pipelines" / f"{name}.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'{line}\n[steps.one]\nnotebook = "../step.ipynb"\n')
        run = end_run(ws, 1, "cancelled", pipeline=name, schedule=name, file=str(file), ended=None)
        run = RunRow(**{**vars(run), "id": name.ljust(32, "0"), "state": "queued"})
        with tables.transaction(ws) as connection:
            connection.execute(tables.runs_table().insert().values(**vars(run)))
    found = []
    for hours in (0.9, 1.1, 2.9, 3.1):
        alerts.late(ws, NOON + 3600 * hours)
        found.append({each.name for each in incidents.read_incidents(ws, open_only=True)})
    quick, slow = "pipeline:quick@quick", "pipeline:slow@slow"
    assert found == [set(), {quick}, {quick}, {quick, slow}]


DELIVER = """
import sys, time
from aiplat.core.workspace import workspace
from aiplat.operations import alerts
ws = workspace(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    alerts.deliver(ws, float(sys.argv[2]), wait=None)
"""


# ---- receivers that do not answer as they should --------------------------------------------------------------------


def test_a_refused_message_waits_longer_each_time_and_is_given_up(told: Workspace, hook: Hook) -> None:
    hook.answers = [500] * outbox.ATTEMPTS
    end_run(told, 1, "failed", [broken()])
    now, pauses = NOON + 100, []
    for _ in range(outbox.ATTEMPTS):
        deliver(told, now)
        (message,) = incidents.read_messages(told, [incidents.read_incidents(told)[0].id])
        pauses.append(round(message["due"] - now, -1))
        assert deliver(told, now + 1) == 0 and message["last_error"].startswith("127.0.0.1")
        now = message["due"] + 1
    assert message["state"] == "failed" and len(hook.got) == outbox.ATTEMPTS and len(set(hook.ids)) == 1
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert deliver(told, now + 1e6) == 0, "a message that was given up is not sent"
    listed = run_cli("alerts", "list", cwd=told.root).stdout
    assert "500" in listed and "10 attempts" in listed and "secret-of-the-hook" not in listed


def test_a_receiver_that_restarts_gets_what_waited(told: Workspace, hook: Hook) -> None:
    hook.stop()
    end_run(told, 1, "failed", [broken()])
    assert deliver(told, NOON + 100) == 0 and state_of(told) == [("opened", "waiting", 1)]
    end_run(told, 2, "done")
    assert [event for event, _, _ in state_of(told)] == ["opened", "recovered"]
    again = Hook(hook.port)
    try:
        assert deliver(told, NOON + 500) == 1, "the recovery waits for the message about what it ends"
        assert deliver(told, NOON + 501) == 1
        assert [title[0] for title in again.titles] == ["✗", "✓"]
    finally:
        again.stop()


def test_a_redirect_is_no_success_and_is_not_followed(told: Workspace, hook: Hook) -> None:
    hook.answers = [302]
    end_run(told, 1, "failed")
    deliver(told, NOON + 100)
    assert state_of(told) == [("opened", "waiting", 1)] and "followed" not in hook.ids


def test_a_receiver_that_says_when_to_come_back_is_obeyed(told: Workspace, hook: Hook) -> None:
    def busy(handler: Any) -> None:
        handler.send_response(429)
        handler.send_header("Retry-After", "600")
        handler.end_headers()

    hook.answers = [busy]
    end_run(told, 1, "failed")
    deliver(told, NOON + 100)
    assert deliver(told, NOON + 650) == 0 and deliver(told, NOON + 760) == 1


def test_receivers_that_hang_or_drip_are_left(hook: Hook) -> None:
    over = threading.Event()

    def drip(handler: Any) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not over.wait(0.05):
                handler.wfile.write(b".")
                handler.wfile.flush()

    way = Channel("webhook", "127.0.0.1", hook.url)
    message = Message("m", "test", "hello")
    hook.answers = [lambda _: over.wait(), drip]
    with pytest.raises(Undelivered, match=r"timed out|no answer"):
        send(way, message, timeout=0.3)
    with pytest.raises(Undelivered, match="no answer within"):
        send(way, message, timeout=5, altogether=1)
    over.set()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "hooks.example.com/x", "https://", "http://[::1/x"]
)
def test_only_web_addresses_are_webhooks(tmp_path: Path, url: str) -> None:
    ws = alerting(tmp_path, f"webhook = {url}")
    (way,) = channels(ws.settings)
    assert "line" in way.fault
    with pytest.raises(Undelivered):
        send(way, Message("m", "test", "hello"))


def test_a_hanging_receiver_holds_nobody_up(told: Workspace, hook: Hook) -> None:
    over = threading.Event()
    hook.answers = [lambda handler: (over.wait(60), handler.send_response(200), handler.end_headers())]
    end_run(told, 1, "failed")
    assert alerts.deliver(told, NOON + 100, wait=0.05) == 0, "the sending goes on in a thread"
    assert alerts.deliver(told, NOON + 100) == 0 and not over.is_set(), "and is not begun twice"
    over.set()
    outbox._senders[told.state].join(60)
    assert state_of(told) == [("opened", "sent", 1)] and len(hook.got) == 1


def test_a_process_that_ends_sends_what_it_began(told: Workspace, hook: Hook) -> None:
    end_run(told, 1, "failed")
    code = DELIVER.replace("wait=None", "wait=0")
    done = subprocess.run(
        [sys.executable, "-c", code, str(told.root), str(NOON + 100), "1"], stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 0 and len(hook.got) == 1 and state_of(told) == [("opened", "sent", 1)]


# ---- two at once, and deaths ----------------------------------------------------------------------------------------


def deliverer(ws: Workspace, now: float, rounds: int = 1) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", DELIVER, str(ws.root), str(now), str(rounds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def each_message_once(ws: Workspace, hook: Hook) -> None:
    for number in range(12):
        end_run(ws, number, "failed", [broken()], pipeline=f"p{number}")
    hook.answers = [lambda handler: (time.sleep(0.05), handler.send_response(200), handler.end_headers())] * 12  # type: ignore[list-item]
    processes = [deliverer(ws, NOON + 10_000, rounds=3) for _ in range(3)]
    for process in processes:
        go(process)
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(hook.ids) == 12 and len(set(hook.ids)) == 12
    assert {state for _, state, _ in state_of(ws)} == {"sent"}


def test_three_processes_deliver_each_message_once(told: Workspace, hook: Hook) -> None:
    each_message_once(told, hook)


def open_together(ws: Workspace) -> None:
    """Eight threads see the same pipeline fail at the same moment."""
    start, wrong = threading.Barrier(8), []

    def fail(number: int) -> None:
        start.wait()
        try:
            end_run(ws, number, "failed")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=fail, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    (incident,) = incidents.read_incidents(ws)
    assert incident.count == 8 and len(incidents.read_messages(ws, [incident.id])) == 1


def test_eight_failures_at_once_open_one_incident(told: Workspace) -> None:
    open_together(told)


@pytest.mark.skipif(
    not postgres_programs(), reason="PostgreSQL's server is not installed: alerts are tested on SQLite only"
)
def test_the_same_on_postgresql(tmp_path: Path, hook: Hook) -> None:
    with postgres(tmp_path / "pg") as server:
        ws = alerting(tmp_path / "one", f"webhook = {hook.url}", store=server.create("one"))
        open_together(ws)
        assert deliver(ws, NOON + 10_000) == 1
        end_run(ws, 20, "done")
        assert deliver(ws, NOON + 10_000) == 1 and "works again after 8" in hook.titles[-1]
        hook.got.clear()
        each_message_once(alerting(tmp_path / "two", f"webhook = {hook.url}", store=server.create("two")), hook)


def test_death_between_sending_and_noting_sends_again_later_with_the_same_id(told: Workspace, hook: Hook) -> None:
    end_run(told, 1, "failed", [broken()])
    process = deliverer(told, NOON + 100)
    hook.answers = [lambda _: os.kill(process.pid, signal.SIGKILL)]  # it has arrived; its sender never hears of it
    go(process)
    assert process.wait(60) == -signal.SIGKILL
    assert state_of(told) == [("opened", "waiting", 1)]
    assert deliver(told, NOON + 100 + outbox.CLAIM / 2) == 0, "the claim of the dead process still holds"
    assert deliver(told, NOON + 100 + 2 * outbox.CLAIM) == 1
    assert len(hook.ids) == 2 and len(set(hook.ids)) == 1


def test_deliver_never_raises(told: Workspace, hook: Hook) -> None:
    end_run(told, 1, "failed")
    deliver(told, NOON)
    with tables.transaction(told) as connection:
        connection.exec_driver_sql("ALTER TABLE aiplat_outbox RENAME TO elsewhere")
    assert deliver(told, NOON + 100) == 0
    with tables.transaction(told) as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO aiplat_outbox")
    assert deliver(told, NOON + 100) == 1 and len(hook.got) == 1


# ---- mail -----------------------------------------------------------------------------------------------------------


class Mailbox:
    """What a mail server has taken."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.refuse: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refuse:
            return "550 nobody of this name"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append(
            (envelope.mail_from, envelope.rcpt_tos, letter, session.ssl is not None, session.authenticated)
        )
        return "250 taken"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]),
    )
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    )
    since = datetime.now(UTC) - timedelta(days=1)
    builder = builder.not_valid_before(since).not_valid_after(since + timedelta(days=30))
    made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(
        key, hashes.SHA256()
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    kind = serialization
    file.write_bytes(
        made.public_bytes(kind.Encoding.PEM)
        + key.private_bytes(kind.Encoding.PEM, kind.PrivateFormat.PKCS8, kind.NoEncryption())
    )
    return file


@contextlib.contextmanager
def mail_server(box: Mailbox, certificate: Path | None = None, *, tls: str = "", password: str = "") -> Iterator[int]:
    """A mail server on this machine; ``tls`` is empty, ``start`` or ``always``."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (b"mailer", password.encode())
        return AuthResult(success=good, handled=False)

    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    # its thread has begun when it says so; five seconds, as it comes, are not enough for one that gets no CPU
    options: dict[str, Any] = {"hostname": "localhost", "port": free_port(), "ready_timeout": 120}
    if password:
        options |= {"authenticator": check, "auth_required": True, "auth_require_tls": tls == "start"}
    if tls == "start":
        options |= {"tls_context": context, "require_starttls": True}
    elif tls == "always":
        options |= {"ssl_context": context}
    controller = Controller(box, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def test_a_mail_over_the_whole_way(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        ws = alerting(
            tmp_path,
            f"smtp = smtp://localhost:{port}",
            "email = ops@bank.example, risk@bank.example",
            "sender = ai@bank.example",
        )
        end_run(ws, 1, "failed", [broken(what="ValueError: <script>alert(1)</script> & co")])
        assert deliver(ws, NOON + 100) == 1
        end_run(ws, 2, "done")
        assert deliver(ws, NOON + 200) == 1
    (sender, recipients, letter, _, _), (_, _, answer, _, _) = box.letters
    assert sender == "ai@bank.example" and recipients == ["ops@bank.example", "risk@bank.example"]
    assert letter["Subject"] == "[aiplat] nightly failed in step train[segment=north]"
    assert letter["Auto-Submitted"] == "auto-generated" and letter["Date"]
    assert (
        "<script>" in letter.get_body(("plain",)).get_content()
        and "<script>" not in letter.get_body(("html",)).get_content()
    )
    assert "aiplat pipeline resume" in letter.get_body(("plain",)).get_content()
    assert answer["In-Reply-To"] == letter["Message-ID"] != answer["Message-ID"]
    assert "works again after 1 failure" in answer["Subject"]


@pytest.mark.parametrize("tls", ["start", "always"])
def test_mail_with_tls_and_password(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    box, password = Mailbox(), "p@ss/w#rd: 1%"
    with mail_server(box, certificate, tls=tls, password=password) as port:
        scheme = "smtps" if tls == "always" else "smtp"
        monkeypatch.setenv("MAIL_PASSWORD", password)
        ws = alerting(
            tmp_path, f"smtp = {scheme}://mailer:${{MAIL_PASSWORD}}@localhost:{port}", "email = ops@bank.example"
        )
        (way,) = channels(ws.settings)
        with pytest.raises(Undelivered, match=r"(?i)certificate"):
            send(way, Message("m", "test", "hello"))  # nobody vouches for the server yet
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert send(way, Message("m", "test", "hello")) == "accepted by localhost"
        (*_, encrypted, known) = box.letters[0]
        assert known and (encrypted or tls == "always")  # the second server speaks nothing but TLS
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        (way,) = channels(load_settings(tmp_path))
        with pytest.raises(Undelivered, match="535") as refusal:
            send(way, Message("m", "test", "hello"))
        assert "wrong" not in str(refusal.value)


def test_a_password_is_not_sent_in_clear_text_to_another_machine(tmp_path: Path) -> None:
    said: list[bytes] = []
    with socket.create_server(("127.0.0.2", 0)) as server:  # an address that is not known to be this machine's

        def talk() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb", buffering=0) as file:
                file.write(b"220 hello\r\n")
                while line := file.readline():
                    said.append(line)
                    file.write(
                        b"250-here\r\n250 AUTH PLAIN LOGIN\r\n" if line.lower().startswith(b"ehlo") else b"221 bye\r\n"
                    )

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        ws = alerting(
            tmp_path, f"smtp = smtp://mailer:secret@127.0.0.2:{server.getsockname()[1]}", "email = ops@bank.example"
        )
        (way,) = channels(ws.settings)
        with pytest.raises(Undelivered, match="offers no TLS"):
            send(way, Message("m", "test", "hello"))
        thread.join(10)
    assert said and not any(line.upper().startswith(b"AUTH") for line in said)


def test_recipients_that_are_refused_are_named(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        ws = alerting(tmp_path, f"smtp = smtp://localhost:{port}", "email = ops@bank.example, gone@bank.example")
        (way,) = channels(ws.settings)
        box.refuse = {"gone@bank.example"}
        assert "except for gone@bank.example" in send(way, Message("m", "test", "hello"))
        box.refuse.add("ops@bank.example")
        with pytest.raises(Undelivered, match="550"):
            send(way, Message("m", "test", "hello"))


def test_a_machine_without_the_password_leaves_the_message_to_one_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Mailbox()
    with mail_server(box, password="pw") as port:
        ws = alerting(tmp_path, f"smtp = smtp://mailer:${{MAIL_PASSWORD}}@localhost:{port}", "email = ops@bank.example")
        end_run(ws, 1, "failed")
        assert deliver(ws, NOON + 100) == 0
        assert state_of(ws) == [("opened", "waiting", 0)]
        assert "MAIL_PASSWORD" in run_cli("alerts", "list", cwd=tmp_path).stdout
        monkeypatch.setenv("MAIL_PASSWORD", "pw")
        assert deliver(workspace.workspace(tmp_path), NOON + 101) == 1
        assert len(box.letters) == 1


# ---- texts that somebody chose with care ----------------------------------------------------------------------------

SLACK = ("<!channel>", "<!here>", "<@U123>", "<https://evil.example|click>")


@given(st.text(max_size=300), st.text(max_size=2000), st.sampled_from(SLACK))
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_out_of_a_message(name: str, error: str, mention: str) -> None:
    message = Message.of(
        {
            "id": "i",
            "kind": "failure",
            "title": f"{name}{mention}",
            "facts": {name: error, "x\r\ny": mention},
            "lines": [error, mention],
        }
    )
    body = json.loads(json.dumps(chat(message)))
    assert "<" not in body["text"] and ">" not in body["text"]
    assert all(block["text"]["type"] == "plain_text" for block in body["blocks"])
    assert len(body["blocks"][0]["text"]["text"]) <= 150 and all(
        len(block["text"]["text"]) <= 3000 for block in body["blocks"]
    )
    letter = email.message_from_bytes(
        mail(message, "a@b.example", ("c@d.example",)).as_bytes(), policy=email.policy.default
    )
    known = {
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "X-Aiplat-Kind",
        "MIME-Version",
        "Content-Type",
    }
    assert set(letter.keys()) == known
    assert "<" + mention[1:] not in letter.get_body(("html",)).get_content()


def test_the_address_of_the_webhook_is_nowhere(told: Workspace, hook: Hook) -> None:
    hook.answers = [404]
    end_run(told, 1, "failed", [broken()])
    deliver(told, NOON + 100)
    deliver(told, NOON + 500)
    listed = run_cli("alerts", "list", "--json", cwd=told.root).stdout
    assert "127.0.0.1" in listed and "secret-of-the-hook" not in listed
    for file in told.path("x").parent.glob("ledger.db*"):
        assert b"secret-of-the-hook" not in file.read_bytes()


# ---- monitors and verbs ---------------------------------------------------------------------------------------------


def test_alerts_of_monitors_are_told_once_and_can_be_waited_for(told: Workspace, hook: Hook) -> None:
    seen = [alerts.raise_alert(told, "drift:scores", f"PSI is 0.3{number}", {"psi": 0.3}) for number in range(3)]
    deliver(told)
    assert len(set(seen)) == 1 and hook.titles == ["! drift:scores: PSI is 0.30"]
    (incident,) = alerts.alerts_since(told, "drift:scores", 0)
    assert incident.context()["parameters"] == {"psi": 0.3}
    assert alerts.clear_alert(told, "drift:scores", "PSI is 0.05") and not alerts.clear_alert(told, "drift:scores")
    deliver(told)
    assert hook.titles[1:] == ["✓ drift:scores is well again"]
    assert alerts.raise_alert(told, "drift:scores", "again") != seen[0]
    assert [each.id for each in alerts.alerts_since(told, "drift:scores", incident.opened)] == [
        incidents.read_incidents(told)[0].id
    ]


def test_a_figure_of_any_column_can_be_an_alert(told: Workspace) -> None:
    from aiplat.operations.monitoring.alerting import alert_name

    columns = ["hours worked", "hours  worked", "hours\tworked", "h" * 300, "h" * 299 + "x"]
    names = [alert_name("loans", f"missing.{column}") for column in columns]
    assert len({alerts.raise_alert(told, name, "0.3 are missing") for name in names}) == len(columns)
    assert all(alerts.clear_alert(told, name) for name in names)


def test_verbs_of_whoever_is_on_call(told: Workspace, hook: Hook) -> None:
    assert "nothing is wrong" in run_cli("alerts", "list", cwd=told.root).stdout
    good = run_cli("alerts", "test", cwd=told.root)
    assert "200 ok" in good.stdout and "secret-of-the-hook" not in good.stdout and len(hook.got) == 1
    hook.answers = [403]
    bad = run_cli("alerts", "test", cwd=told.root, check=False)
    assert bad.returncode == 1 and "403" in bad.stdout
    end_run(told, 1, "failed", [broken()])
    deliver(told, NOON + 100)
    (shown,) = json.loads(run_cli("alerts", "list", "--json", cwd=told.root).stdout)["incidents"]
    assert shown["command"] == f"aiplat pipeline resume {1:012x}" and shown["messages"][0]["state"] == "sent"
    before = len(hook.got)
    run_cli("alerts", "close", shown["id"][:8], "--reason", "the pipeline is retired", cwd=told.root)
    deliver(told, NOON + 1e6)
    assert len(hook.got) == before and incidents.read_incidents(told, open_only=True) == []
    (entry,) = ledger.entries(told, action="alerts close")
    assert entry.body["reason"] == "the pipeline is retired" and ledger.breaks(told) == []
    wrong = run_cli("alerts", "close", "zz", cwd=told.root, check=False)
    assert wrong.returncode == 1 and "no open incident" in wrong.stderr


def test_without_channels_the_verbs_say_so(tmp_path: Path) -> None:
    workspace.create(tmp_path)
    assert "nobody is told" in run_cli("alerts", "list", cwd=tmp_path).stdout
    refused = run_cli("alerts", "test", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and "[alerts]" in refused.stderr
