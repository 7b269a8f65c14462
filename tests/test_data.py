"""Data: hostile files and addresses, digests and snapshots, contracts, and the truth of the sample."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiplat.core.errors import Refused, UserError
from aiplat.core.evidence import find
from aiplat.data.contracts import check, contract, failures
from aiplat.data.files import read_csv, read_parquet
from aiplat.data.rules import infer, read_contract, to_yaml
from aiplat.data.sample import credit, truth
from aiplat.data.snapshots import digest, load, save
from aiplat.data.sources import describe, describe_source, read

PARQUET = io.BytesIO()
pd.DataFrame({"a": [1]}).to_parquet(PARQUET)
GOOD = b"a,b\n1,2\n"
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(data: object, **options: object) -> UserError:
    """The error that reading must end in: two lines, each with something in it."""
    with pytest.raises(UserError) as caught:
        read(data, **options)  # type: ignore[arg-type]
    lines = str(caught.value).split("\n")
    assert len(lines) == 2 and all(lines), lines
    return caught.value


# (name of the file, its bytes, words that the first line must hold)
HOSTILE_FILES = [
    ("empty.csv", b"", "is empty"),
    ("blank.csv", b"\n \n\n", "blank lines"),
    ("header.csv", b"a,b\n", "no rows"),
    ("header.tsv", b"a\tb\r\n", "no rows"),
    ("twice.csv", b"a,b,a\n1,2,3\n", "column 'a' more than once"),
    ("nameless.csv", b"a,,\n1,2,3\n", "empty column name"),
    ("long.csv", b"a,b\n1,2\n1,2,3\n", "line 3 of long.csv has 3 values"),
    ("shift.csv", b"a,b\n1,2,3\n4,5,6\n", "first row of shift.csv has 3 values"),
    ("cut.csv", b"a,b,c\n1,2,3\n4,5", "cut off: 2 of 3"),
    ("quote.csv", b'a,b\n1,"2\n3,4\n', "never closed"),
    ("latin.csv", "a,b\nJosé,2\n".encode("latin-1"), "line 2 of latin.csv is not UTF-8"),
    ("utf16.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
    ("zero.csv", b"a,b\n1,\x00\n", "binary data"),
    ("zero-late.csv", b"a,b\n" + b"1,2\n" * 3000 + b"1,\x00\n", "line 3002 of zero-late.csv holds binary data"),
    ("noise.csv", bytes(range(256)) * 4, "binary data"),
    ("picture.csv", b"\x89PNG\r\n\x1a\n" + b"x" * 50, "a PNG picture"),
    ("sheet.csv", b"PK\x03\x04" + b"x" * 50, "a zip archive"),
    ("packed.csv", gzip.compress(GOOD), "compressed with gzip"),
    ("login.csv", b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    ("pointer.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
    ("table.csv", PARQUET.getvalue(), "table.csv is Parquet"),
    ("text.parquet", GOOD, "not Parquet but text"),
    ("picture.parquet", b"\x89PNG\r\n\x1a\n", "not Parquet but a PNG"),
    ("cut.parquet", PARQUET.getvalue()[:-20], "damaged or cut off"),
    ("empty.parquet", b"", "is empty"),
    ("plain.csv.gz", GOOD, "not gzip"),
    ("cut.csv.gz", gzip.compress(GOOD * 500)[:-12], "damaged"),
    ("brace.json", b"[{]", "line 1 of brace.json is not JSON"),
    ("scalar.json", b"3", "not a table"),
    ("uneven.json", b'{"a": [1], "b": [1, 2]}', "not a table"),
    ("none.json", b"[]", "no rows"),
    ("twice.json", b'[{"a": 1, "a": 2}]', "column 'a' more than once"),
    ("third.jsonl", b'{"a": 1}\n\n{"a": \n', "line 3 of third.jsonl"),
    ("deep.json", b"[" * 100_000, "nested too deeply"),
    ("sheet.xlsx", b"PK\x03\x04", "is a spreadsheet"),
    ("weights.bin", b"x", "ending '.bin'"),
    ("README", b"x", "has no ending"),
]


@pytest.mark.parametrize(("name", "content", "words"), HOSTILE_FILES, ids=[case[0] for case in HOSTILE_FILES])
def test_a_wrong_file_ends_in_two_lines(name: str, content: bytes, words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    assert words in refused(name).what


# (what somebody typed, words that the two lines must hold)
HOSTILE_ADDRESSES = [
    ("loan.csv", "did you mean 'loans.csv'?"),
    ("nowhere/loans.csv", "does not exist or is empty"),
    (".", "is a folder"),
    ("", "no data is given"),
    ("lo\x00ans.csv", "zero byte"),
    ("../" * 40 + "etc/loans.csv", "there is no file"),
    ("x" * 5000 + ".csv", "cannot be read"),
    ("sampel:credit", "did you mean 'sample'?"),
    ("sample:credits", "did you mean 'credit'?"),
    ("sample:credit?rows=ten", "is no number"),
    ("sample:credit?rows=-1", "rows"),
    ("sample:credit?rows=nan", "is no number"),
    ("sample:credit?disparity=nan", "outside the model"),
    ("sample:credit?color=red", "no option 'color'"),
    ("snapshot:zzz", "is not a digest"),
    ("snapshot:abcdef123456", "there is no snapshot"),
    ("memory://nothing/here.csv", "there is no file"),
    ("https://localhost:1/loans.csv?token=t0psecret", "cannot be"),
    ("s3:loans.csv", "lacks its slashes"),
    ("postgresql://ana:pa55word@localhost:1/bank?table=loans", "cannot be reached"),
    ("postgresql://ana:${AIPLAT_TEST_UNSET}@localhost/bank?table=loans", "not set"),
    ("postgresql:bank?table=loans", "two slashes"),
    ("duckdb:nothing.duckdb?table=loans", "there is no file"),
    ("duckdb:loans.csv?table=loans", "not a DuckDB database but text"),
    ("sqlite:loans.csv?table=loans", "not an SQLite database but text"),
    ("duckdb:bank.duckdb", "which rows?"),
    ("duckdb:bank.duckdb?table=laons", "did you mean 'loans'?"),
    ("duckdb:bank.duckdb?table=loans; DROP TABLE loans", "has no table"),
    ("duckdb:bank.duckdb?query=DROP TABLE loans", "one statement that selects"),
    ("duckdb:bank.duckdb?query=SELECT 1; DROP TABLE loans", "one statement that selects"),
    ("duckdb:bank.duckdb?query=COPY loans TO 'stolen.csv'", "one statement that selects"),
    ("duckdb:bank.duckdb?query=SELECT * FROM 'loans.csv'", "query is wrong"),
    ("duckdb:?query=COPY (SELECT 1) TO 'stolen.csv'", "one statement that selects"),
    ("sqlite:bank.db?query=INSERT INTO loans VALUES (9, 9)", "one statement that selects"),
    ("sqlite:bank.db?query=ATTACH 'stolen.db' AS x", "one statement that selects"),
    ("sqlite:bank.db?query=SELECT 1; SELECT 2", "one statement that selects"),
    ("sqlite:bank.db?query=SELEC 1", "query is wrong"),
    ("sqlite:bank.db?query=SELECT * FROM loans WHERE id < 0", "gives no rows"),
    ("sqlite:bank.db?query=SELECT id, id FROM loans", "column 'id' more than once"),
]


@pytest.fixture
def bank(ws, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the same two rows in a CSV file, in DuckDB and in SQLite."""
    import sqlite3
    from contextlib import closing

    import duckdb

    frame = pd.DataFrame({"id": [1, 2], "amount": [9.5, None]})
    frame.to_csv("loans.csv", index=False)
    with duckdb.connect("bank.duckdb") as database:
        database.execute("CREATE TABLE loans AS SELECT * FROM frame")
    with closing(sqlite3.connect("bank.db")) as database:
        frame.to_sql("loans", database, index=False)
    return ws.root


