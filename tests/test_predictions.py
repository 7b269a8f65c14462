"""Records of predictions: writers that are killed, disks that are full, packing and erasing while others read, truth in any order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiplat.core import ledger
from aiplat.release import predictions
from aiplat.release.forgetting import erase, tidy
from aiplat.release.serving import segments
from aiplat.release.serving.journal import Journal
from aiplat.release.truth import truth
from tests import warm
from tests.conftest import run_cli

pytestmark = [pytest.mark.timeout(600)]
CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))
MARCH = datetime(2026, 3, 1, tzinfo=UTC).timestamp()

# A worker: adds records numbered in order, as fast as it is told, and says aloud how many it has seen written. Where somebody
# answers, it waits for the answer: "?" makes it say that again.
WORKER = """
import os, sys, time, numpy as np
from pathlib import Path
from types import SimpleNamespace
from aiplat.release.serving import journal as room
name, folder, most, pause = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
journal = room.Journal(folder, endpoint="loans", worker=name, every=0.02, pack_every=20)
said = SimpleNamespace(prediction=np.array([1, 0]), scores=np.array([[.4, .6], [.7, .3]]), classes=[0, 1])
columns = {"age": np.array([30.0, np.nan]), "job": np.array(["baker", None], dtype=object)}
for number in range(most):
    journal.add(f"{name}-{number:07}", 3, "3" * 64, "main", columns, said, 1_772_323_200 + number / 100, 0.001)
    if number % 20 == 19:
        os.write(1, f"{journal.written} {journal.writer or 0}\\n".encode())
        while os.read(0, 1) == b"?":
            time.sleep(0.05)
            os.write(1, f"{journal.written} {journal.writer or 0}\\n".encode())
        time.sleep(pause)
journal.close()
os.write(1, f"done {journal.written} {journal.dropped}\\n".encode())
"""


def start(
    name: str, folder: Path, most: int = 10**9, pause: float = 0.004, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """A worker process, past its imports."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, name, str(folder), str(most), str(pause)], stdin=stdin, stdout=subprocess.PIPE
    )


