"""Many rows: killed and repeated, on full disks, from everywhere to everywhere, in bounded memory, the same as one by one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiplat.core import ledger, workspace
from aiplat.core.errors import UserError
from tests import warm

CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))


def model_in(home: Path) -> Any:
    """A workspace with credit/1 in production: a small gradient boosting with texts and gaps; and rows of its shape."""
    from aiplat.data.sample import credit
    from aiplat.release import registry
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.runs import log_run

    ws = workspace.create(home, user="ana")
    os.environ["AIPLAT_HOME"] = str(home)
    frame = credit(rows=800, seed=1)
    features = [name for name in frame if name != "approved"]
    columns = usable_columns(frame[features])
    model = build("hist_gradient_boosting", columns, {"max_iter": 10}, task="binary").fit(
        frame[features], frame["approved"]
    )
    train, test = frame[:600], frame[600:]
    log_run(
        ws, "train", model, train=train, test=test, task="binary", target="approved", positive="1", features=features
    )
    registry.register("last", "credit")
    ws.client().set_registered_model_alias("credit", "production", "1")
    return ws


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory):
    """That workspace, and the answers to 20,000 people, one by one as it were."""
    import pandas as pd

    from aiplat.data.sample import credit
    from aiplat.release.batch import predict

    home = tmp_path_factory.mktemp("bank")
    before = {name: os.environ.get(name) for name in ("AIPLAT_HOME",)}
    ws = model_in(home)
    rows = credit(rows=20_000, seed=2)
    rows.insert(0, "id", range(20_000))
    predict("credit", rows, out=str(home / "plain.parquet"), keep=["id"])
    yield ws, rows, pd.read_parquet(home / "plain.parquet")
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def here(bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The working directory is empty; the workspace is the bank's, without jobs of other tests."""
    shutil.rmtree(bank[0].path("batches"), ignore_errors=True)
    monkeypatch.setenv("AIPLAT_HOME", str(bank[0].root))
    monkeypatch.chdir(tmp_path)
    return bank


def same(found: Any, plain: Any) -> None:
    """The same people got the same answers."""
    found = found.sort_values("id").reset_index(drop=True)
    assert found["id"].astype(int).tolist() == plain["id"].tolist()
    assert (found["prediction"].astype(int) == plain["prediction"]).all()
    assert np.abs(found["probability_1"] - plain["probability_1"]).max() < 1e-9


def folder_of(rows: Any, place: Path, files: int = 4) -> Path:
    place.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(rows)), files)):
        rows.iloc[part].to_parquet(place / f"part-{number}.parquet", row_group_size=1000)
    return place


def test_from_everywhere(here) -> None:
    import duckdb
    import fsspec
    import pandas as pd

    from aiplat.release.batch import predict

    ws, rows, plain = here
    folder_of(rows, Path("people"))
    said = predict("credit", "people", out="a.parquet", keep=["id"])
    assert said.where.startswith("compiled") and said.rows == 20_000 and said.ignored == [] and said.model == "credit/1"
    same(pd.read_parquet("a.parquet"), plain)
    assert pd.read_parquet("a.parquet")["id"].tolist() == plain["id"].tolist(), "in the order of the files"
    entry = ledger.entries(ws, action="predict", phase="done")[-1]
    assert entry.body["rows"] == 20_000 and entry.body["model_digest"] == said.model_digest and entry.seq == said.entry
    Path("csv").mkdir()
    for number in (0, 1):
        rows.iloc[number::2].to_csv(f"csv/{number}.csv", index=False)
    assert predict("credit", "csv/*.csv", out="b.csv", keep=["id"]).rows == 20_000
    same(pd.read_csv("b.csv"), plain)
    with duckdb.connect("bank.duckdb") as bank:
        bank.execute("CREATE TABLE people AS SELECT * FROM 'people/*.parquet'")
    predict("credit", "duckdb:bank.duckdb?query=SELECT * FROM people ORDER BY id DESC", out="c.parquet", keep=["id"])
    same(pd.read_parquet("c.parquet"), plain)
    remote = fsspec.filesystem("memory")
    for file in Path("people").iterdir():
        remote.put_file(str(file), f"/lake/people/{file.name}")
    predict("credit", "memory://lake/people/*.parquet", out="memory://lake/scores/", keep=["id"])
    names = [name.rpartition("/")[2] for name in remote.ls("/lake/scores", detail=False)]
    assert "_SUCCESS" in names
    parts = [pd.read_parquet(f"memory://lake/scores/{name}") for name in sorted(names) if name != "_SUCCESS"]
    same(pd.concat(parts), plain)