def test_a_wrong_address_ends_in_two_lines_without_secrets(bank: Path) -> None:
    before = {path: path.read_bytes() for path in bank.iterdir() if path.is_file()}
    for address, words in HOSTILE_ADDRESSES:
        message = str(refused(address))
        assert words in message, (address, message)
        for secret in ("pa55word", "t0psecret"):
            assert secret not in message and secret not in describe_source(address)
    assert before == {path: path.read_bytes() for path in bank.iterdir() if path.is_file()}, "reading changed something"


def test_the_same_rows_from_everywhere(bank: Path) -> None:
    import fsspec

    want = read("loans.csv")
    with fsspec.open("memory://bank/loans.csv", "wb") as file:
        file.write(Path("loans.csv").read_bytes())
    for data in (
        Path("loans.csv"),
        bank / "loans.csv",
        f"file://{bank}/loans.csv",
        "memory://bank/loans.csv",
        "duckdb:bank.duckdb?table=loans",
        f"duckdb:{bank}/bank.duckdb?query=SELECT * FROM loans",
        "sqlite:///bank.db?query=SELECT%20*%20FROM%20loans",
        "duckdb:?query=SELECT * FROM 'loans.csv'",
    ):
        pd.testing.assert_frame_equal(read(data), want)
        assert digest(read(data)) == digest(want)