def said_by(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.read().decode().split("\n")[:-1]


def found(ws, name: str = "") -> list[tuple[str, int]]:
    """Request id and row of every record, by a query of its own."""
    frame = predictions.query(
        ws, "loans", "SELECT request_id, row FROM predictions WHERE request_id LIKE ?", values=[name + "%"]
    )
    return sorted(zip(frame["request_id"], map(int, frame["row"]), strict=True))


def answer(*scores: float) -> SimpleNamespace:
    p = np.array(scores)
    return SimpleNamespace(prediction=(p >= 0.5).astype(int), scores=np.column_stack([1 - p, p]), classes=[0, 1])


def add(
    journal: Journal, request: str, *, at: float = MARCH, key: str | None = None, rows: int = 1, age: object = 30.0
) -> bool:
    columns = {"age": np.array([age] * rows, dtype=object if isinstance(age, str) else float)}
    return journal.add(request, 3, "3" * 64, "main", columns, answer(*[0.6] * rows), at, 0.001, key)


@contextmanager
def journal_of(ws, **options) -> Iterator[Journal]:
    journal = Journal(ws.state / "predictions", endpoint="loans", **{"worker": "w", "every": 0.02, **options})
    try:
        yield journal
    finally:
        journal.close()


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting for its end; it may be nobody's child any more."""
    end = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("seed", range(20 if CAMPAIGN else 2))
def test_a_killed_worker_loses_its_last_records_and_doubles_none(ws, seed: int, both: bool) -> None:
    draw = random.Random(seed)
    process = start("w1", ws.state / "predictions")
    assert process.stdout is not None
    seen = "0 0"
    while seen.endswith(" 0"):  # until there is a process that writes
        seen = process.stdout.readline().decode().strip()
    for _ in range(draw.randint(5, 120)):  # somewhere in the middle of taking, writing, renaming or packing
        seen = process.stdout.readline().decode()
    time.sleep(draw.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    writer = int(seen.split()[1])
    if both:
        os.kill(writer, signal.SIGKILL)
    rest = said_by(process)
    process.wait()
    assert gone(writer), "nobody is there any more for whom it could write"
    written = int((rest[-1] if rest else seen).split()[0])
    there = found(ws)
    # what was seen on the disk is there; the rest is a prefix of what was added: only the last are lost
    assert len(there) >= written
    assert there == [(f"w1-{number:07}", row) for number in range(len(there) // 2) for row in (0, 1)]
    if days := segments.days(ws.state / "predictions" / "loans"):
        segments.pack(days[0], few=2, wait=True)
        assert found(ws) == there, "packing what a dead worker left changed it"


@pytest.mark.parametrize("seed", range(10 if CAMPAIGN else 1))
def test_the_process_that_writes_is_killed_and_nothing_is_lost_or_doubled(ws, seed: int) -> None:
    draw, most = random.Random(seed), 12_000
    process = start("w1", ws.state / "predictions", most, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    killed, before, turn = set(), 0, 0
    while (line := process.stdout.readline().decode().strip()) and not line.startswith("done"):
        written, writer = map(int, line.split())
        fresh = writer and writer not in killed
        certain = turn in (200, 400)  # however long it takes to begin, two are killed that have written
        if certain and not (fresh and written > before):
            os.write(process.stdin.fileno(), b"?")
            continue
        # now and then one that has only just begun, or has not even
        if fresh and (certain or draw.random() < (0.2 if written > before else 0.001)):
            os.kill(writer, signal.SIGKILL)
            killed.add(writer)
            before = written
        os.write(process.stdin.fileno(), b".")
        turn += 1
    assert process.wait() == 0 and len(killed) >= 2, killed
    assert line == f"done {2 * most} 0"
    assert found(ws) == [(f"w1-{number:07}", row) for number in range(most) for row in (0, 1)]


def test_a_record_reaches_the_disk_without_being_asked_to(ws) -> None:
    with journal_of(ws, every=0.1) as journal:
        add(journal, "r-1")
        deadline = time.monotonic() + 60
        while journal.waiting and time.monotonic() < deadline:  # the worker hears of a file when it is there already
            threading.Event().wait(0.02)
        assert found(ws) == [("r-1", 0)] and journal.waiting == 0


PACKER = """
import sys
from pathlib import Path
from aiplat.release.serving import segments
segments.LARGE = 16_000
print(flush=True)
while True:
    for day in segments.days(Path(sys.argv[1])):
        segments.pack(day, few=2, wait=True)
"""


def test_readers_see_every_row_once_while_workers_write_and_packers_die(ws) -> None:
    folder, most = ws.state / "predictions", 30_000 if CAMPAIGN else 8_000
    workers = [start(name, folder, most) for name in ("w1", "w2")]
    draw, packer = random.Random(0), None
    before: set[tuple[str, int]] = set()
    while any(worker.poll() is None for worker in workers):
        if packer is None:
            packer = subprocess.Popen([sys.executable, "-c", PACKER, str(folder / "loans")], stdout=subprocess.PIPE)
            assert packer.stdout is not None and packer.stdout.readline()
        elif draw.random() < 0.03:
            packer.kill()
            packer.wait()
            packer = None
        there = found(ws)
        assert len(there) == len(set(there)), "a row is there twice"
        assert before <= set(there), "a row was lost on the way"
        before = set(there)
    if packer is not None:
        packer.kill()
        packer.wait()
    last = [said_by(worker)[-1] for worker in workers]
    assert last == [f"done {2 * most} 0"] * 2
    assert len(found(ws)) == len(set(found(ws))) == 4 * most
    (day,) = segments.days(folder / "loans")
    segments.pack(day, few=2, wait=True)
    assert len(found(ws)) == 4 * most and len(segments.live(day)) == 1


def test_looking_races_with_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without queries, so that thousands of looks meet hundreds of packings."""
    import pyarrow as pa

    monkeypatch.setattr(segments, "LARGE", 1_500)
    day, most, over = tmp_path / "date=2026-03-01", 3_000 if CAMPAIGN else 400, threading.Event()

    def write() -> None:
        for number in range(most):
            segments.store(pa.table({"id": [number]}), day / f"w1-{number:06}.parquet")
        over.set()

    def pack() -> None:
        while not over.is_set():
            segments.pack(day, few=2)

    threads = [threading.Thread(target=work) for work in (write, pack)]
    for thread in threads:
        thread.start()
    before: set[int] = set()
    while not over.is_set():
        try:
            seen = [number for file in segments.live(day) for number in segments.rows_of(file)["id"].to_pylist()]
        except FileNotFoundError:  # packed between looking and opening: look again
            continue
        assert len(seen) == len(set(seen)), "a row is there twice"
        assert before <= set(seen), "a row was lost on the way"
        before = set(seen)
    for thread in threads:
        thread.join()
    rows = [number for file in segments.live(day) for number in segments.rows_of(file)["id"].to_pylist()]
    assert sorted(rows) == list(range(most))


FULL = """
import resource, sys, time, numpy as np
from pathlib import Path
from types import SimpleNamespace
from aiplat.release.serving.journal import Journal
journal = Journal(Path(sys.argv[1]), endpoint="loans", worker="w1", every=0.02, limit=int(sys.argv[2]))
said = SimpleNamespace(prediction=np.array([1]), scores=np.array([[.4, .6]]), classes=[0, 1])
def add(number):
    assert journal.add(f"r-{number:05}", 3, "3" * 64, "main", {"age": np.array([float(number)])}, said, 1_772_323_200, 0.001)
for number in range(200):
    add(number)
assert journal.flush(60), journal.trouble
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.prlimit(journal.writer, resource.RLIMIT_FSIZE, (512, hard))
for number in range(200, 1200):
    add(number)
    number % 100 or journal.flush(0.05)
end = time.monotonic() + 60
while not journal.flush(0.5) and not journal.trouble and time.monotonic() < end: pass  # until the process that writes has tried
with journal._change:  # else rows may be dropped between one figure and the next
    print(journal.waiting, journal.dropped, journal.written, bool(journal.trouble), flush=True)
resource.prlimit(journal.writer, resource.RLIMIT_FSIZE, (hard, hard))
assert journal.flush(60), journal.trouble
print(journal.waiting, journal.dropped, journal.written, bool(journal.trouble), flush=True)
journal.close()
"""


@pytest.mark.parametrize("limit", [2**26, 20_000])
def test_while_files_cannot_be_written_records_wait_and_are_dropped_beyond_the_limit(ws, limit: int) -> None:
    folder = ws.state / "predictions"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(limit)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    during, after = (
        [int(word) if word.isdigit() else word for word in line.split()] for line in done.stdout.splitlines()
    )
    assert during[2] == 200 and during[3] == "True" and during[0] + during[1] == 1000
    assert after[0] == 0 and after[3] == "False" and after[2] + after[1] == 1200
    assert (after[1] == 0) == (limit > 10**6), "dropped without need, or kept beyond the limit"
    there = found(ws)
    assert len(there) == len(set(there)) == after[2], "counted as written, and not there once"
    assert not list((folder / "loans").rglob(".w1*")), "half-written files are left on a full disk"


def test_a_disk_that_is_really_full(ws) -> None:
    place = ws.state / "predictions"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(place)], capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    try:
        with journal_of(ws) as journal:
            add(journal, "first")
            assert journal.flush(60)
            stuffing = place / "stuffing"
            with stuffing.open("wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(b"x" * 4096)
            for number in range(300):
                assert add(journal, f"r-{number}"), "an answer was disturbed by a full disk"
            end = time.monotonic() + 60
            while not journal.flush(0.3) and not journal.trouble and time.monotonic() < end:
                pass  # until the process that writes has tried
            assert not journal.flush(0.3) and journal.waiting == 300 and "cannot be written" in journal.trouble
            assert found(ws) == [("first", 0)], "reading needs no room on that disk"
            stuffing.unlink()
            assert journal.flush(60) and journal.written == 301
        assert len(found(ws)) == len(set(found(ws))) == 301
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_one_record_that_cannot_be_written_takes_no_other_along(ws) -> None:
    with journal_of(ws) as journal:
        add(journal, "good-1")
        journal.add(
            "bad", 3, "3" * 64, "main", {"age": np.array([1.0, 2.0, 3.0])}, answer(0.6), MARCH, 0.001
        )  # three ages, one answer
        add(journal, "good-2")
        assert journal.flush(60)
        assert journal.dropped == 1 and journal.written == 2
        add(journal, "good-3")
        assert journal.flush(60) and journal.written == 3
    assert [name for name, _ in found(ws)] == ["good-1", "good-2", "good-3"]


def test_two_workers_with_the_same_name_write_two_sets_of_files(ws) -> None:
    with journal_of(ws) as one, journal_of(ws) as two:
        for number in range(50):
            add(one if number % 2 else two, f"r-{number:02}")
    assert len(found(ws)) == len(set(found(ws))) == 50


def test_versions_that_disagree_about_a_column_are_read_and_packed(ws) -> None:
    with journal_of(ws) as journal:
        for number in range(40):
            add(journal, f"r-{number:02}", age=f"{number}-{number + 9}" if number % 2 else float(number))
            journal.flush(60)
    (day,) = segments.days(ws.state / "predictions" / "loans")
    before = predictions.read(ws, "loans")
    assert segments.pack(day) == 40 and len(segments.live(day)) == 2
    after = predictions.read(ws, "loans")
    pd.testing.assert_frame_equal(before, after)
    assert after["age"].tolist()[:3] == ["0.0", "1-10", "2.0"]


def test_versions_whose_labels_are_of_other_types_do_not_change_each_others_figures(ws) -> None:
    """0 and 1, False and True, 0.0 and 1.0, yes and no: each is judged as if it were alone, from many files and from packed ones."""
    from aiplat.release.judging import judge

    labels = {3: (0, 1), 4: (False, True), 5: (0.0, 1.0), 6: ("no", "yes")}
    names = {3: ["0", "1"], 4: ["False", "True"], 5: ["0", "1"], 6: ["no", "yes"]}
    draw, rows, told = np.random.default_rng(0), 60, []
    with journal_of(ws) as journal:
        for version, pair in labels.items():
            for part in range(2):
                came = draw.random(rows) < 0.5
                said = np.where(draw.random(rows) < 0.8, came, ~came)
                values = np.array([pair[int(one)] for one in said], dtype=object if version == 6 else None)
                scores = np.column_stack([np.where(said, 0.2, 0.8), np.where(said, 0.8, 0.2)])
                whole = SimpleNamespace(prediction=values, scores=scores, classes=names[version])
                flag = {"flag": came if version == 3 else np.array(["yes", "no"] * (rows // 2), dtype=object)}
                name = f"{version}-{part}"
                journal.add(name, version, str(version) * 64, "main", flag, whole, MARCH + part, 0.001)
                journal.flush(60)
                truths = [names[version][int(one)] for one in came]
                told.append(pd.DataFrame({"request_id": name, "row": range(rows), "y": truths, "right": came == said}))
    known = pd.concat(told, ignore_index=True)
    truth("loans", known, target="y", row="row")
    share = known.groupby(known["request_id"].str[0])["right"].mean()

    def check() -> None:
        for version, (_, positive) in names.items():
            frame = predictions.read(ws, "loans", versions=[version], truth=True)
            about = predictions.About("loans", version, str(version) * 64, "binary", positive)
            measured = judge(frame, about, names=["accuracy"]).measures["accuracy"]
            assert measured.value == pytest.approx(share[str(version)]) and measured.n == 2 * rows
        flags = predictions.read(ws, "loans", versions=[3])["flag"]
        assert set(flags) == {"True", "False"}

    check()
    (day,) = segments.days(predictions.folder(ws, "loans"))
    assert (
        segments.pack(day, few=2) == 8 and len(segments.live(day)) == 4
    )  # no file holds values of another type than were written
    check()
    # alone, and when asked for a time in which there is nothing
    assert predictions.read(ws, "loans", until="2026-03-01").empty
    assert predictions.read(ws, "loans", since="2026-02-28", until="2026-03-02")["version"].nunique() == 4


def test_midnight_and_a_request_in_the_middle_of_it(ws) -> None:
    with journal_of(ws) as journal:
        add(journal, "before", at=MARCH - 0.000001, rows=2)
        add(journal, "after", at=MARCH, rows=3)
    home = ws.state / "predictions" / "loans"
    assert [path.name for path in segments.days(home)] == ["date=2026-02-28", "date=2026-03-01"]
    assert set(predictions.read(ws, "loans", since="2026-03-01")["request_id"]) == {"after"}
    assert len(predictions.read(ws, "loans", until="2026-03-01")) == 2
    first, last = predictions.extent(ws, "loans")
    assert last - first == timedelta(microseconds=1)


def test_a_workspace_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    from aiplat.core.workspace import create

    ws = create(tmp_path / "what's [this] * for?")
    with journal_of(ws) as journal:
        add(journal, "r-1")
    assert found(ws) == [("r-1", 0)]


deliveries = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 28)), min_size=1, max_size=6, unique_by=lambda t: (t[0], t[2])),
    min_size=1, max_size=5,
)  # fmt: skip


@settings(max_examples=60 if CAMPAIGN else 12, deadline=None, suppress_health_check=list(HealthCheck))
@given(deliveries=deliveries, data=st.data())
def test_truth_does_not_depend_on_the_order_in_which_it_comes(tmp_path_factory, deliveries, data) -> None:
    from aiplat.core.workspace import create

    # two truths that became known at the same moment would be a matter of taste
    taken: dict[tuple[int, int], int] = {}
    deliveries = [[row for row in each if taken.setdefault((row[0], row[2]), row[1]) == row[1]] for each in deliveries]
    deliveries = [each for each in deliveries if each]
    ws = create(tmp_path_factory.mktemp("truth"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPLAT_HOME", str(ws.root))
        with journal_of(ws) as journal:
            for number in range(5):  # the sixth was never recorded
                add(journal, f"r-{number}")
        order = data.draw(st.permutations(deliveries + deliveries[:2]))
        for each in order:
            rows = [{"request_id": f"r-{n}", "y": y, "known": f"2026-04-{day:02}"} for n, y, day in each]
            truth("loans", pd.DataFrame(rows), target="y", at="known")
        wanted: dict[str, tuple[int, str]] = {}
        for n, y, day in (row for each in deliveries for row in each):
            wanted[f"r-{n}"] = max(wanted.get(f"r-{n}", (0, "")), (day, str(y)))
        frame = predictions.read(ws, "loans", truth=True)
        got = {row.request_id: row.truth for row in frame.itertuples() if isinstance(row.truth, str)}
        assert got == {name: y for name, (_, y) in wanted.items() if name != "r-5"}
        assert len(frame) == 5 and ledger.unfinished(ws) == []


def test_truth_that_was_killed_counts_once_when_it_is_told_again(ws) -> None:
    with journal_of(ws) as journal:
        for number in range(500):
            add(journal, f"r-{number}")
    table = ws.root / "truth.csv"
    pd.DataFrame({"request_id": [f"r-{n}" for n in range(500)], "y": [n % 2 for n in range(500)]}).to_csv(
        table, index=False
    )
    line = ["monitor", "truth", "loans", str(table), "--target", "y"]
    stamp, draw = time.monotonic(), random.Random(1)
    run_cli(*line, cwd=ws.root)
    whole = time.monotonic() - stamp
    for _ in range(20 if CAMPAIGN else 3):
        for file in (ws.state / "predictions" / "loans" / "truth").glob("*"):
            file.unlink()
        process = warm.begin(line, ws.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * draw.uniform(0.5, 1.0))
        process.kill()
        process.wait()
        told = json.loads(run_cli(*line, "--json", cwd=ws.root).stdout)
        assert (told["known"], told["predicted"]) == (500, 500)
        assert ledger.unfinished(ws) == [] and ledger.breaks(ws) == []
    said = run_cli(*line, cwd=ws.root).stdout
    assert "delivered before" in said and "500 of 500" in said


def test_what_truth_says_when_it_is_wrong(ws) -> None:
    frame = pd.DataFrame({"request_id": ["r-1"], "y": [1]})
    frame.to_csv(ws.root / "t.csv", index=False)
    done = run_cli("monitor", "truth", "loans", "t.csv", "--target", "y", cwd=ws.root, check=False)
    assert done.returncode == 1 and "there are no predictions of 'loans'" in done.stderr
    with journal_of(ws) as journal:
        add(journal, "r-1")
    done = run_cli("monitor", "truth", "lones", "t.csv", "--target", "y", cwd=ws.root, check=False)
    assert "did you mean 'loans'?" in done.stderr
    done = run_cli("monitor", "truth", "loans", "t.csv", "--target", "z", cwd=ws.root, check=False)
    assert done.returncode == 1 and "no column 'z'" in done.stderr and "Traceback" not in done.stderr


def test_erasing_while_workers_write(ws) -> None:
    folder = ws.state / "predictions"
    with journal_of(ws) as journal:
        for number in range(300):
            add(journal, f"r-{number:03}", at=MARCH + 3600 * number, key=f"k-{number % 3}", rows=2)
        journal.flush(60)
        truth(
            "loans",
            pd.DataFrame({"request_id": [f"r-{n:03}" for n in range(300)], "n": 0, "y": 1}),
            target="y",
            row="n",
        )
        worker = start("w1", folder, 2000)
        gone = erase("loans", key="k-1", reason="a letter")
        assert (gone.rows, gone.requests, gone.truths) == (200, 100, 100)
        assert said_by(worker)[-1] == "done 4000 0"
    frame = predictions.read(ws, "loans", truth=True)
    assert "k-1" not in set(frame["key"].dropna()) and len(frame) == 400 + 4000 and frame["truth"].notna().sum() == 200
    for file in folder.rglob("*.parquet"):
        assert "r-001" not in str(segments.rows_of(file)["request_id"].to_pylist()), f"{file} holds it still"


def test_days_that_are_too_old_go_and_truth_with_them(ws) -> None:
    with journal_of(ws) as journal:
        for day in range(5):
            add(journal, f"r-{day}", at=MARCH + 86_400 * day)
    truth("loans", pd.DataFrame({"request_id": [f"r-{n}" for n in range(5)], "y": 1}), target="y")
    kept = tidy(ws, "loans", now=datetime(2026, 6, 1, 1, tzinfo=UTC))
    assert kept.days == ["2026-03-01", "2026-03-02"] and kept.rows == 2 and kept.truths == 0  # the truth came today
    assert [name for name, _ in found(ws)] == ["r-2", "r-3", "r-4"]
    later = tidy(ws, "loans", now=datetime.now(UTC) + timedelta(days=365))
    assert later.rows == 3 and later.truths == 5 and predictions.extent(ws, "loans") is None
    assert predictions.read(ws, "loans", truth=True).empty and ledger.unfinished(ws) == []


def test_performance_of_an_endpoint_from_the_command_line(ws) -> None:
    draw = np.random.default_rng(0)
    chance = draw.uniform(size=800)
    with journal_of(ws) as journal:
        for number, p in enumerate(chance):
            columns = {"age": np.array([30.0]), "sex": np.array(["f" if number % 2 else "m"], dtype=object)}
            journal.add(f"r-{number}", 3, "3" * 64, "main", columns, answer(p), MARCH + 400 * number, 0.001)
    about = {"name": "loans", "version": 3, "task": "binary", "positive": "1", "model_digest": "3" * 64}
    ws.path("endpoints", "loans", "bundles", "33", "bundle.json").write_text(json.dumps(about))
    came = (draw.uniform(size=800) < chance).astype(int)
    pd.DataFrame({"request_id": [f"r-{n}" for n in range(500)], "y": came[:500]}).to_csv(ws.root / "t.csv", index=False)
    run_cli("monitor", "truth", "loans", "t.csv", "--target", "y", cwd=ws.root)
    told = json.loads(run_cli("monitor", "performance", "loans", "--by", "sex", "--json", cwd=ws.root).stdout)
    windows = told["stretches"]
    assert [each["rows"] for each in windows] == [216, 216, 216, 152] and windows[-1]["truths"] == 0
    assert sum(each["truths"] for each in windows) == 500
    from sklearn.metrics import roc_auc_score

    assert windows[0]["measured"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(came[:216], chance[:216]))
    assert windows[-1]["measured"]["roc_auc"]["value"] is None and windows[-1]["estimated"]["roc_auc"]["value"] > 0.7
    parity = [row for row in told["fairness"] if row[1] == "demographic_parity_ratio"]
    said = chance >= 0.5
    rates = said[1::2].mean(), said[0::2].mean()
    assert parity[0][3] == pytest.approx(min(rates) / max(rates))
    shown = run_cli("monitor", "performance", "loans", cwd=ws.root).stdout
    assert "Performance of loans" in shown and "estimates held" in shown


def bundle(ws, version: int) -> None:
    """What a version that answers in this file predicts."""
    about = {"name": "loans", "version": version, "task": "binary", "positive": "1", "model_digest": str(version) * 64}
    ws.path("endpoints", "loans", "bundles", str(version), "bundle.json").write_text(json.dumps(about))


def test_two_versions_that_are_equally_wrong_are_equal_however_long_the_log_is(ws, monkeypatch) -> None:
    """One in ten requests is the canary's. At first both are wrong in half of the cases, then in one of ten; the newest truth is not known."""
    from aiplat.release.serving import truth as versions
    from aiplat.release.serving.plans import Arm, Plan

    monkeypatch.setattr(versions, "LATEST", 1500)
    draw, told = np.random.default_rng(0), []
    with journal_of(ws) as journal:
        for hour in range(40):
            for version, rows in ((3, 900), (4, 100)):
                came = draw.integers(0, 2, rows)
                said = np.where(draw.random(rows) < (0.5 if hour < 10 else 0.1), 1 - came, came)
                name, role = f"{version}-{hour}", "champion" if version == 3 else "canary"
                scores = np.where(said, 0.6, 0.4) + draw.uniform(-0.1, 0.1, rows)
                whole = SimpleNamespace(prediction=said, scores=np.column_stack([1 - scores, scores]), classes=[0, 1])
                journal.add(
                    name,
                    version,
                    str(version) * 64,
                    role,
                    {"age": np.full(rows, 30.0)},
                    whole,
                    MARCH + 3600 * hour,
                    0.001,
                )
                if hour < 36:
                    told.append(
                        pd.DataFrame({"request_id": name, "row": range(rows), "y": came, "wrong": said != came})
                    )
    for version in (3, 4):
        bundle(ws, version)
    known = pd.concat(told, ignore_index=True)
    truth("loans", known, target="y", row="row")
    plan = Plan("loans", "loans", 1, "canary", (Arm(3, 9000, "3", "3" * 64), Arm(4, 1000, "4", "4" * 64)))
    begun = datetime.fromtimestamp(MARCH, UTC)
    judged = versions.measured(ws, plan, begun)
    by_version = known.groupby(known["request_id"].str[0])["wrong"].agg(["sum", "size"])
    assert [judged[version].wrong for version in (3, 4)] == [*by_version.itertuples(index=False, name=None)]
    assert [ok for ok, _ in versions.compared(plan, judged)] == [None, None], versions.compared(plan, judged)
    assert 1 / 12 < len(judged[4].outcome.truth) / len(judged[3].outcome.truth) < 1 / 6, "the same hours are compared"
    alone = versions.measured(ws, plan, begun, ("accuracy",), alone=True)
    assert [len(alone[version].outcome.truth) for version in (3, 4)] == [1500, 1500]


def test_a_flag_that_is_empty_in_one_file_stays_a_flag(ws) -> None:
    """A file with a column of nothing but gaps takes part in any type of that column, also one that was written as text before."""
    flags: dict[str, list[bool | None]] = {
        "r-0": [True, False, None],
        "r-1": [None, None, None],
        "r-2": [False, None, True],
    }
    for number, (request, values) in enumerate(flags.items()):
        with journal_of(ws, worker=f"w{number}") as journal:
            columns = {
                "flag": np.array(values, dtype=object), "age": np.array([30.0, np.nan, 1.0]),
                "job": np.array(["cook", None, None] if number != 1 else [None] * 3, dtype=object),
            }  # fmt: skip
            journal.add(request, 3, "3" * 64, "main", columns, answer(0.2, 0.5, 0.7), MARCH + number, 0.001)
    with journal_of(ws, worker="one") as journal:  # one row, as plain values
        journal.add("s", 3, "3" * 64, "main", {"flag": np.array([None], dtype=object)}, answer(0.5), MARCH + 9, 0.001)

    def seen() -> list[bool | None]:
        return predictions.read(ws, "loans")["flag"].tolist()

    every = [value for values in flags.values() for value in values] + [None]
    assert seen() == every
    assert predictions.read(ws, "loans")["job"].dropna().tolist() == ["cook", "cook"]
    segments.pack(next(iter(segments.days(predictions.folder(ws, "loans")))), few=2)
    assert seen() == every


def test_evidence_of_performance_names_the_model_that_answered(ws) -> None:
    from aiplat.core import evidence
    from aiplat.operations.monitoring.performance import performance

    with journal_of(ws) as journal:
        for number, (version, role) in enumerate([(3, "champion"), (4, "shadow"), (5, "champion")]):
            for row in range(20):
                journal.add(
                    f"{version}-{row}",
                    version,
                    str(version) * 64,
                    role,
                    {"age": np.array([30.0])},
                    answer(0.3 + row / 50),
                    MARCH + 86_400 * number + row,
                    0.001,
                )
    for version in (3, 4, 5):
        bundle(ws, version)
    for until, version in (("2026-03-03", 3), ("", 5)):
        performance("loans", until=until)
        assert evidence.find(ws, "performance", limit=1)[0].model_digest == str(version) * 64


class Killed(BaseException):
    """What is raised in the place of a kill."""


@pytest.mark.parametrize("work", ["pack", "forget"])
def test_more_files_than_are_remembered_and_a_kill_at_every_step(tmp_path: Path, monkeypatch, work: str) -> None:
    """More files go in one piece of work than the list remembers; none of them comes back, wherever it is killed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    monkeypatch.setattr(segments, "REMEMBERED", 3)
    monkeypatch.setattr(segments, "ENOUGH", 200)  # bytes: a packing is several replacements, of six files each
    rows, there = [f"r-{number:02}" for number in range(24)], Path.replace

    def seen(day: Path) -> list[str]:
        return sorted(name for file in segments.live(day) for name in segments.rows_of(file)["request_id"].to_pylist())

    def do(day: Path) -> None:
        if work == "pack":
            segments.pack(day, few=2, wait=True)
        else:
            segments.forget(day, lambda table: pc.less(table["request_id"], "r-12"))

    step, done = 0, False
    while not done:
        day = tmp_path / str(step)
        for name in rows:
            segments.store(pa.table({"request_id": [name], "version": [3]}), day / f"w-{name}.parquet")
        steps = 0

        def dies(real, day=day, at=step):
            def act(path: Path, *args, **kwargs):
                nonlocal steps
                if path.parent == day and path.suffix in (".json", ".parquet"):
                    steps += 1
                    if steps > at:  # and nothing is done any more
                        raise Killed
                return real(path, *args, **kwargs)

            return act

        with monkeypatch.context() as dying:
            dying.setattr(Path, "replace", dies(there))
            dying.setattr(Path, "unlink", dies(Path.unlink))
            try:
                do(day)
                done = True
            except Killed:
                pass
        left = rows if work == "pack" else rows[12:]
        assert seen(day) == left if done else seen(day) in (rows, left), f"killed at step {step}"
        do(day)
        assert seen(day) == left, f"killed at step {step}, and done again"
        segments.pack(day, few=2, wait=True)
        segments.pack(day, few=2, wait=True)
        assert seen(day) == left and not any((day / f"w-{name}.parquet").exists() for name in rows[:12])
        step += 1
    assert step > 24 / 2


def test_a_file_that_is_written_once_more_is_not_forgotten_while_it_is_there(tmp_path: Path, monkeypatch) -> None:
    """Its writer was killed before it could say that it was written, and it was packed meanwhile, with more than are remembered."""
    import pyarrow as pa

    monkeypatch.setattr(segments, "REMEMBERED", 3)
    day, table = tmp_path / "date=2026-03-01", pa.table({"request_id": ["r"], "version": [3]})
    files = [day / f"w-{number:02}.parquet" for number in range(12)]
    for file in files:
        segments.store(table, file)
    assert segments.pack(day) == 12
    real = segments._write

    def meanwhile(*args):
        segments.store(table, files[0])  # it comes while the next ones are packed
        return real(*args)

    monkeypatch.setattr(segments, "_write", meanwhile)
    for number in range(12, 24):
        segments.store(table, day / f"w-{number:02}.parquet")
    segments.pack(day)
    assert sum(segments.rows_of(file).num_rows for file in segments.live(day)) == 24