def test_to_everywhere(here) -> None:
    import pandas as pd

    from aiplat.data.sources import read
    from aiplat.release.batch import predict

    _, rows, plain = here
    folder_of(rows, Path("people"))
    for out in ("duckdb:a.duckdb?table=scores", "sqlite:a.db?table=scores"):
        predict("credit", "people", out=out, keep=["id"])
        same(read(out), plain)
        with pytest.raises(UserError, match="has a table 'scores' already"):
            predict("credit", "people", out=out, keep=["id"])
        predict("credit", "people/part-0.parquet", out=out, keep=["id"], replace=True)
        assert len(read(out)) == 5000
    predict("credit", "people", out="scores/", keep=["id"])
    predict("credit", "people", out="scores/", keep=["id"])
    same(pd.read_parquet("scores"), plain)
    for out, data, says in (
        ("people/", "people", "is the input"),
        ("people/x.parquet", "people/*.parquet", ""),
        ("./", "people", "holds the input"),
        ("sqlite:a.db", "people", "which table"),
    ):
        if not says:
            continue
        with pytest.raises(UserError, match=says):
            predict("credit", data, out=out)


def test_from_and_to_postgresql(here, tmp_path_factory: pytest.TempPathFactory) -> None:
    from aiplat.data.sources import read
    from aiplat.release.batch import predict
    from tests.servers import postgres, postgres_programs

    if not postgres_programs():
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    _, rows, plain = here
    with postgres(tmp_path_factory.mktemp("pg")) as server:
        folder_of(rows, Path("people"))
        uri = server.url()
        predict("credit", "people", out=f"{uri}?table=scores", keep=["id"])
        same(read(f"{uri}?table=scores"), plain)
        with pytest.raises(UserError, match="has a table 'scores' already"):
            predict("credit", "people", out=f"{uri}?table=scores", keep=["id"])
        rows.to_csv("people.csv", index=False)
        predict("credit", "people.csv", out=f"{uri}?table=scores", keep=["id"], replace=True)
        asked = f"{uri}?query=SELECT id, prediction + 1 AS more FROM scores"
        assert len(read(asked)) == 20_000
        again = predict("credit", "people", out=f"{uri}?table=again", keep=["id"])
        assert again.rows == 20_000