@pytest.mark.parametrize(
    "data", [3, None, [1, 2], pd.DataFrame(), pd.DataFrame({"a": []}), pd.DataFrame([[1, 2]], columns=["a", "a"])]
)
def test_what_is_no_data_is_refused(data: object) -> None:
    refused(data)


def test_a_frame_passes_untouched_and_columns_are_found() -> None:
    frame = pd.DataFrame({"a": [1], "b": [2]})
    assert read(frame) is frame and list(read(frame, columns=["b"])) == ["b"]
    assert "did you mean 'income'?" in str(refused("sample:credit?rows=9", columns=["incom"]))
    assert list(read(pd.DataFrame(np.eye(2)))) == ["0", "1"]


def test_long_integers_with_gaps_lose_nothing() -> None:
    raw = b"id,share,key\n9007199254740993,1e300,007\n,,\n-1,0.5,8\n"
    frame = read_csv(raw, "x.csv")
    assert frame["id"].dropna().tolist() == [9007199254740993, -1] and frame["share"].tolist()[0] == 1e300
    stored = io.BytesIO()
    frame.to_parquet(stored)
    assert digest(read_parquet(stored.getvalue(), "x.parquet")) == digest(frame)


CELL = st.text(alphabet="01.-+eE xX\"',;TrueNaNinf", max_size=6)


@quick
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_csv_is_read_as_pandas_reads_it(rows: list[tuple[str, str]]) -> None:
    raw = pd.DataFrame(rows, columns=["a", "b"]).to_csv(index=False).encode()
    want = pd.read_csv(io.BytesIO(raw), low_memory=False)
    try:
        got = read_csv(raw, "x.csv")
    except UserError:
        return
    assert got.shape == want.shape
    for name in "ab":
        if want[name].dtype != object:  # settling changes nothing that had a proper type
            pd.testing.assert_series_equal(got[name], want[name])


COLUMN = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.sampled_from(["x", "y y", "é,\n", '"', " z"])), min_size=4, max_size=4),
)


