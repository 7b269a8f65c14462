"""Requests without end while everything changes: versions switched, workers killed, the log's disk full; none wrong, none doubled, none lost but what is promised.

A few thousand requests by default; a million with ``AIPLAT_CAMPAIGN=1``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aiplat.core import ledger
from aiplat.release.serving.changes import history, on_disk
from tests.test_traffic import Site, here, site, wait  # noqa: F401

CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))
WANTED = int(os.environ.get("AIPLAT_REQUESTS", 0)) or (1_000_000 if CAMPAIGN else 12_000)
NAME = "million"
CLIENTS = 8


@dataclass
class Load:
    """Clients that ask and ask, each on one connection, and remember every answer."""

    url: str
    rows: list[bytes]
    answers: list[tuple[str, int, float, float, int, float]] = field(
        default_factory=list
    )  # id, row, from, to, version, probability
    broken: list[tuple[str, float]] = field(default_factory=list)
    cut: list[list[str]] = field(default_factory=list)  # what each connection that broke off had answered, in order
    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until it is stopped."""
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self.failed.append(error)

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        parts, asked = urlsplit(self.url), 0
        draw = random.Random(number)
        while not self.stop.is_set():
            answered: list[str] = []  # by one worker: a connection stays with who took it
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                try:
                    while not self.stop.is_set():
                        asked += 1
                        await self._one(f"{number}-{asked}", draw.randrange(len(self.rows)), reader, writer)
                        answered.append(f"{number}-{asked}")
                except ConnectionError:
                    self.cut.append(answered)
                finally:
                    writer.close()

    async def _one(self, name: str, row: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body, began = self.rows[row], time.monotonic()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-Id: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            text = await reader.readuntil(b"\r\n\r\n")
            lines = text.decode("latin-1").split("\r\n")
            headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
            said = await reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.broken.append((name, began))
            raise ConnectionError from None
        status = int(lines[0].split()[1])
        self.codes[status] += 1
        if status != 200:
            raise AssertionError(f"{name} was answered with {status}: {said[:300]!r}")
        else:
            answer = json.loads(said)
            if answer["request_id"] != name or headers["x-request-id"] != name:
                self.wrong.append(name)
            record = (
                name,
                row,
                began,
                time.monotonic(),
                int(headers["x-model-version"]),
                answer["predictions"][0]["probability"],
            )
            self.answers.append(record)


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Any:
    """A disk of its own under a folder; False where only an administrator may make one, and nobody is one."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", place], capture_output=True)
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", place], capture_output=True)


def fill(place: Path) -> Path:
    """A file that takes all the room that is left."""
    file = place / "filler"
    with (
        file.open("wb", buffering=0) as out,
        contextlib.suppress(OSError),
    ):  # a buffer would be written once more at the end
        while True:
            out.write(b"x" * 65_536)
            out.flush()
    return file


@pytest.mark.slow
@pytest.mark.timeout(3600 if CAMPAIGN else 300)
def test_none_is_wrong_lost_or_doubled(here: Site) -> None:  # noqa: F811
    from aiplat.release import predictions
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.serving import meters, server

    ws = here.ws
    log = predictions.folder(ws, NAME)
    every = "SELECT request_id, version, count(*) AS n FROM predictions WHERE role <> 'shadow' AND request_id NOT LIKE 'deploy-%' GROUP BY ALL"

    def dropped() -> float:
        samples = meters.read(ws.state / "endpoints" / NAME / "metrics")
        return sum(sample.value for sample in samples if sample.name == "aiplat_dropped")

    def lost() -> set[str]:
        """The answers of which there is no record."""
        answered = {name: version for name, _, _, _, version, _ in [*load.answers]}
        if NAME not in predictions.recorded(ws):
            return set(answered)
        rows = predictions.query(ws, NAME, every)
        assert (rows["n"] == 1).all(), "a record was doubled"
        known = dict(zip(rows["request_id"], rows["version"], strict=True))
        assert all(answered[name] == version for name, version in known.items() if name in answered)
        return answered.keys() - known.keys()

    def unexplained() -> set[str]:
        """Those that no kill explains: of what a connection had answered when its worker was killed, only the last are lost."""
        gone = lost()
        return gone - {name for each in load.cut for name in itertools.takewhile(gone.__contains__, reversed(each))}

    with small_disk(log, 900 if CAMPAIGN else 64) as own_disk:
        timeline = [(0.0, {1})]  # when a change began, and who may answer from then on
        url = deploy("credit/1", endpoint=NAME).url
        load = Load(url, [json.dumps({"records": [row]}).encode() for row in here.rows])
        thread = threading.Thread(target=load.run)
        thread.start()
        kills = 0
        full: list[tuple[float, float]] = []
        ended: list[float] = [time.monotonic()]  # when the change with the same number was over
        chance = random.Random(3)
        lines: list[tuple[str, dict[str, str]]] = [
            ("credit/2", {}), ("credit/1", {"canary": "2=50%"}), ("credit/1", {}), ("credit/2", {"ab": "1=30,2=70"}), ("credit/1", {"shadow": "2"}),
        ]  # fmt: skip
        step = 0
        try:
            while not load.failed and (len(load.answers) < WANTED or step < len(lines)):
                name, options = lines[step % len(lines)]
                versions = {int(name[-1])} | ({1, 2} if "canary" in options or "ab" in options else set())
                timeline.append((time.monotonic(), versions))
                deploy(name, endpoint=NAME, **options)
                ended.append(time.monotonic())
                asked = len(load.answers)
                if step % 5 == 3 and own_disk:
                    began = time.monotonic()
                    filler = fill(log)
                    wait(lambda asked=asked: len(load.answers) > asked + 800)
                    filler.unlink()
                    full.append((began, time.monotonic()))
                elif step % 2:
                    # on the disk, however slow it is, is all that was answered before: no kill loses any of that
                    before = {answer[0] for answer in [*load.answers]}
                    wait(lambda before=before: len(before & unexplained()) <= dropped())
                    found = server.running(ws, NAME)
                    assert found and found.workers
                    kills += 1
                    os.kill(chance.choice(list(found.workers.values())), signal.SIGKILL)
                    wait(
                        lambda: (
                            (now := server.running(ws, NAME))
                            and len(now.workers) == 2
                            and all(now.generations.values())
                        )
                    )
                wait(lambda asked=asked: load.failed or len(load.answers) > asked + (4000 if CAMPAIGN else 500))
                step += 1
        finally:
            load.stop.set()
            thread.join(30)
        assert not thread.is_alive() and not load.failed, load.failed

        # no wrong answer: the right model's number, by a version that was in force
        assert not load.wrong and set(load.codes) == {200}, load.codes
        right = {version: here.expected(version) for version in (1, 2)}
        for name, row, _, _, version, probability in load.answers:
            assert abs(probability - right[version][row]) < 1e-5, f"{name}: version {version} did not say this"
        _versions_fit(load, timeline, ended)
        # nobody noticed anything but who was being answered by a worker that was killed
        assert len(load.broken) <= CLIENTS * kills

        # the log: each once, as it was answered, and none lost but what is promised
        counted = dropped()
        undeploy(NAME)  # the workers write what they have
        left = unexplained()
        assert len(left) <= counted, f"{len(left)} records were lost and {counted:.0f} were counted"
        assert (
            ledger.breaks(ws) == []
            and not ledger.unfinished(ws)
            and not history(ws, NAME)
            and on_disk(ws, NAME) is None
        )
        seconds = load.answers[-1][3] - load.answers[0][2]
        print(
            f"\n{len(load.answers):,} answers in {seconds:.0f} s, {step} changes of traffic, {kills} workers killed, disk full {len(full)} times, "
            f"{len(load.broken)} requests broken off, {len(lost())} records lost with the workers, {len(left)} with the disk"
        )


def _versions_fit(load: Load, timeline: list[tuple[float, set[int]]], ended: list[float]) -> None:
    """Every answer is by a version that was in force at some moment between question and answer."""
    import bisect

    starts = [began for began, _ in timeline]
    for name, _, began, over, version, _ in load.answers:
        last = bisect.bisect_right(starts, over) - 1
        first = max(0, bisect.bisect_right(ended, began) - 1)  # the last change that was over before the question
        allowed = set().union(*(timeline[i][1] for i in range(first, last + 1)))
        assert version in allowed, f"{name}: version {version} was not in force"