def test_rows_that_do_not_fit(here) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from aiplat.release.batch import predict

    _, rows, _ = here
    number = next(name for name in rows if name not in ("id", "approved") and rows[name].dtype.kind in "if")
    place = folder_of(rows.head(4000), Path("people"))
    rows.head(1000).drop(columns=number).to_parquet(place / "part-9.parquet")
    with pytest.raises(UserError, match=f"part-9.parquet lacks the column '{number}'"):
        predict("credit", "people", out="x.parquet")
    rows.head(1000).assign(**{number: "many"}).to_parquet(place / "part-9.parquet")
    with pytest.raises(UserError, match=f"'{number}' holds text"):
        predict("credit", "people", out="x.parquet")
    (place / "part-9.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="damaged or cut off"):
        predict("credit", "people", out="x.parquet")
    (place / "part-9.parquet").unlink()
    with pytest.raises(UserError, match="did you mean 'id'"):
        predict("credit", "people", out="x.parquet", keep=["idd"])
    empty = pa.Table.from_pandas(rows.head(50).assign(**{number: None}), preserve_index=False)
    pq.write_table(empty, place / "part-9.parquet")
    assert predict("credit", "people/part-9.parquet", out="gaps.parquet").rows == 50, (
        "a column without values is one of gaps"
    )
    assert not Path("x.parquet").exists()
    Path("mixed").mkdir()
    Path("mixed/a.csv").write_text("id\n1\n")
    rows.head(5).to_parquet("mixed/b.parquet")
    with pytest.raises(UserError, match="holds Parquet and CSV"):
        predict("credit", "mixed", out="x.parquet")


def test_a_file_that_changes_under_way(here, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiplat.release.batch import predict
    from aiplat.release.batches import jobs

    _, rows, _ = here
    place = folder_of(rows.head(4000), Path("people"))
    score, last = jobs.score_unit, place / "part-0.parquet"

    def touched(*given: Any) -> int:
        done = score(*given)
        rows.tail(1000).to_parquet(last, row_group_size=1000)
        return done

    monkeypatch.setattr(jobs, "score_unit", touched)
    with pytest.raises(UserError, match="was changed while it was scored"):
        predict("credit", "people", out="x.parquet")
    monkeypatch.setattr(jobs, "score_unit", score)
    assert not Path("x.parquet").exists() and predict("credit", "people", out="x.parquet").kept == 0, (
        "it is another job now"
    )


def test_the_model_file_must_be_the_registered_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiplat.data.sample import credit
    from aiplat.release.batch import predict

    monkeypatch.setenv("AIPLAT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ws = model_in(tmp_path)
    folder_of(credit(rows=2000, seed=3), tmp_path / "people")
    place = ws.client().get_logged_model(ws.client().get_model_version("credit", "1").source.removeprefix("models:/"))
    (Path(place.artifact_location.removeprefix("file://")) / "model.skops").write_bytes(b"harm")
    with pytest.raises(UserError):
        predict("credit", "people", out="x.parquet")
    assert not Path("x.parquet").exists()


# ---------------------------------------------------------------- processes that die

# Twenty units of work, in a process that may write no file larger than so much (0: any), and that begins so many units before there is a
# file `go`: however late whoever looks on is, it is in the middle of its work then.
SMALL = """
import functools, itertools, os, sys, resource, signal, time
from aiplat.release.batches import jobs
jobs.cut = functools.partial(jobs.cut, size=1000)
large, most = map(int, sys.argv[1:])
if large:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
slow, begun = jobs.score_unit, itertools.count()
def score_unit(*given):
    turn = next(begun)
    time.sleep(0.05)
    while turn >= most and not os.path.exists("go"):
        time.sleep(0.05)
    if large:
        resource.setrlimit(resource.RLIMIT_FSIZE, (large, resource.RLIM_INFINITY))
    return slow(*given)
jobs.score_unit = score_unit
from aiplat.core.errors import UserError
from aiplat.release.batch import predict
try:
    said = predict("credit", "people", out="scores.parquet", keep=["id"])
    print(said.kept, said.rows)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""


def begin(large: int = 0, most: int = 20) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return warm.begin(["-c", SMALL, str(large), str(most)], stdout=pipe, stderr=pipe, start_new_session=True)


def parts(ws: Any) -> int:
    return len(list(ws.state.glob("batches/*/parts/[0-9]*.parquet")))


def wait_for(ready: Any, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_killed_anywhere_it_goes_on(here) -> None:
    import pandas as pd

    ws, rows, plain = here
    folder_of(rows, Path("people"))
    Path("scores.parquet").write_text("yesterday's")
    least, most = (2, 3) if CAMPAIGN else (3, 9)
    for kill in range(6 if CAMPAIGN else 2):
        before = parts(ws)
        process = begin(most=most)
        wait_for(lambda before=before: parts(ws) >= before + least, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert Path("scores.parquet").read_text() == "yesterday's", f"nothing of a job that was killed shows ({kill})"
    kept = parts(ws)
    assert 6 <= kept < 20
    process = begin()
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == 0, wrong
    assert [int(word) for word in said.split()] == [kept * 1000, 20_000], "what was scored is not scored again"
    found = pd.read_parquet("scores.parquet")
    same(found, plain)
    assert found["id"].is_unique and not parts(ws)
    phases = [entry.phase for entry in ledger.entries(ws, action="predict") if entry.subject.startswith("batch:")][-6:]
    assert phases[-1] == "done" and phases.count("recovered") >= 2
    assert not [entry for entry in ledger.unfinished(ws) if entry.action == "predict"]


def test_a_full_disk_keeps_what_was_scored(here) -> None:
    import pandas as pd

    _, rows, plain = here
    folder_of(rows, Path("people"))
    process = begin(large=2000)  # as if the disk were full
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in wrong, wrong
    assert not Path("scores.parquet").exists()
    process = begin()
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == 0, wrong
    same(pd.read_parquet("scores.parquet"), plain)


def test_two_with_one_job(here) -> None:
    from aiplat.release.batch import predict
    from aiplat.release.batches import jobs

    ws, rows, plain = here
    folder_of(rows, Path("people"))
    process = begin(most=3)  # it stays in the middle of its work, however long the other one takes to begin
    began = parts(ws)
    wait_for(lambda: parts(ws) >= began + 1, process)
    change, asked = jobs.ledger.change, []

    def at_once(ws: Any, action: str, subject: str, body: Any) -> Any:
        asked.append(subject)
        return change(ws, action, subject, body, timeout=0)

    jobs.ledger.change = at_once  # type: ignore[assignment]
    try:
        with pytest.raises(UserError, match="somebody else is working on batch:"):
            predict("credit", "people", out="scores.parquet", keep=["id"])
    finally:
        jobs.ledger.change = change  # type: ignore[assignment]
        Path("go").touch()
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == 0 and asked, wrong
    import pandas as pd

    same(pd.read_parquet("scores.parquet"), plain)


# ---------------------------------------------------------------- what was there before stays


def answer(place: Path, ids: Any) -> Path:
    """A part: the ids of people, and what the model says of each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ids, "prediction": ["yes"] * len(ids)}), place)
    return place


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_refusal_stays_a_refusal(here, scheme: str) -> None:
    from aiplat.data.databases import read_database
    from aiplat.release.batch import predict

    _, rows, _ = here
    folder_of(rows.head(2000), Path("people"))
    place = f"{scheme}:bank.db?table=scores"
    others = [f"customer {number}" for number in range(2000)]
    seed_table(scheme, "scores", others)  # as many rows as the answer will have
    for _ in range(3):
        with pytest.raises(UserError, match="has a table 'scores' already"):
            predict("credit", "people", out=place, keep=["id"])
        assert read_database(place)["customer"].tolist() == others