@quick
@given(st.lists(COLUMN, min_size=1, max_size=4))
def test_the_digest_sees_through_storage(columns: list[list]) -> None:
    frame = pd.DataFrame({f"c{i}": pd.Series(values, dtype=object) for i, values in enumerate(columns)})
    frame.insert(0, "row", range(4))
    want = digest(frame)
    assert digest(frame.set_axis([7, 7, 8, 9])) == want
    assert digest(frame.astype("category")) == want
    stored = io.BytesIO()
    frame.to_parquet(stored)
    assert digest(read_parquet(stored.getvalue(), "x.parquet")) == want
    assert digest(read_csv(frame.to_csv(index=False).encode(), "x.csv")) == want


@quick
@given(st.lists(COLUMN, min_size=2, max_size=4), st.data())
def test_the_digest_sees_every_change(columns: list[list], data: st.DataObject) -> None:
    frame = pd.DataFrame({f"c{i}": pd.Series(values, dtype=object) for i, values in enumerate(columns)})
    row, name = data.draw(st.integers(0, 3)), data.draw(st.sampled_from(list(frame.columns)))
    changed = frame.copy()
    here = frame.at[row, name]
    changed.at[row, name] = None if here is not None else next((v for v in frame[name] if v is not None), "new")
    assert digest(changed) != digest(frame)
    assert digest(frame.rename(columns={name: "other"})) != digest(frame)
    assert digest(frame[[*frame.columns[1:], frame.columns[0]]]) != digest(frame)
    assert digest(pd.concat([frame, frame.tail(1)])) != digest(frame)


