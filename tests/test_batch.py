"""Many rows: killed and repeated, on full disks, from everywhere to everywhere, in bounded memory, the same as one by one."""

from __future__ import annotations

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

SMALL = """
import functools, os, sys, resource, signal
from aiplat.release.batches import jobs
jobs.cut = functools.partial(jobs.cut, size=1000)
if len(sys.argv) > 1 and int(sys.argv[1]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
slow = jobs.score_unit
def score_unit(*given):
    import time
    time.sleep(0.05)
    if len(sys.argv) > 1 and int(sys.argv[1]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
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


def begin(*words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return warm.begin(["-c", SMALL, *words], stdout=pipe, stderr=pipe, start_new_session=True)


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
    for kill in range(6 if CAMPAIGN else 2):
        before = parts(ws)
        process = begin()
        wait_for(lambda before=before: parts(ws) >= before + 3, process)
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
    process = begin("2000")  # no file may become larger than that, as if the disk were full
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
    process = begin()
    began = parts(ws)
    wait_for(lambda: parts(ws) >= began + 1, process)
    os.killpg(process.pid, signal.SIGSTOP)  # in the middle of it, however long the other one takes to begin
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
        os.killpg(process.pid, signal.SIGCONT)
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == 0 and asked, wrong
    import pandas as pd

    same(pd.read_parquet("scores.parquet"), plain)


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