def seed_table(scheme: str, name: str, customers: list[str]) -> None:
    import sqlite3
    from contextlib import closing

    import duckdb

    with closing(sqlite3.connect("bank.db") if scheme == "sqlite" else duckdb.connect("bank.db")) as bank:
        bank.execute(f"CREATE TABLE {name} (customer TEXT)")
        bank.execute("BEGIN")
        for customer in customers:
            bank.execute(f"INSERT INTO {name} VALUES (?)", [customer])
        bank.execute("COMMIT")


@pytest.mark.parametrize("name", ["main.scores", "SCORES", "Scores"])
@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_no_table_is_dropped_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, name: str) -> None:
    from aiplat.data.databases import read_database
    from aiplat.release.batches.outputs import to_table
    from aiplat.release.batches.places import Place

    monkeypatch.chdir(tmp_path)
    seed_table(scheme, "scores", ["ana"])
    place, part = Place("table", f"{scheme}:bank.db?table={name}"), answer(tmp_path / "part.parquet", [1, 2])
    with pytest.raises(UserError, match=f"has a table '{name}' already\n"):
        to_table(place, [part], delivery="t")
    assert read_database(f"{scheme}:bank.db?table=scores")["customer"].tolist() == ["ana"]
    to_table(place, [part], replace=True, delivery="t")
    assert read_database(f"{scheme}:bank.db?table=scores")["id"].tolist() == [1, 2]
    to_table(place, [part], delivery="t")  # of this delivery: nothing is left to be done
    seed_view = f"CREATE VIEW people AS SELECT * FROM {name}"
    import sqlite3

    import duckdb

    with sqlite3.connect("bank.db") if scheme == "sqlite" else duckdb.connect("bank.db") as bank:
        bank.execute(seed_view)
    with pytest.raises(UserError, match="has a table 'people' already"):
        to_table(Place("table", f"{scheme}:bank.db?table=people"), [part])


