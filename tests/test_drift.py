"""Measures of drift: equal to their definitions, alarms as rare as promised, changes found, odd columns survived."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp

from aiplat.core.errors import UserError
from aiplat.operations.monitoring.distances import (
    adjusted,
    bins_of_levels,
    bins_of_numbers,
    chi_square,
    jensen_shannon,
    kolmogorov,
    psi,
    psi_by_chance,
    rates_differ,
)  # fmt: skip
from aiplat.operations.monitoring.domains import separation
from aiplat.operations.monitoring.domains import words as words_of
from aiplat.operations.monitoring.drift import ColumnDrift, Drift, Prepared, drift
from aiplat.operations.monitoring.samples import Levels, Numbers, kind_of, sample

FEW = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=60)


def numbers(values: list[float], missing: int = 0) -> Numbers:
    return Numbers(np.sort(np.array(values, dtype=float)), missing)


@settings(max_examples=200, deadline=None)
@given(FEW, FEW)
def test_ks_is_scipys_with_ties_and_whatever_sizes(a: list[float], b: list[float]) -> None:
    ours, theirs = kolmogorov(numbers(a), numbers(b))[0], ks_2samp(a, b, method="asymp").statistic
    assert ours == pytest.approx(theirs) and ours == pytest.approx(kolmogorov(numbers(b), numbers(a))[0])


ANY = st.lists(st.one_of(st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, 5e-324, 1.7e308, -1.7e308]), st.floats(allow_nan=False)), min_size=1, max_size=60)  # fmt: skip


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance of two distribution functions, asked at every value of either and just before it."""
    points, (x, y) = np.r_[a, b], (np.sort(a), np.sort(b))
    return max(
        float(np.abs(np.searchsorted(x, points, side) / len(x) - np.searchsorted(y, points, side) / len(y)).max())
        for side in ("left", "right")
    )


@settings(max_examples=300, deadline=None)
@given(ANY, ANY)
def test_cells_keep_the_order_of_whatever_floats(a: list[float], b: list[float]) -> None:
    x, y = Numbers(np.array(a)), Numbers(np.array(b))
    with np.errstate(all="raise", under="ignore"):
        placed = y.on(x.grid)
        assert kolmogorov(x, y)[0] == pytest.approx(by_definition(x.values, y.values), abs=1e-12)
        bins_of_numbers(x, y)
    ordered = np.sort(y.values)
    assert (np.diff(placed.cells[np.argsort(y.values)].astype(int)) >= 0).all()
    found, upto = placed.nth(np.arange(len(b)))
    assert np.array_equal(found, ordered)
    assert np.array_equal(upto, np.searchsorted(ordered, ordered, side="right"))
    assert np.array_equal(placed.upto(x.values), np.searchsorted(ordered, x.values, side="right"))


