"""Streams with real servers and real processes: killed at any moment, none lost; dead letters, lag, good order."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiplat.core import ledger
from aiplat.core.errors import UsageError, UserError
from tests import warm
from tests.servers import free_port

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: pip install 'aiplat[streams]'")
CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))
needs_redis = pytest.mark.skipif(
    not shutil.which("redis-server"), reason="there is no redis-server here: apt-get install redis-server"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A workspace with credit/1 in production and credit/2, both prepared to answer."""
    from aiplat.data.sample import credit
    from aiplat.release import registry
    from aiplat.training.runs import log_run
    from tests.test_batch import model_in

    before = os.environ.get("AIPLAT_HOME")
    ws = model_in(tmp_path_factory.mktemp("streams"))
    frame = credit(rows=400, seed=5)
    features = [name for name in frame if name != "approved"]
    from aiplat.core.refs import load_model

    model = load_model(ws, "credit/1")
    about = {"task": "binary", "target": "approved", "positive": "1", "features": features}
    log_run(ws, "train", model.fit(frame[features], frame["approved"]), train=frame[:300], test=frame[300:], **about)
    registry.register("last", "credit")
    yield ws
    os.environ.pop("AIPLAT_HOME") if before is None else os.environ.__setitem__("AIPLAT_HOME", before)


@pytest.fixture
def here(home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIPLAT_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    """librdkafka's cluster for tests; it lives as long as its producer, and has real sockets."""
    from confluent_kafka import Producer

    host = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "nobody:1", "log_level": 0})
    yield ",".join(f"{each.host}:{each.port}" for each in host.list_topics(timeout=20).brokers.values())
    del host