DELIVERED = """
import os, signal, sys
from aiplat.release.batches import jobs
inner = jobs.deliver
def deliver(*given, **more):
    if sys.argv[1] == "after":
        inner(*given, **more)
    os.kill(os.getpid(), signal.SIGKILL)
jobs.deliver = deliver
from aiplat.release.batch import predict
predict("credit", "people", out=sys.argv[2], keep=["id"])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_killed_while_it_delivers_a_table(here, scheme: str, when: str) -> None:
    from aiplat.data.databases import read_database
    from aiplat.release.batch import predict

    ws, rows, plain = here
    folder_of(rows, Path("people"))
    place = f"{scheme}:bank.db?table=scores"
    process = warm.begin(["-c", DELIVERED, when, place], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL and parts(ws), wrong
    if when == "before":  # somebody else makes a table of as many rows in the meantime
        seed_table(scheme, "scores", ["ana"] * len(rows))
        with pytest.raises(UserError, match="has a table 'scores' already"):
            predict("credit", "people", out=place, keep=["id"])
        assert set(read_database(place)["customer"]) == {"ana"}
        return
    said = predict("credit", "people", out=place, keep=["id"])
    assert said.rows == said.kept == len(rows)
    same(read_database(place), plain)
    with pytest.raises(UserError, match="has a table 'scores' already"):
        predict("credit", "people", out=place, keep=["id"])


def test_no_folder_of_others_is_emptied(here) -> None:
    import fsspec
    import pandas as pd

    from aiplat.release.batch import predict

    _, rows, plain = here
    store = fsspec.filesystem("memory")
    folder_of(rows, Path("people"))
    for number, file in enumerate(sorted(Path("people").iterdir())):
        store.put_file(str(file), f"/others/loans/part-0000{number}-spark.parquet")
    for mark in (Path("people/_SUCCESS"), Path("spark/_SUCCESS")):  # Spark's mark is not ours
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    Path("spark/part-00000.parquet").write_text("precious")
    store.pipe_file("/others/spark/_SUCCESS", b"")
    store.pipe_file("/others/spark/part-00000.parquet", b"precious")
    before = store.find("/others")
    for out, data, says in (
        ("memory://others/loans/", "memory://others/loans/*.parquet", "holds the input|is the input"),
        ("memory://others/", "memory://others/loans/*.parquet", "holds the input"),
        ("memory://others/loans/part-00001-spark.parquet", "memory://others/loans/", "a file of the input"),
        ("memory://others/loans/", "people", "other things in it"),
        ("memory://others/spark/", "people", "other things in it"),
        ("spark/", "people", "other things in it"),
        ("people/part-1.parquet", "people", "a file of the input"),
        ("people/part-1.parquet", "people/*.parquet", "a file of the input"),
        (f"file://{Path('people').absolute()}/part-1.parquet", "people", "a file of the input"),
    ):
        with pytest.raises(UserError, match=says):
            predict("credit", data, out=out)
    assert store.find("/others") == before and Path("spark/part-00000.parquet").read_text() == "precious"
    for _ in range(2):  # an answer of before is replaced, also one that was never completed
        predict("credit", "people", out="memory://answers/scores/", keep=["id"])
        store.rm("/answers/scores/_SUCCESS")
        store.pipe_file("/answers/scores/_delivering", b"written by aiplat predict\n")
    names = store.glob("/answers/scores/part-*.parquet")
    same(pd.concat([pd.read_parquet(f"memory:/{name}") for name in names]), plain)


def test_one_schema_in_an_object_store(tmp_path: Path) -> None:
    import fsspec
    import pyarrow.parquet as pq

    from aiplat.release.batches.outputs import to_folder
    from aiplat.release.batches.places import Place

    mixed = [answer(tmp_path / "0.parquet", [1, 2]), answer(tmp_path / "1.parquet", [1.5, None])]
    to_folder(Place("folder", "memory://kinds/scores/"), mixed, tmp_path)
    store = fsspec.filesystem("memory")
    kinds = [str(pq.read_schema(store.open(n)).field("id").type) for n in store.glob("/kinds/scores/part-*")]
    assert kinds == ["double", "double"]
    mixed[0] = answer(tmp_path / "0.parquet", [2**53 + 1, 2])
    to_folder(Place("folder", "memory://kinds/scores/"), mixed, tmp_path)
    first = pq.read_table(store.open("/kinds/scores/part-00000.parquet"))
    assert first["id"].to_pylist() == ["9007199254740993", "2"], "no float holds it: text"


@pytest.mark.parametrize("address", ["memory://both/{}.csv", "{}.csv", "memory://both/{}/", "same/"])
def test_two_answers_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import pandas as pd

    from aiplat.release import batch
    from aiplat.release.batches.places import Place

    monkeypatch.chdir(tmp_path)
    kind = "folder" if address.endswith("/") else "csv"
    place = {who: address.format(who) for who in "ab"}

    def write(who: str) -> str:
        try:
            batch.write(pd.DataFrame({"who": [who] * 100_000}), Place(kind, place[who]), tmp_path)
        except UserError as error:
            return str(error)
        return ""

    def found(who: str) -> list[str]:
        files = [f"{place[who]}part-00000.parquet"] if kind == "folder" else [place[who]]
        read = pd.read_parquet if kind == "folder" else pd.read_csv
        return sorted({str(value) for file in files for value in read(file)["who"]})

    for _ in range(4):
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(write, "ab"))
        if place["a"] == place["b"]:  # one of them is there, whole; the other one may be told to repeat
            assert "" in said and len(found("a")) == 1
        else:
            assert said == ["", ""] and [found("a"), found("b")] == [["a"], ["b"]]


KILLED = """
import os, pathlib, signal, sys
import pandas as pd
from aiplat.release import batch
from aiplat.release.batches import outputs
from aiplat.release.batches.places import Place
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
kind, out, when = sys.argv[1:]
rename = pathlib.Path.rename
if when == "filling":
    outputs.tables = die