@pytest.mark.parametrize("size", [30_000, 150_000])
def test_long_samples_are_compared_exactly(size: int) -> None:
    """Against scipy and a full sort: ties, spikes, heavy tails, infinities, ranges that defeat equal cells; shifted and not."""
    rng = np.random.default_rng(12)
    odd = np.array([np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324, 0.0])
    kinds = {
        "normal": lambda n: rng.normal(size=n),
        "decimals": lambda n: np.round(rng.random(n), 3),
        "whole": lambda n: rng.integers(-50, 50, n).astype(float),
        "large whole": lambda n: rng.integers(2**40, 2**41, n).astype(float),
        "mostly zero": lambda n: np.where(rng.random(n) < 0.9, 0.0, rng.exponential(1000, n)),
        "heavy": lambda n: rng.standard_cauchy(n) ** 3,
        "every magnitude": lambda n: 10 ** rng.uniform(-300, 300, n) * rng.choice([-1, 1], n),
        "odd": lambda n: rng.choice(odd, n),
        "half odd": lambda n: np.where(rng.random(n) < 0.5, rng.choice(odd, n), rng.normal(size=n)),
        "constant": lambda n: np.full(n, 7.0),
        "two heaps": lambda n: rng.choice([0.0, 1e12], n) + rng.random(n),
    }
    for name, draw in kinds.items():
        old, now = draw(size // 3), draw(size)
        for new in (now, np.nextafter(now, np.inf), np.where(rng.random(size) < 0.02, now + 0.3, now)):
            x, y = Numbers(old), Numbers(new)
            found = kolmogorov(x, y)[0]
            assert found == pytest.approx(by_definition(old, new), abs=1e-12), name
            assert found == pytest.approx(ks_2samp(old, new, method="asymp").statistic, abs=1e-12), name
            assert found == pytest.approx(kolmogorov(y, x)[0], abs=1e-12), name
            ordered = np.sort(old)
            edges = np.unique(ordered[np.arange(1, 10) * len(old) // 10 - 1])
            bins = bins_of_numbers(x, y)
            below = [int((new < ordered[0]).sum())] if edges[0] == ordered[0] else []
            upto = [*below, *np.searchsorted(np.sort(new), edges, side="right"), size]
            counts = np.diff(upto, prepend=0)
            assert bins.now[bins.now > 0].tolist() == counts[counts > 0].tolist(), name
            assert bins.before.sum() == len(old), name


@settings(max_examples=200, deadline=None)
@given(FEW, FEW, st.integers(0, 5), st.integers(0, 5))
def test_bins_hold_every_row_once(a: list[float], b: list[float], gaps: int, more: int) -> None:
    bins = bins_of_numbers(numbers(a, gaps), numbers(b, more))
    assert (
        bins.before.sum() == len(a) + gaps and bins.now.sum() == len(b) + more and len(bins.names) == len(bins.before)
    )
    assert psi(bins) >= 0 and 0 <= jensen_shannon(bins) <= 1
    assert jensen_shannon(bins) == pytest.approx(float(jensenshannon(*bins.shares, base=2)), abs=1e-7)
    assert psi(bins_of_numbers(numbers(a), numbers(a))) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=2, max_size=8), st.lists(st.integers(0, 300), min_size=8, max_size=8))
def test_chi_square_is_scipys_where_its_approximation_holds(before: list[int], now: list[int]) -> None:
    a, b = np.array(before), np.array(now[: len(before)])
    expected = (a + b) * min(a.sum(), b.sum()) / max((a + b).sum(), 1)
    if a.sum() and b.sum() and (expected >= 5).all():
        assert chi_square(a, b)[1] == pytest.approx(chi2_contingency([a, b], correction=False)[1])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrected_p_values_are_never_smaller_and_keep_their_order(p: list[float]) -> None:
    for how in ("holm", "bh"):
        fixed = adjusted(p, how)
        assert (fixed >= np.array(p) - 1e-12).all() and (fixed <= 1).all()
        assert (np.diff(fixed[np.argsort(p, kind="stable")]) >= -1e-12).all()
    assert (adjusted(p, "bh") <= adjusted(p, "holm") + 1e-12).all()


def applicants(rows: int, rng: np.random.Generator, shift: float = 0.0) -> pd.DataFrame:
    """Columns of every kind, with gaps, ties, heavy tails and rare levels."""
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "income": rng.lognormal(10 + shift, 0.6, rows),
            "gain": np.where(rng.random(rows) < 0.9, 0.0, rng.exponential(1000, rows)),
            "score": rng.standard_t(2, rows),
            "job": rng.choice([f"job {n}" for n in range(40)], rows, p=(w := 1 / np.arange(1, 41)) / w.sum()),
            "member": rng.random(rows) < 0.3,
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 2000, rows), unit="D"),
            "class": rng.choice([1, 2, 3], rows),
        }
    )
    frame.loc[rng.random(rows) < 0.1, ["income", "job"]] = None
    return frame


def test_false_alarms_are_as_rare_as_promised() -> None:
    """1,200 windows without a change, of 60 to 3,000 rows: at most the 1 % that ``alpha`` allows name any column, and no PSI passes 0.2 in windows of 200 rows or more."""
    rng = np.random.default_rng(7)
    known = Prepared(applicants(8000, rng))
    alarms, tests_only, large = 0, 0, 0
    sizes = [60, 200, 500, 3000] * 300
    for size in sizes:
        found = drift(applicants(size, rng), known, classifier=False)
        alarms += bool(found.drifted)
        tests_only += any(each.adjusted < found.alpha for each in found.columns)
        large += size >= 200 and any(each.psi > 0.2 for each in found.columns)
    assert tests_only <= 24, "1 % of 1,200 are 12; more than 24 happen once in a thousand times"
    assert alarms <= tests_only and large == 0
    beyond = [
        each.psi > each.chance
        for _ in range(40)
        for each in drift(applicants(400, rng), known, classifier=False).columns
    ]
    assert np.mean(beyond) < 0.04, "what chance makes is passed by about one in a hundred"