class Redis:
    """A Redis server that keeps what it acknowledges, and can be stopped and started."""

    def __init__(self, folder: Path):
        self.folder, self.process, self.port = folder, None, free_port()

    def start(self) -> None:
        import redis

        words = [
            "redis-server",
            "--port",
            str(self.port),
            "--dir",
            str(self.folder),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]
        self.process = subprocess.Popen(
            [*words, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(redis.RedisError):
                if self.client().ping():
                    return
            time.sleep(0.05)
        raise RuntimeError("redis-server did not start")

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port)

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(20)

    def uri(self, name: str) -> str:
        return f"redis://127.0.0.1:{self.port}/{name}"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    place = tmp_path / "redis"
    place.mkdir()
    server = Redis(place)
    server.start()
    yield server
    server.stop()


def messages(count: int, seed: int = 3) -> list[bytes]:
    """People as JSON; every 500th is none."""
    from aiplat.data.sample import credit

    rows = credit(rows=min(count, 2000), seed=seed).drop(columns="approved")
    some = [json.loads(line) for line in rows.to_json(orient="records", lines=True).splitlines()]
    return [b"{" if n % 500 == 499 else json.dumps({**some[n % len(some)], "who": n}).encode() for n in range(count)]


@contextlib.contextmanager
def streaming(*words: str) -> Iterator[subprocess.Popen[str]]:
    """``aiplat stream run`` in a process of its own."""
    pipe = subprocess.PIPE
    process = warm.begin(["stream", "run", *words], stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(ready: Any, process: subprocess.Popen[str] | None = None, seconds: float = 150) -> Any:
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert process is None or process.poll() is None, process.communicate()  # type: ignore[union-attr]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def produce(brokers: str, topic: str, values: list[bytes], first: int = 0) -> None:
    """Messages, their keys numbered from the first one's on."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers, "acks": "all", "message.max.bytes": 2_000_000})
    for number, value in enumerate(values, first):
        producer.produce(topic, value, str(number).encode())
        producer.poll(0)
    assert producer.flush(60) == 0


def drained(brokers: str, topic: str) -> list[tuple[str, bytes, bytes]]:
    """Everything in a topic: the header id, the key and the value."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "enable.auto.commit": False})
    about = consumer.list_topics(topic, timeout=20).topics[topic]
    ends = {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)[1]
        for number in about.partitions
    }
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    out, count = [], sum(ends.values())
    until(lambda: len(out.extend(consumer.consume(5000, timeout=1.0)) or out) >= count)
    consumer.close()
    return [(dict(each.headers())["id"].decode(), each.key(), each.value()) for each in out]


def waiting(name: str) -> int:
    """What `stream status` says is left."""
    from aiplat.release.stream import status

    (line,) = status(name).streams
    return -1 if line.lag is None else sum(line.lag.values())


# ---------------------------------------------------------------- Kafka


def test_kafka_killed_anywhere_loses_nothing(here, brokers: str) -> None:
    from aiplat.release.stream import status

    count, kills = (20_000, 6) if CAMPAIGN else (6_000, 2)
    # some come before each kill: nothing is over before the last one
    came, part = messages(count), count // (kills + 1)
    words = [
        "credit",
        "--from",
        f"kafka://{brokers}/people",
        "--to",
        f"kafka://{brokers}/said",
        "--name",
        "first",
        "--batch",
        "200",
        "--keep",
        "who",
    ]

    def done() -> int:
        return max((report.answered + report.buried for report in reports()), default=0)

    def reports() -> list[Any]:
        from aiplat.release.streaming.running import reports as read

        return [report for report in read(here.path("streams", "first")) if report.lives]

    from confluent_kafka import Consumer, TopicPartition

    reader = Consumer({"bootstrap.servers": brokers, "group.id": "looker"})

    def out() -> int:
        about = reader.list_topics("said", timeout=20).topics["said"]
        return sum(
            reader.get_watermark_offsets(TopicPartition("said", number), timeout=20)[1] for number in about.partitions
        )

    for kill in range(kills):
        produce(brokers, "people", came[part * kill : part * (kill + 1)], part * kill)
        before = out()
        with streaming(*words) as process:
            until(lambda before=before, kill=kill: out() >= before + 700 + 137 * kill, process)
            os.killpg(process.pid, signal.SIGKILL)
    assert done() == 0, "nothing lives"
    produce(brokers, "people", came[part * kills :], part * kills)
    with streaming(*words, "--idle", "4") as process:
        _, wrong = process.communicate(timeout=200)
    assert process.returncode == 0, wrong
    answers, dead = drained(brokers, "said"), drained(brokers, "said.dead")
    ids, buried = Counter(number for number, _, _ in answers), Counter(number for number, _, _ in dead)
    assert len(ids) == count - count // 500 and len(buried) == count // 500, (
        "each message has an answer or is a dead letter"
    )
    assert not ids.keys() & buried.keys()
    by_id: dict[str, bytes] = {}
    for number, key, value in answers:
        assert by_id.setdefault(number, value) == value, "an answer that is there twice is the same to the last byte"
        body = json.loads(value)
        assert (
            body["id"] == number
            and str(body["who"]).encode() == key
            and body["model"] == "credit"
            and body["version"] == 1
        )
    assert {json.loads(value)["who"] for _, _, value in answers} == {n for n in range(count) if n % 500 != 499}
    assert "it is no JSON" in json.loads(dead[0][2])["reason"] and json.loads(dead[0][2])["value"] == "{"
    twice = sum(times - 1 for times in ids.values())
    assert twice <= 200 * kills, "at most the batch in hand is answered again for each kill"
    assert waiting("first") == 0 and status("first").streams[0].processes == 0
    mine = [entry for entry in ledger.entries(here, action="stream") if entry.subject.startswith("stream:first/")]
    assert [entry.phase for entry in mine].count("recovered") == kills and mine[-1].phase == "done"
    assert not [entry for entry in ledger.unfinished(here) if entry.action == "stream"]


def test_kafka_into_a_table_each_answer_once(here, brokers: str) -> None:
    """Offsets that were never committed, as after a kill at the worst moment: a table has each answer once."""
    from aiplat.release.stream import run
    from aiplat.release.streaming import kafka

    produce(brokers, "applicants", messages(1000))
    table = f"sqlite:{Path.cwd() / 'bank.db'}?table=answers"
    words: dict[str, Any] = {
        "from_": f"kafka://{brokers}/applicants",
        "to": table,
        "name": "table",
        "batch": 100,
        "limit": 1000,
    }
    commit = kafka.KafkaSource.done
    kafka.KafkaSource.done = lambda self, messages: None  # type: ignore[method-assign]
    try:
        first = run("credit", **words)
    finally:
        kafka.KafkaSource.done = commit  # type: ignore[method-assign]
    assert first.answered == 998 and first.buried == 2 and first.left == 1000
    second = run("credit", **words)
    assert second.answered == 998 and second.left == 0
    with contextlib.closing(sqlite3.connect("bank.db")) as bank:
        assert bank.execute(
            "SELECT count(*), count(DISTINCT id), min(model), max(version) FROM answers"
        ).fetchone() == (998, 998, "credit", 1)
        assert bank.execute("SELECT count(*), count(DISTINCT id) FROM answers_dead").fetchone() == (2, 2)