def test_the_digest_sees_through_widths_units_and_spellings_of_nothing() -> None:
    def same(*columns: object) -> None:
        assert len({digest(pd.DataFrame({"a": column})) for column in columns}) == 1

    def different(*columns: object) -> None:
        assert len({digest(pd.DataFrame({"a": column})) for column in columns}) == len(columns)

    numbers = pd.Series([1, 2, 3])
    same(
        *(
            numbers.astype(t)
            for t in ("int8", "uint16", "int32", "Int64", "UInt8", "int64[pyarrow]", "category", object)
        )
    )
    same(pd.Series([1, None]), pd.Series([1, None], dtype="Int8"), pd.Series([1, None], dtype="Float32"))
    same(pd.Series([0.0, 1.0]), pd.Series([-0.0, 1.0]))
    same(pd.Series([None, None], dtype=object), pd.Series([np.nan] * 2), pd.Series([None, None], dtype="str"))
    same(*(pd.Series(["a", gap], dtype=object) for gap in (None, np.nan, pd.NA)))
    days = pd.Series(pd.to_datetime(["2026-05-01", None]))
    same(*(days.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")))
    different(days, days.dt.tz_localize("UTC"), days.dt.tz_localize("Europe/Berlin"))
    different([1, 2], [1.0, 2.0], ["1", "2"], [True, False], ["12", ""], ["", "12"], ["1", None])
    different(pd.Series([2**63], dtype="uint64"), [-(2**63)], [float(2**63)])


@pytest.mark.parametrize("values", [[1, "a"], [[1], [2]], [b"a", b"b"], [1j, 2j], [{"a": 1}, None], [True, "a"]])
def test_a_column_without_plain_values_is_named(values: list, ws) -> None:
    frame = pd.DataFrame({"good": [1, 2], "odd one": pd.Series(values, dtype=object)})
    for use in (digest, lambda f: save(ws, f), infer):
        with pytest.raises(UserError, match="column 'odd one'"):
            use(frame)
    assert "mixed" in {column.type for column in describe(frame).columns}


def test_snapshots_come_back_whole(ws, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = credit(300).assign(
        when=pd.date_range("2026-01-01", periods=300, tz="Europe/Berlin"), took=pd.to_timedelta(range(300), unit="s")
    )
    name = save(ws, frame)
    again = load(ws, name)
    assert digest(again) == name and again["when"].dt.tz is not None and "synthetic" in again.attrs
    for number in (1, 2):  # names that Parquet, fsspec or a shell could stumble over
        odd = pd.DataFrame({"a/b": [number], "=1+1": ["x"], "<script>": [1.5], "": [True]})
        assert digest(load(ws, save(ws, odd))) == digest(odd)
    file = ws.path("snapshots", f"{name}.parquet")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UserError, match="not what it was"):
        load(ws, name)


def test_snapshots_go_where_the_settings_say(tmp_path: Path) -> None:
    from aiplat.core import workspace

    for number, place in enumerate(("memory://team/snaps", "shared/snaps", f"file://{tmp_path}/abs")):
        ws = workspace.create(tmp_path / str(number), snapshots=place)
        name = save(ws, credit(50))
        assert digest(load(ws, name[:10])) == name == save(ws, credit(50))
    assert list((tmp_path / "1" / "shared" / "snaps").glob("*.parquet"))
    blocked = tmp_path / "file"
    blocked.write_text("")
    ws = workspace.create(tmp_path / "4", snapshots=f"{blocked}/snaps")
    with pytest.raises(UserError, match="cannot be written"):
        save(ws, credit(50))


WRITER = """
import sys
from aiplat.core.workspace import workspace
from aiplat.data.sample import credit
from aiplat.data.snapshots import save
ws = workspace()
print("ready", flush=True)
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    save(ws, credit(40_000, seed))
print("done", flush=True)
"""


def _writer(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(first), str(last)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_writer_leaves_no_half_snapshot_and_two_do_no_harm(ws) -> None:
    for number in range(3):
        writer = _writer(ws.root, 0, 1000)
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(0.15 + 0.11 * number)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    kept = sorted(ws.path("snapshots").glob("[0-9a-f]*.parquet"))
    for path in kept:
        assert digest(load(ws, path.stem)) == path.stem
    both = [_writer(ws.root, 0, 4), _writer(ws.root, 0, 4)]
    assert all(writer.communicate(timeout=120)[0].endswith("done\n") and writer.returncode == 0 for writer in both)
    for seed in range(4):
        assert len(load(ws, digest(credit(40_000, seed)))) == 40_000


BROKEN_CONTRACTS = [
    ("columns:\n  a:\n    in_rnage: {min_value: 0}\n", "line 3: 'in_rnage'", "did you mean 'in_range'?"),
    ("columns:\n  a:\n   dtype: int64\n    nullable: true\n", "line 4", "mend the YAML"),
    ("columns:\n  a: [1\n", "line 3", "mend the YAML"),
    ("", "key columns", "data contract"),
    ("- a\n- b\n", "key columns", "data contract"),
    ("strict: true\n", "no columns", "write columns"),
    ("columns: 3\n", "line 1: columns should have keys", "example"),
    ("columns:\n  a:\n  a:\n", "line 3: 'a' stands there a second time", "keep one"),
    ("columns:\n  a: !!python/object/apply:os.system [touch owned]\n", "line 2", "example"),
    ("columns:\n  a:\n    isin: !!python/name:os.system\n", "line 3", "plain text"),
    ("columns:\n  a:\n    isin: !!python/object/new:os.system [touch owned]\n", "line 3", "plain text"),
    ("columns:\n  a:\n    __init_subclass__: 3\n", "line 3: '__init_subclass__'", ""),
    ("columns:\n  a:\n    from_builtin_check_name: x\n", "line 3", ""),
    ("columns:\n  a:\n    checks: [{options: {check_name: register_backend}}]\n", "line 3: 'checks'", ""),
    ("columns:\n  a: {dtype: str, isin: [yes, no]}\n", "line 2: True is not text", "quotes"),
    ("columns:\n  a: {dtype: int64, isin: [one]}\n", "line 2: 'one' does not fit", "type"),
    ("columns:\n  a: {dtype: datetime, ge: someday}\n", "line 2: 'someday' is no time", ""),
    ("columns:\n  a: {dtype: int64, str_matches: x}\n", "is for text", ""),
    ("columns:\n  a: {dtype: str, str_matches: '['}\n", "pattern is broken", "regular expression"),
    ("columns:\n  a: {nullable: maybe}\n", "neither true nor false", ""),
    ("columns:\n  a: {in_range: 3}\n", "in_range does not take 3", "min_value"),
    ("columns:\n  a: {in_range: {min: 3}}\n", "in_range has no 'min'", ""),
    ("columns:\n  a: {in_range: {min_value: 3, max_value: 1}}\n", "cannot be made", ""),
    ("columns:\n  a: {isin: 3}\n", "isin does not take 3", "[a, b]"),
    ("columns:\n  a: {dtype: complex128}\n", "there is no type 'complex128'", ""),
    ("columns:\n  a: {drop_invalid_rows: true}\n", "'drop_invalid_rows'", ""),
    ("columns:\n  a: {}\nadd_missing_columns: true\n", "line 3: 'add_missing_columns'", ""),
    ("columns:\n  a: {}\nstrict: filter\n", "line 3: strict is neither", ""),
    ("columns:\n  a: {}\nunique: true\n", "line 3: unique does not take True", "unique: [id, day]"),
    ("columns:\n  a: {}\nunique: [a, 1]\n", "line 3: unique does not take", "unique: [id, day]"),
    ("columns:\n  a: {}\n  '[a': {regex: true}\n", "line 3: the pattern is broken", "regular expression"),
    ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ncolumns: {}\n", "line 1: 'a' is not applied", ""),
]


@pytest.mark.parametrize(("text", "what", "todo"), BROKEN_CONTRACTS, ids=range(len(BROKEN_CONTRACTS)))
def test_a_broken_contract_names_file_and_line(text: str, what: str, todo: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_contract("c.yaml")
    assert "c.yaml" in caught.value.what and what in caught.value.what and todo in caught.value.todo, caught.value
    assert not Path("owned").exists()


@quick
@given(st.lists(COLUMN, min_size=1, max_size=4))
def test_data_fulfils_the_contract_inferred_from_it(tmp_path: Path, columns: list[list]) -> None:
    frame = pd.DataFrame({f"c{i}": pd.Series(values * 30, dtype=object) for i, values in enumerate(columns)})
    frame = frame.drop(columns=[c for c in frame if frame[c].isin([np.inf, -np.inf]).any()])
    frame["row"] = range(120)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(infer(frame)))
    rules = read_contract(str(file))
    assert failures(frame, rules) == []
    assert failures(read_csv(frame.to_csv(index=False).encode(), "x"), rules) == []


def test_a_contract_shows_every_failure_and_leaves_evidence(ws) -> None:
    contract("sample:credit?rows=4000", out="c.yaml")
    with pytest.raises(UserError, match="exists already"):
        contract("sample:credit?rows=4000", out="c.yaml")
    assert check("sample:credit?rows=2000&seed=7", contract="c.yaml").evidence
    bad = credit(1000).assign(income=-1.0, age=lambda f: f["age"] + 0.5, sex=None).rename(columns={"purpose": "purpos"})
    with pytest.raises(Refused) as caught:
        check(bad, contract="c.yaml")
    assert caught.value.exit_code == 3
    rules = {(f.column, f.rule.split(":")[0]): f for f in caught.value.result.failures}
    assert set(rules) == {("income", "in_range"), ("age", "dtype"), ("sex", "nullable"), ("purpose", "is missing")}
    assert rules["income", "in_range"].rows == 1000 and rules["income", "in_range"].examples == ["-1.0"]
    assert all(Path("c.yaml").read_text().splitlines()[f.line - 1].strip() for f in rules.values())
    assert rules["purpose", "is missing"].examples == ["did you mean 'purpos'?"]
    last, first = find(ws, "contract")
    assert (last.outcome, first.outcome) == ("fail", "pass") and last.data_digest == digest(bad)
    assert last.measured["failures"] and first.measured["contract_digest"] == last.measured["contract_digest"]


def test_gaps_storage_and_new_columns_do_not_break_a_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no workspace here
    Path("c.yaml").write_text(
        "columns:\n  n: {dtype: int64, nullable: true, ge: 0}\n  t: {dtype: str}\n  '^x\\d$': {regex: true}\n"
    )
    for n in ([1, 2], [1, None], pd.Series([1, 2], dtype="int8"), pd.Series([1, None], dtype="Int64"), [None, None]):
        frame = pd.DataFrame({"n": n, "t": pd.Categorical(["a", "b"]), "x1": [1, 2], "new": [1, 2]})
        result = check(frame, contract="c.yaml")
        assert result.ok and result.evidence is None and "nothing was recorded" in str(result)
    with pytest.raises(Refused):
        check(pd.DataFrame({"n": [1.5], "t": ["a"], "x1": [1]}), contract="c.yaml")
    Path("s.yaml").write_text("columns: {b: {}, a: {}}\nstrict: true\nordered: true\nunique: [a, b]\n")
    with pytest.raises(Refused) as caught:
        check(pd.DataFrame({"a": [1, 1], "b": [1, 1], "c": [1, 1]}), contract="s.yaml")
    assert {f.rule for f in caught.value.result.failures} == {"strict: true", "ordered: true", "unique"}


def test_millions_of_failures_are_counted_quickly(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "columns:\n  a: {dtype: int64, lt: 0, unique: true}\n  b: {dtype: str, isin: [z]}\n"
    )
    frame = pd.DataFrame({"a": np.arange(1_000_000) // 2, "b": pd.Series(["x", "y"] * 500_000, dtype="str")})
    found = failures(frame, read_contract(str(tmp_path / "c.yaml")))
    assert [failure.rows for failure in found] == [1_000_000] * 3


def test_a_profile_is_safe_and_says_what_is_odd() -> None:
    frame = credit(200).assign(key=range(1000, 1200), const=1, gone=None, text=[str(n / 7) for n in range(200)])
    frame["<img src=x onerror=alert(1)>"] = "<script>alert(1)</script>"
    profile = describe(pd.concat([frame, frame.head(5)]))
    notes = {column.name: "; ".join(column.notes) for column in profile.columns}
    assert profile.duplicates == 5 and "numbers stored as text" in notes["text"]
    assert notes["gone"] == "all missing" and "one value" in notes["const"] and not notes["income"]
    page = profile._repr_html_()
    assert "<script>alert" not in page and "<img" not in page and "<svg" in page
    assert profile.to_dict()["columns"][0]["name"] == "sex" and profile.to_json()


def test_the_sample_has_the_planted_disparity() -> None:
    from fairlearn.metrics import demographic_parity_ratio
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    frame = credit(10_000, seed=0)
    for by in ("sex", "age_group"):
        rates, want = credit(100_000, seed=4).groupby(by)["approved"].mean(), truth(by)
        assert all(abs(rates[group] - rate) < 0.015 for group, rate in want.rates.items())
    assert abs(truth("sex", disparity=0).demographic_parity_ratio - 1) < 0.01
    assert truth("sex").demographic_parity_ratio < 0.72 and truth("age_group").demographic_parity_ratio > 0.8

    X, y = frame.drop(columns="approved"), frame["approved"]
    X = X.assign(**{name: X[name].astype("category") for name in X.select_dtypes("str")})
    model = HistGradientBoostingClassifier(max_iter=60, categorical_features="from_dtype", random_state=0)
    scores = model.fit(X[:7500], y[:7500]).predict_proba(X[7500:])[:, 1]
    assert 0.8 < roc_auc_score(y[7500:], scores) < 0.9
    ratio = demographic_parity_ratio(y[7500:], scores >= 0.5, sensitive_features=X["sex"][7500:])
    assert 0.5 < ratio < 0.72