else:  # the answer of before is put aside, the new one is not there yet
    pathlib.Path.rename = lambda *given: (rename(*given), die())
batch.write(pd.DataFrame({"id": [1]}), Place(kind, out), pathlib.Path("scratch"))
"""


@pytest.mark.parametrize(
    ("kind", "out", "when"),
    [("folder", "scores/", "filling"), ("folder", "scores/", "renaming"), ("csv", "scores.csv", "filling"), ("parquet", "scores.parquet", "filling")],
)  # fmt: skip
def test_a_killed_writer_leaves_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, out: str, when: str
) -> None:
    import pandas as pd

    from aiplat.release import batch
    from aiplat.release.batches import outputs
    from aiplat.release.batches.places import Place

    monkeypatch.chdir(tmp_path)
    Path("scratch").mkdir()

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "the disk is full")

    place, frame = Place(kind, out), pd.DataFrame({"id": [2]})
    batch.write(frame, place, Path("scratch"))
    for _ in range(2):
        process = warm.begin(["-c", KILLED, kind, out, when], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, wrong = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL and [name for name in os.listdir() if name[0] == "."], wrong
        if when == "renaming":  # the answer of before is nowhere else: only another answer takes its place
            with monkeypatch.context() as patch, pytest.raises(UserError, match="cannot be written"):
                patch.setattr(outputs, "tables", full)
                batch.write(frame, place, Path("scratch"))
            assert list(Path().glob(".*/old/part-00000.parquet")) and not Path(out).exists()
        batch.write(frame, place, Path("scratch"))
        assert sorted(os.listdir()) == [out.rstrip("/"), "scratch"] and not os.listdir("scratch")

    # what a living one is making is left alone, and what is made for another name
    others, inner = Path(f".{out.rstrip('/')}.more.tmp1.making"), outputs.tables
    others.mkdir()

    def meanwhile(*given: Any) -> Any:
        monkeypatch.setattr(outputs, "tables", inner)
        batch.write(pd.DataFrame({"id": [3]}), place, Path("scratch"))
        return inner(*given)

    monkeypatch.setattr(outputs, "tables", meanwhile)
    batch.write(frame, place, Path("scratch"))
    assert sorted(os.listdir()) == [others.name, out.rstrip("/"), "scratch"] and not os.listdir("scratch")
    assert (pd.read_csv if kind == "csv" else pd.read_parquet)(out)["id"].tolist() == [2]


def test_neither_the_input_nor_aiplats_own_databases(here) -> None:
    from aiplat.release.batch import predict

    ws, rows, _ = here
    rows.head(50).to_csv("x.csv", index=False)
    before = Path("x.csv").read_bytes()
    with pytest.raises(UserError, match="is the input"):
        predict("credit", Path("x.csv"), out="x.csv")
    assert Path("x.csv").read_bytes() == before
    rows.head(50).to_parquet("x.parquet")
    Path("lake").mkdir()
    rows.head(50).to_parquet("lake/it's.parquet")
    kept = {path: path.read_bytes() for path in (Path("x.parquet"), Path("lake/it's.parquet"))}
    for query, out in (
        ("SELECT * FROM 'x.parquet'", "x.parquet"),
        ("SELECT * FROM x.parquet WHERE age > 1", "./x.parquet"),
        ('FROM "x.csv"', f"file://{Path('x.csv').absolute()}"),
        ("SELECT * FROM read_parquet(['nosuch.parquet', 'x.parquet'])", "x.parquet"),
        ("SELECT * FROM 'lake/it''s.parquet'", "lake/it's.parquet"),
        ("SELECT l.* FROM x.csv JOIN 'lake/*.parquet' AS l USING (age)", "lake/"),
    ):
        for address in ("duckdb::memory:?query=", "duckdb:?query="):
            with pytest.raises(UserError, match=r"(is|holds) the input"):
                predict("credit", address + query, out=out)
    predict("credit", "duckdb::memory:?query=SELECT *, 'lake' AS x, 'y' AS lake FROM 'x.parquet'", out="y.parquet")
    predict("credit", "duckdb::memory:?query=SELECT *, 'y' AS lake FROM 'x.parquet'", out="y.parquet")
    assert {path: path.read_bytes() for path in kept} == kept and Path("x.csv").read_bytes() == before
    for name in ("ledger.db", "other.db"):
        with pytest.raises(UserError, match="inside aiplat's own state"):
            predict("credit", "x.csv", out=f"sqlite:{ws.state / name}?table=ledger", replace=True)
    seed_table("sqlite", "people", ["ana"])
    with pytest.raises(UserError, match="is the input"):
        predict("credit", "sqlite:bank.db?table=people", out="sqlite:./bank.db?table=People", replace=True)


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    import pyarrow as pa

    from aiplat.release.batches.outputs import to_file
    from aiplat.release.batches.places import Place

    part = answer(tmp_path / "p.parquet", pa.array([9007199254740993, None, 1]))
    to_file(Place("csv", str(tmp_path / "o.csv")), [part], tmp_path)
    assert (tmp_path / "o.csv").read_text() == "id,prediction\n9007199254740993,yes\n,yes\n1,yes\n"


def test_queries_without_rows_and_of_many_kinds(here) -> None:
    import sqlite3

    import pandas as pd

    from aiplat.release.batch import predict
    from aiplat.release.batches.spooling import spool, spooled

    _, rows, _ = here
    with sqlite3.connect("bank.db") as bank:
        rows.head(100).to_sql("people", bank, index=False)
    with pytest.raises(UserError, match="has no rows"):
        predict("credit", "sqlite:bank.db?query=SELECT * FROM people WHERE id < 0", out="x.csv")
    import pyarrow as pa

    spool(iter([pa.table({"id": [1, 2]}), pa.table({"id": ["x"]})]), Path("spool"))
    source = spooled(Path("spool"), "people")
    assert source is not None and pd.read_parquet("spool/rows-000000.parquet")["id"].tolist() == ["1", "2", "x"]


def connected(url: str) -> Any:
    """A connection, once the server has started up: its port is open before."""
    import psycopg

    end = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.1)


def test_postgresql_keeps_instants_options_and_tables(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    from aiplat.release.batches.outputs import to_table
    from aiplat.release.batches.places import Place
    from tests.servers import postgres, postgres_programs

    if not postgres_programs():
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    noon = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
    instants = {"at": pa.array([noon], pa.timestamp("us", "Europe/Berlin")), "prediction": [1.0]}
    pq.write_table(pa.table(instants), tmp_path / "p.parquet")
    with postgres(tmp_path_factory.mktemp("pg")) as server, contextlib.closing(connected(server.url())) as bank:
        place = Place("table", f"{server.url()}?table=scores&sslmode=disable")
        to_table(place, [tmp_path / "p.parquet"], delivery="one")
        ((name,),) = bank.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert name == "scores" and bank.execute("SELECT at FROM scores").fetchall() == [(noon,)]
        to_table(place, [tmp_path / "p.parquet"], delivery="one")  # it is there already
        for token, table in (("two", "scores"), ("", "scores"), ("two", "public.scores")):
            with pytest.raises(UserError, match="already"):
                to_table(Place("table", f"{server.url()}?table={table}"), [tmp_path / "p.parquet"], delivery=token)
        bank.execute("DELETE FROM scores")
        with pytest.raises(UserError, match="already"):
            to_table(place, [tmp_path / "p.parquet"], delivery="one")  # it bears the token, but somebody changed it
        to_table(place, [tmp_path / "p.parquet"], replace=True)
        assert bank.execute("SELECT count(*) FROM scores").fetchall() == [(1,)]


MEMORY = """
import json, resource, sys
import numpy as np, pandas, pyarrow, sklearn
from aiplat.core import workspace
from aiplat.core.refs import load_model
from aiplat.release.batch import predict
predict("credit", "small", out="small.csv")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
predict("credit", "large", out="large.parquet")
print(json.dumps([before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def test_memory_does_not_grow_with_the_table(here) -> None:
    _, rows, _ = here
    folder_of(rows, Path("small"), 1)
    Path("large").mkdir()
    rows.iloc[np.arange(400_000) % len(rows)].to_parquet("large/0.parquet", row_group_size=100_000)
    for number in range(1, 5):
        os.link("large/0.parquet", f"large/{number}.parquet")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    whole = 5 * rows.iloc[np.arange(400_000) % len(rows)].memory_usage(deep=True).sum() / 2**20
    assert after - before < min(250, whole / 2), f"{before:.0f} MB, then {after:.0f} MB for a table of {whole:.0f} MB"


def test_paths_say_what_they_were_made_of(here) -> None:
    """A folder that pandas partitioned by a text column with gaps gives the answers of one table."""
    import pandas as pd

    from aiplat.release.batch import predict

    _, rows, _ = here
    texts = rows.select_dtypes(exclude="number").columns
    few = rows.head(300).assign(**{texts[0]: rows[texts[0]].astype(object)})
    few.loc[few.index % 3 == 0, texts[0]] = None
    few.loc[few.index % 3 == 1, texts[0]] = "São Paulo / b=c"
    predict("credit", few, out="one.parquet", keep=["id", texts[0]])
    few.to_parquet("parts", partition_cols=[texts[0]])
    predict("credit", "parts", out="many.parquet", keep=["id", texts[0]])
    one, many = (pd.read_parquet(f"{name}.parquet").sort_values("id", ignore_index=True) for name in ("one", "many"))
    assert one[texts[0]].isna().sum() == 100
    pd.testing.assert_frame_equal(one, many, check_dtype=False)


def test_what_has_no_digest_is_said_before_the_answer(here) -> None:
    """Columns that are not read may hold anything; those that go along are refused before a table is made."""
    import sqlite3

    from aiplat.release.batch import predict

    ws, rows, _ = here
    few = rows.head(20).assign(tags=[["a"]] * 20, code=[1, "A2"] * 10)
    said = predict("credit", few, out="sqlite:bank.db?table=scores", keep=["id"])
    assert ledger.entries(ws, action="predict")[-1].seq == said.entry and set(said.ignored) == {"tags", "code"}
    for name in ("tags", "code"):
        with pytest.raises(UserError):
            predict("credit", few, out=f"sqlite:bank.db?table={name}", keep=[name])
    with sqlite3.connect("bank.db") as bank:
        assert bank.execute("SELECT name FROM sqlite_master").fetchall() == [("scores",)]