def answered(folder: Path) -> list[int]:
    """How much each process of a stream has answered, as each says of itself."""
    return [json.loads(file.read_text())["answered"] for file in folder.glob("*.json")]


def test_two_processes_share_a_topic_and_stop_in_good_order(here, brokers: str) -> None:
    from aiplat.release.stream import status

    some = messages(2000)
    produce(brokers, "shared", some[:200])
    words = [
        "credit",
        "--from",
        f"kafka://{brokers}/shared",
        "--to",
        f"kafka://{brokers}/shared.said",
        "--name",
        "shared",
        "--batch",
        "100",
    ]
    with streaming(*words) as one, streaming(*words) as other:
        until(
            lambda: (
                status("shared").streams and status("shared").streams[0].processes == 2
                if here.path("streams", "shared").exists()
                else False
            ),
            one,
        )
        # while the second joins, partitions change hands, and a broker may refuse the commit of what was just answered: at least once. Both have
        # joined when both have answered something that came while both were there.
        sent = 200
        while sum(count > 0 for count in answered(here.path("streams", "shared"))) < 2:
            produce(brokers, "shared", some[sent : sent + 30])
            sent += 30
            assert sent < 1000, "one of the two answers nothing"
            until(lambda: waiting("shared") == 0, one)
        before = {number for number, _, _ in drained(brokers, "shared.said")}
        produce(brokers, "shared", some[sent:])
        until(lambda: waiting("shared") == 0, one)
        for process in (one, other):
            process.send_signal(signal.SIGTERM)
        ends = [process.communicate(timeout=60) for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], ends
    ids = Counter(number for number, _, _ in drained(brokers, "shared.said"))
    assert len(ids) == 1996 and len(before) < 1000
    assert {ids[number] for number in ids if number not in before} == {1}, "without a kill, nothing is answered twice"
    phases = [
        entry.phase for entry in ledger.entries(here, action="stream") if entry.subject.startswith("stream:shared/")
    ]
    assert sorted(phases) == ["done", "done", "intent", "intent"]


# ---------------------------------------------------------------- Redis


@needs_redis
def test_redis_killed_anywhere_each_answer_once(here, redis_server: Redis) -> None:
    count, kills = (20_000, 6) if CAMPAIGN else (5_000, 2)
    came, part, raw = messages(count), count // (kills + 1), redis_server.client()

    def come(some: list[bytes]) -> None:
        pipe = raw.pipeline()
        for value in some:
            pipe.xadd("people", {"data": value})
        pipe.execute()

    words = [
        "credit",
        "--from",
        redis_server.uri("people"),
        "--to",
        redis_server.uri("said"),
        "--name",
        "red",
        "--batch",
        "100",
    ]
    for kill in range(kills):  # some come before each kill: nothing is over before the last one
        come(came[part * kill : part * (kill + 1)])
        before = raw.xlen("said")
        with streaming(*words) as process:
            until(lambda before=before, kill=kill: raw.xlen("said") >= before + 500 + 71 * kill, process)
            os.killpg(process.pid, signal.SIGKILL)
    come(came[part * kills :])
    assert waiting("red") >= count - part * kills
    with streaming(*words, "--idle", "3") as process:
        _, wrong = process.communicate(timeout=200)
    assert process.returncode == 0, wrong
    answers = [fields[b"id"] for _, fields in raw.xrange("said")]
    dead = [fields[b"id"] for _, fields in raw.xrange("said.dead")]
    asked = {b"people-" + number for number, _ in raw.xrange("people")}
    assert len(answers) == len(set(answers)) == count - count // 500, (
        "each answer is there once, without any help of a reader"
    )
    assert len(dead) == count // 500 and {*answers, *dead} == asked and waiting("red") == 0