def test_changes_are_found_once_they_matter() -> None:
    rng = np.random.default_rng(8)
    known = Prepared(applicants(8000, rng))
    found = [
        [each.name for each in drift(applicants(size, rng, shift=0.35), known, classifier=False).drifted]
        for size in [500] * 50
    ]
    assert sum(each == ["income"] for each in found) >= 48, "more than half a standard deviation in 500 rows"
    sure_but_small = drift(applicants(60_000, rng, shift=0.03), known, classifier=False)
    assert sure_but_small.column("income").adjusted < 0.01 and not sure_but_small.drifted, (
        "beyond chance, and too small to matter"
    )
    gaps = applicants(600, rng)
    gaps.loc[rng.random(600) < 0.4, "age"] = np.nan
    assert [each.name for each in drift(gaps, known, classifier=False).drifted] == ["age"]
    jobs = applicants(600, rng)
    jobs.loc[jobs.index < 200, "job"] = "a job that nobody had"
    told = drift(jobs, known, classifier=False).column("job")
    assert told.drifted and told.unknown == ("a job that nobody had",) and 0.3 < told.beyond < 0.45


def test_a_change_of_combinations_is_found_by_the_classifier_alone() -> None:
    rng = np.random.default_rng(9)

    def pairs(sign: float, rows: int) -> pd.DataFrame:
        a = rng.normal(size=rows)
        return pd.DataFrame({"a": a, "b": sign * a + 0.5 * rng.normal(size=rows), "c": rng.normal(size=rows)})

    found = drift(pairs(-1, 1500), pairs(1, 3000))
    assert not found.drifted and found.separation.auc.low > 0.8 and list(found.separation.needed)[-1] == "c"
    assert "combinations" in found.headline[0]