@needs_redis
def test_a_server_that_goes_away_and_comes_back(here, redis_server: Redis) -> None:
    raw = redis_server.client()
    for value in messages(300):
        raw.xadd("people", {"data": value})
    words = [
        "credit",
        "--from",
        redis_server.uri("people"),
        "--to",
        redis_server.uri("said"),
        "--name",
        "away",
        "--batch",
        "50",
    ]
    with streaming(*words) as process:
        until(lambda: raw.exists("said") and raw.xlen("said") == 300, process)
        redis_server.stop()
        from aiplat.release.stream import status

        until(lambda: "127.0.0.1" in status("away").streams[0].trouble, process)
        redis_server.start()
        raw = redis_server.client()
        for value in messages(200):
            raw.xadd("people", {"data": value})
        until(lambda: raw.xlen("said") == 500, process)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0 and "waiting: " in told and "going on after" in told
    ids = [fields[b"id"] for _, fields in raw.xrange("said")]
    assert len(ids) == len(set(ids)) == 500


@needs_redis
def test_a_promotion_takes_effect_between_two_batches(here, redis_server: Redis) -> None:
    raw, client = redis_server.client(), here.client()
    words = [
        "credit",
        "--from",
        redis_server.uri("people"),
        "--to",
        redis_server.uri("said"),
        "--name",
        "promoted",
        "--record",
    ]
    with streaming(*words) as process:
        for value in messages(100):
            raw.xadd("people", {"data": value})
        until(lambda: raw.exists("said") and raw.xlen("said") == 100, process)
        client.set_registered_model_alias("credit", "production", "2")
        try:
            from aiplat.release.stream import status

            until(lambda: status("promoted").streams[0].model == "credit/2", process)
            for value in messages(100):
                raw.xadd("people", {"data": value})
            until(lambda: raw.xlen("said") == 200, process)
        finally:
            client.set_registered_model_alias("credit", "production", "1")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0 and "credit/2 answers from now on" in told, told
    versions = [json.loads(fields[b"data"])["version"] for _, fields in raw.xrange("said")]
    assert versions == [1] * 100 + [2] * 100
    import duckdb

    files = str(here.path("predictions", "promoted")) + "/**/*.parquet"
    found = duckdb.sql(
        f"SELECT version, count(*), count(DISTINCT request_id) FROM '{files}' GROUP BY version ORDER BY version"
    ).fetchall()
    assert found == [(1, 100, 100), (2, 100, 100)], "records of answers are kept when that is asked for"


@needs_redis
def test_what_kills_again_and_again_is_buried(here, redis_server: Redis) -> None:
    """Entries that were given out five times to processes that died; flat fields instead of JSON."""
    from aiplat.release.stream import run

    raw, example = redis_server.client(), json.loads(messages(1)[0])
    for _ in range(3):
        raw.xadd("people", {name: "" if value is None else str(value) for name, value in example.items()})
    raw.xgroup_create("people", "aiplat-deadly", id="0")
    dead_process = f"{socket.gethostname()}:999999:1"
    ((_, entries),) = raw.xreadgroup("aiplat-deadly", dead_process, {"people": ">"}, count=1)
    for _ in range(5):
        raw.xclaim("people", "aiplat-deadly", dead_process, 0, [entries[0][0]])
    done = run("credit", from_=redis_server.uri("people"), to=redis_server.uri("said"), name="deadly", idle=1)
    assert done.answered == 2 and done.buried == 1 and done.left == 0
    ((_, letter),) = raw.xrange("said.dead")
    assert "never answered" in json.loads(letter[b"data"])["reason"]


@needs_redis
def test_what_cannot_be_written_stays_and_what_was_trimmed_is_told(here, redis_server: Redis) -> None:
    """A target of another type acknowledges nothing; keys and other databases; entries that are gone; long waits."""
    from aiplat.release.streaming import redis as place
    from aiplat.release.streaming.messages import Letter
    from aiplat.release.streaming.places import Trouble, address

    raw = redis_server.client()
    people, said, dead = (address(redis_server.uri(name)) for name in ("people", "said", "said.dead"))

    def joint(source: place.RedisSource) -> place.RedisJoint:
        found = source.joint(said, dead)
        assert found is not None
        return found

    for value in messages(5):
        raw.xadd("people", {"data": value, "key": "k"})
    raw.rpush("said", "a list")
    for _ in range(3):
        source = place.source(people, "g")
        taken = source.take(10, 0.1)
        assert len(taken) == 5
        with pytest.raises(Trouble, match="WRONGTYPE"):
            joint(source).finish(taken, [Letter(each.id, {}, each.key) for each in taken], [])
        assert source.lag() == {"new": 0, "pending": 5}, "what was not written is not acknowledged"
        source.close()
    raw.delete("said")
    raw.xdel("people", taken[0].token, taken[1].token)
    source = place.source(people, "g")
    taken = source.take(10, 0.1)
    gone = [Letter(each.id, {"reason": "gone"}) for each in taken[:2]]
    assert [each.value is None for each in taken] == [True, True, False, False, False]
    joint(source).finish(taken, [Letter(each.id, {}, each.key) for each in taken[2:]], gone)
    assert source.take(10, 0.0) == [] and source.lag() == {"new": 0, "pending": 0}
    assert [fields[b"key"] for _, fields in raw.xrange("said")] == [b"k"] * 3 and raw.xlen("said.dead") == 2
    assert source.joint(address(redis_server.uri("said?db=2")), dead) is None, "another database is another place"
    assert source.take(10, 12.0) == [], "a wait longer than a server's patience is no trouble"
    source.close()
    for option in ("nosuch=1", "socket_timeout=long"):
        with pytest.raises(UserError, match=f"(?s){option.split('=')[0]}.*look at what stands"):
            place.source(address(redis_server.uri(f"people?{option}")), "g")
    assert place.source(address(redis_server.uri("people?socket_timeout=5&health_check_interval=9")), "g").ready()