@pytest.mark.parametrize("rows", [1, 3, 30])
def test_odd_columns_are_survived(rows: int) -> None:
    rng = np.random.default_rng(1)
    odd = pd.DataFrame(
        {
            "constant": np.ones(rows),
            "empty": [None] * rows,
            "infinite": np.where(np.arange(rows) % 2, np.inf, -np.inf),
            "nan": np.full(rows, np.nan),
            "mixed": [1 if n % 2 else "one" for n in range(rows)],
            "huge": rng.random(rows) * 1e308,
            "tiny": rng.random(rows) * 5e-324,
            "zone": pd.to_datetime([datetime(2026, 1, 1, tzinfo=UTC)] * rows),
            "category": pd.Categorical(["a"] * rows, categories=["a", "b"]),
            "lists": [[0.0, 1.0]] * rows,
            "bytes": [b"x"] * rows,
            "Int64": pd.array([1, None, 3][:rows] * (rows // 3 or 1), dtype="Int64")[:rows]
            if rows > 1
            else pd.array([1], dtype="Int64"),
        }
    )
    with np.errstate(all="raise", under="ignore"):
        found = drift(odd, odd, classifier=True)
    assert not found.drifted and not found.absent
    assert str(found) and found.to_json() and found._repr_html_()
    upside = drift(odd.iloc[::-1].astype({"constant": str}), odd, classifier=False)
    assert not upside.drifted


def test_kinds_are_the_references_and_absent_columns_are_named() -> None:
    reference = pd.DataFrame(
        {"code": ["1", "2", "3"] * 100, "age": np.arange(300.0), "when": pd.date_range("2026-01-01", periods=300)}
    )
    found = drift(
        pd.DataFrame({"code": [1, 2, 3] * 50, "age": [str(n) for n in range(0, 300, 2)]}), reference, classifier=False
    )
    assert not found.drifted and found.absent == ["when"], (
        "1 and '1' are one level; '12' is a number where numbers were"
    )
    assert kind_of(pd.Series(["a", "b"])) == "level" and kind_of(reference["when"]) == "time"
    words = drift(pd.DataFrame({"age": ["many"] * 150}), reference[["age"]], classifier=False).column("age")
    assert words.missing == (0.0, 1.0) and words.drifted
    with pytest.raises(UserError, match="no rows"):
        drift(reference.head(0), reference)
    with pytest.raises(UserError, match="correction"):
        drift(reference, reference, correction="holms")


def test_order_of_rows_and_columns_means_nothing() -> None:
    rng = np.random.default_rng(3)
    old, new = applicants(3000, rng), applicants(700, rng, shift=0.2)
    one = drift(new, old, classifier=False)
    other = drift(
        new.sample(frac=1, random_state=1)[list(new.columns[::-1])],
        old.sample(frac=1, random_state=2),
        classifier=False,
    )
    for each in one.columns:
        same = other.column(each.name)
        assert (each.psi, each.p, each.distance, each.js) == pytest.approx(
            (same.psi, same.p, same.distance, same.js), abs=1e-9
        )


def test_texts_and_embeddings() -> None:
    rng = np.random.default_rng(4)
    common = [
        "please",
        "send",
        "me",
        "the",
        "new",
        "card",
        "for",
        "my",
        "account",
        "as",
        "soon",
        "as",
        "you",
        "can",
        "thank",
        "you",
    ]
    fraud = ["a", "wallet", "was", "emptied", "by", "somebody", "else", "and", "the", "app", "shows", "nothing"]

    def letters(rows: int, share: float) -> pd.DataFrame:
        texts = [" ".join(rng.choice(fraud if rng.random() < share else common, 12)) + f" {n}" for n in range(rows)]
        middle = (rng.random(rows) < share)[:, None] * 1.2
        vectors = pd.DataFrame(rng.normal(size=(rows, 80)) + middle, columns=[f"e_{n}" for n in range(80)])
        return pd.concat([pd.DataFrame({"letter": texts}), vectors], axis=1)

    known = Prepared(letters(1500, 0.05))
    assert known.texts == ["letter"] and list(known.vectors) == ["e"] and not known.single
    calm = [drift(letters(400, 0.05), known, classifier=False, seed=n) for n in range(20)]
    assert sum(bool(each.drifted) for each in calm) <= 1
    changed = drift(letters(400, 0.5), known, classifier=False)
    assert {each.name for each in changed.drifted} == {"letter", "e"}
    assert set(changed.column("letter").unknown) & set(fraud)


def test_the_same_window_asked_twice_gives_the_same_answer() -> None:
    rng = np.random.default_rng(5)
    old, new = applicants(6000, rng), applicants(5000, rng)
    assert drift(new, old).to_json() == drift(new, old).to_json()
    few = separation(old.head(20), new, {"age": "number"})
    assert few.auc.value is None and few.p == 1.0 and "fewer" in few.auc.undefined


def test_large_whole_numbers_are_sorted_right() -> None:
    rng = np.random.default_rng(6)
    for values in (
        rng.integers(-100, 60_000, 20_000),
        rng.integers(0, 2**40, 20_000),
        rng.integers(0, 9, 20_000) * 1.0,
        np.round(rng.random(20_000), 3),
    ):
        column = pd.Series(values.astype(float))
        column[::17] = np.nan
        found = sample(column, "number")
        assert np.array_equal(found.ordered, np.sort(column.dropna().to_numpy())) and found.missing == int(
            column.isna().sum()
        )


def test_rates_and_empty_samples() -> None:
    empty = Numbers(np.zeros(0), 5)
    assert (
        kolmogorov(empty, numbers([1.0]))[1] == 1.0
        and psi_by_chance(bins_of_numbers(empty, Numbers(np.zeros(0)))) == 0.0
    )
    assert rates_differ(0, 100, 0, 100) == 1.0 and rates_differ(0, 0, 5, 10) == 1.0
    assert rates_differ(100, 100, 100, 100) == 1.0 and rates_differ(0, 50, 50, 50) < 1e-10
    nobody = bins_of_levels(Levels((), np.zeros(0, dtype=np.int64), 3), Levels(("a",), np.array([4])))
    assert nobody.now.sum() == 4 and nobody.before.sum() == 3 and psi(nobody) > 0


def column(found: Drift, name: str) -> ColumnDrift:
    """A column that was compared."""
    each = found.column(name)
    assert each is not None
    return each


@pytest.mark.parametrize("empty", ["now", "before", "both"])
def test_a_text_column_without_a_text_is_survived(empty: str) -> None:
    rng = np.random.default_rng(13)
    words = ["please", "send", "me", "the", "new", "card", "for", "my", "account"]

    def letters(rows: int, gone: bool) -> pd.Series:
        return pd.Series(
            [None if gone else " ".join(rng.choice(words, 6)) + f" {n}" for n in range(rows)], dtype=object
        )

    before, now = letters(900, empty != "now"), letters(400, empty != "before")
    said = words_of(before, now)
    assert said.separation.auc.value is None and said.separation.p == 1.0
    if empty == "now":
        found = drift(pd.DataFrame({"letter": now}), pd.DataFrame({"letter": before}), classifier=False)
        letter = column(found, "letter")
        assert letter.kind == "text" and letter.missing == (0.0, 1.0) and found.drifted == [letter]


def features(rows: int, rng: np.random.Generator, wide: int = 10) -> pd.DataFrame:
    """Columns that somebody numbered, and another one."""
    return pd.DataFrame(rng.normal(size=(rows, wide + 1)), columns=[*(f"V{n}" for n in range(1, wide + 1)), "x"])


def test_numbered_columns_are_columns_too() -> None:
    rng = np.random.default_rng(14)
    known = Prepared(features(5000, rng))
    assert set(known.single) == set(known.kinds) and list(known.vectors) == ["V"]
    shifted = features(1000, rng)
    shifted["V3"] += 0.5
    found = drift(shifted, known, classifier=False)
    assert [each.name for each in found.drifted] == ["V3"] and column(found, "V3").psi > 0.1
    assert found.headline[0] == "1 of 11 columns has drifted: V3"
    gone = features(1000, rng)
    gone["V3"] = np.nan
    found = drift(gone, known, classifier=False)
    assert column(found, "V3").missing == (0.0, 1.0) and column(found, "V").missing == (0.0, 1.0)
    assert [each.name for each in found.drifted] == ["V3"] and column(found, "V").rows == (5000, 1000)
    holes = features(1000, rng)
    holes = holes.mask(rng.random(holes.shape) < 0.4)
    found = drift(holes, known, classifier=False)
    assert {each.name for each in found.drifted} == set(known.single) and column(found, "V").missing[1] > 0.98
    turn = features(1000, rng)
    turn[[f"V{n}" for n in range(1, 11)]] += 0.12
    found = drift(turn, known, classifier=False)
    assert [each.name for each in found.drifted] == ["V"]
    assert found.headline == ("no column by itself, but V1 to V10 together have drifted", "warn")
    calm = [drift(features(600, rng), known, classifier=False) for _ in range(30)]
    assert not any(each.drifted for each in calm) and calm[0].headline[0] == "none of 11 columns has drifted"


def test_wide_embeddings_are_vectors_alone_and_their_gaps_count() -> None:
    rng = np.random.default_rng(15)
    known = Prepared(features(400, rng, wide=96))
    assert list(known.single) == ["x"] and list(known.vectors) == ["V"]
    gone = features(300, rng, wide=96)
    gone.loc[:59, "V7"] = np.nan
    found = drift(gone, known, classifier=False)
    assert column(found, "V").missing == (0.0, 0.2) and [each.name for each in found.drifted] == ["V"]
    assert found.headline[0] == "1 of 2 columns has drifted: V"
    lists = [
        pd.DataFrame({"e": list(rng.normal(size=(rows, wide)))}) for rows, wide in ((300, 16), (200, 16), (200, 32))
    ]
    assert not drift(lists[1], lists[0], classifier=False).drifted
    other = drift(lists[2], lists[0], classifier=False)
    assert column(other, "e").missing == (0.0, 1.0) and column(other, "e").drifted, (
        "of another length: none of them fits"
    )