@needs_redis
def test_what_kills_does_not_bury_those_beside_it(here, redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six processes die of one entry: it alone is given out six times."""
    from aiplat.release.streaming import redis as place
    from aiplat.release.streaming.places import address

    raw, now = redis_server.client(), ""
    for number in range(50):
        raw.xadd("people", {"data": json.dumps({"n": number})})
    monkeypatch.setattr(place, "gone", lambda name: name != now)
    monkeypatch.setattr(place, "who", lambda: now)
    times: dict[str, int] = {}
    deadly = ""
    for life in range(40):
        now = f"host:{life}:1"
        source = place.source(address(redis_server.uri("people")), "g")
        while taken := source.take(100, 0.05):
            times |= {each.id: each.times for each in taken}
            deadly = deadly or taken[20].id
            if any(each.id == deadly and each.times <= 5 for each in taken):
                break  # it dies here
            source.done(taken)
        source.close()
        if not taken:
            break
    assert times.pop(deadly) == 6 and max(times.values()) == 2 and len(times) == 49


# ---------------------------------------------------------------- letters that cannot be written


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.servers import postgres, postgres_programs

    if postgres_programs() is None:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    with postgres(tmp_path_factory.mktemp("bank")) as server:
        yield server.url()


def test_letters_that_a_table_cannot_hold(bank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zero character, numbers of both kinds, columns that come later; one letter does not stop the others."""
    import psycopg

    from aiplat.release.streaming import tables
    from aiplat.release.streaming.messages import Letter, Message, dead_letter
    from aiplat.release.streaming.places import address

    monkeypatch.setenv("BANK_PASSWORD", str(psycopg.conninfo.conninfo_to_dict(bank)["password"]))
    uri = f"{re.sub(r':[^:@/]*@', ':${BANK_PASSWORD}@', bank)}?table="
    graves = tables.sink(address(uri + "graves"))
    came = b"\x00\x00\x00\x00\x07\x02avro"
    assert graves.write([dead_letter(Message("t-0-1", came), "it is no JSON \0")]) == {}
    big = 2**63 - 1
    values: list[Any] = [1, 1.5, "n/a", big * 2 + 1, None, 0.1, True, "0123"]
    sink = tables.sink(address(uri + "answers"))
    rows = [Letter(str(n), {"id": str(n), "amount": value, "version": 1}) for n, value in enumerate(values)]
    unfit: dict[str, str] = {}
    for row in rows:
        unfit |= sink.write([row])
    assert list(unfit) == ["2", "6", "7"] and "amount" in unfit["2"]
    assert sink.write([Letter("8", {"id": "8", "version": 2, "probability_new": 0.25, "note": "a\0b"})]) == {}
    assert set(sink.write([Letter("9", {"id": "9", "version": big + 1}), Letter("10", {"id": "10"})])) == {"9"}
    for each in (graves, sink):
        each.close()
    with psycopg.connect(bank) as reader:
        found = reader.execute("SELECT id, amount, probability_new, note FROM answers").fetchall()
        ((text, encoding),) = reader.execute("SELECT value, encoding FROM graves").fetchall()
    assert {row[0]: row[1] for row in found} == {
        "0": 1, "1": Decimal("1.5"), "3": big * 2 + 1, "4": None, "5": Decimal("0.1"), "8": None, "10": None
    }  # fmt: skip
    assert (0.25, "a\\u0000b") in [row[2:] for row in found] and encoding == "base64" and base64.b64decode(text) == came


def test_one_message_does_not_stop_the_others(here, brokers: str) -> None:
    """Too large an answer, too deep a field, a number that no table holds, a message that is no text."""
    from aiplat.release.stream import run

    some = [json.loads(value) for value in messages(6)]
    some[0]["who"], some[1]["who"], some[2]["who"] = "x" * 1_010_000, "DEEP", 2**64 - 1
    came = [json.dumps(each).encode() for each in some]
    came[1] = came[1].replace(b'"DEEP"', b"[" * 300 + b"]" * 300)
    came += [b"\xff\x00avro" * 10, b"?" * 50_000]
    produce(brokers, "odd", came)
    words: dict[str, Any] = {"from_": f"kafka://{brokers}/odd", "keep": ["who"], "limit": len(came)}
    done = run("credit", to=f"kafka://{brokers}/odd.said", name="odd", **words)
    assert (done.answered, done.buried, done.left) == (4, 4, 0)
    dead = {number: json.loads(value) for number, _, value in drained(brokers, "odd.said.dead")}
    assert len(dead) == 4
    by = {each["bytes"]: each for each in dead.values()}
    assert by[len(came[0])]["encoding"] == "cut" and "cannot be written" in by[len(came[0])]["reason"]
    assert by[len(came[1])]["value"].encode() == came[1] and "cannot be kept" in by[len(came[1])]["reason"]
    assert base64.b64decode(by[60]["value"]) == came[6] and by[50_000]["value"].encode() == came[7]
    with contextlib.closing(sqlite3.connect("odd.db")) as bank:
        bank.execute("CREATE TABLE said (id TEXT PRIMARY KEY, who NUMERIC)")  # its other columns come with the answers
    done = run("credit", to=f"sqlite:{Path.cwd() / 'odd.db'}?table=said", name="odd-table", **words)
    assert (done.answered, done.buried, done.left) == (3, 5, 0)
    with contextlib.closing(sqlite3.connect("odd.db")) as bank:
        assert bank.execute("SELECT reason FROM said_dead WHERE reason LIKE '%too large%'").fetchall()


def test_a_message_that_kills_is_buried_alone(here, brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka does not count: what a process had in hand when it died is on disk."""
    from aiplat.release.stream import scorer_of, version_of
    from aiplat.release.streaming import kafka, running
    from aiplat.release.streaming.places import address

    class Killed(BaseException):
        """The process is gone, and tidies nothing away."""

    def deadly(some: Any, *rest: Any) -> Any:
        if any(json.loads(each.value)["who"] == 42 for each in some):
            monkeypatch.setattr(Path, "unlink", lambda self: None)
            raise Killed
        return real(some, *rest)

    produce(brokers, "risky", [json.dumps({**json.loads(messages(1)[0]), "who": n}).encode() for n in range(100)])
    scorer = scorer_of(here, version_of(here, "credit"))
    places = [f"kafka://{brokers}/risky", *(f"sqlite:{Path.cwd()}/r.db?table={name}" for name in ("said", "dead"))]
    about: dict[str, Any] = dict.fromkeys(("model", "digest", "form", "from_", "to", "dead", "group"), "")
    real, unlink, deaths = running.answer, Path.unlink, 0
    monkeypatch.setattr(running, "answer", deadly)
    while deaths < 9:
        report, (at, to, dead) = running.me(version=1, **about), map(address, places)
        stream = running.Stream(at, to, dead, "risky", scorer, report, Path.cwd() / "state", ("who",), 1000, 0.5)
        try:
            stream.run(idle=2)
            if not sum(kafka.lag(at, "risky").values()):  # else nothing came for two seconds on a busy machine
                break
        except Killed:
            monkeypatch.setattr(Path, "unlink", unlink)
            deaths += 1
    with contextlib.closing(sqlite3.connect("r.db")) as bank:
        (said,) = bank.execute("SELECT count(DISTINCT who) FROM said WHERE who != 42").fetchone()
        ((reason, value),) = bank.execute("SELECT reason, value FROM dead").fetchall()
    assert deaths == 5 and said == 99 and "never answered" in reason and json.loads(value)["who"] == 42


def test_a_message_is_there_as_soon_as_it_came(brokers: str) -> None:
    """However long a process would wait for more, and when it would not wait at all; options that cannot be."""
    from aiplat.release.streaming import kafka
    from aiplat.release.streaming.places import address

    produce(brokers, "soon", [b"{}"])
    source = kafka.source(address(f"kafka://{brokers}/soon"), "g")
    until(lambda: source.take(1000, 0.5))
    began = time.monotonic()
    produce(brokers, "soon", [b"{}"])
    until(lambda: source.take(1000, 60.0))
    assert time.monotonic() - began < 45
    produce(brokers, "soon", [b"{}"])
    assert until(lambda: source.take(1000, 0.0), seconds=30)
    source.close()
    for option in ("nosuch=1", "group.id=other", "enable.auto.commit=true"):
        with pytest.raises(UserError, match="stands after"):
            kafka.source(address(f"kafka://{brokers}/soon?{option}"), "g")


# ---------------------------------------------------------------- what is refused


def test_lines_that_cannot_be_meant(here) -> None:
    from aiplat.release.stream import run, status

    to = "sqlite:bank.db?table=answers"
    for words, says in (
        ({"from_": "kafak://a:9092/t", "to": to}, "did you mean 'kafka'"),
        ({"from_": "sqlite:bank.db?table=people", "to": to}, "is a table, not a stream"),
        ({"from_": "redis://:pa55@host:6379/people", "to": to}, "holds a secret"),
        ({"from_": "kafka://a/t", "to": "kafka://a/t"}, "would answer itself"),
        ({"from_": "kafka://a/t", "to": to, "keep": ["prediction"]}, "has a field of that name"),
        ({"from_": "kafka://a/t", "to": to, "batch": 0}, "too small"),
        ({"from_": "kafka://a/t", "to": to, "name": "../x"}, "no name of a stream"),
    ):
        with pytest.raises(UserError) as caught:
            run("credit", **words)  # type: ignore[arg-type]
        assert says in str(caught.value) and "pa55" not in str(caught.value)
    with pytest.raises(UserError, match="did you mean 'credit'"):
        run("credti", from_="kafka://a/t", to=to)
    with pytest.raises(UsageError, match="there is no stream 'nosuch'"):
        status("nosuch")
    assert not Path("bank.db").exists()


def test_a_trial_is_no_part_of_production(here) -> None:
    """One name is one stream: another model, target or place of dead letters would take messages from it."""
    from aiplat.release.stream import folder_of, run
    from aiplat.release.streaming.running import me

    words = {"from_": "redis://127.0.0.1:1/live", "to": "redis://127.0.0.1:1/said"}
    me(
        model="credit", version=1, digest="", form="", group="aiplat-credit-live", ref="credit", dead="redis://127.0.0.1:1/said.dead", **words
    ).write(folder_of(here, "credit-live"))  # fmt: skip
    for model, other in (
        ("credit/2", {}),
        ("credit@staging", {}),
        ("credit", {"to": "redis://127.0.0.1:1/trial"}),
        ("credit", {"dead": "redis://127.0.0.1:1/said.dead?db=3"}),
    ):
        here.client().set_registered_model_alias("credit", "staging", "2")
        with pytest.raises(UserError, match=r"(?s)a stream credit-live runs with .*--name"):
            run(model, idle=0.1, **{**words, **other})  # type: ignore[arg-type]
    shutil.rmtree(folder_of(here, "credit-live"))


def test_the_verbs(here, capsys: pytest.CaptureFixture[str]) -> None:
    from aiplat.frontends.cli import main

    assert main(["stream", "status", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["streams"], list)
    assert main(["stream", "run", "credit", "--from", "kafka://a", "--to", "kafka://a/b"]) == 1
    assert "names no topic" in capsys.readouterr().err
