"""Cards and reports: figures by hand, hostile names, seals that break when they should, and nothing claimed that was not recorded."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from aiplat.core import evidence, ledger
from aiplat.core.errors import UsageError, UserError
from aiplat.data import snapshots
from aiplat.data.sample import credit
from aiplat.release.verify import verify
from aiplat.release.versions import register
from aiplat.training.runs import log_run
from aiplat.trust.audit import audit
from aiplat.trust.evaluate import evaluate
from aiplat.trust.reporting import impact, law144, points
from aiplat.trust.reporting.cards import TAG, card
from aiplat.trust.reporting.pages import record_in
from aiplat.trust.reporting.papers import KINDS, Report
from aiplat.trust.reporting.reports import report
from aiplat.trust.reporting.sealed import digest_of, opened
from aiplat.trust.reporting.statements import read_answers

ADULT = Path(__file__).parent.parent.parent / "shared" / "data" / "adult"
EVIL = '<script>alert(1)</script><img src=x onerror="y">"\'&|`**[a](javascript:b)'
FEATURES = ["income", "amount", "late_payments"]


@pytest.fixture
def model(ws):
    """A logged model of the sample, with its held-out rows."""
    people = credit(rows=1800, seed=1).dropna(subset=FEATURES)
    train, test = people[:1000], people[1000:]
    estimator = LogisticRegression(max_iter=500).fit(train[FEATURES], train["approved"])
    about = {"task": "binary", "target": "approved", "positive": "1", "features": FEATURES, "data": "sample:credit"}
    return log_run(ws, "train", estimator, train=train, test=test, **about).run


def harmless(text: str) -> bool:
    """No markup of anybody's, no address, no script; the page's own tags only."""
    tags = {name.lower() for name in re.findall(r"<\s*/?\s*([a-zA-Z][\w-]*)", text)}
    addresses = [a for a in re.findall(r"https?://[^\s\"'<)]+", text) if not a.startswith("http://www.w3.org/")]
    return not tags & {"script", "img", "iframe", "object", "link", "base", "form"} and not addresses


# --- New York City's Local Law 144 ------------------------------------------------------------------------------------


def content(sex, race, hits, **more):
    frame = pd.DataFrame({"sex": sex, "race": race, "hit": np.asarray(hits, dtype=int)})
    return law144.content_of_table(
        frame, {"by": ["sex", "race"], "selected": "hit", "score": None, "positive": None} | more
    )


def test_impact_ratios_by_hand():
    sex = np.repeat(["Male", "Female"], [1390, 1181])
    hits = np.concatenate([np.arange(1390) < 667, np.arange(1181) < 555])
    table = content(sex, np.repeat("White", len(sex)), hits)["tables"][0]
    found = {row["category"]: row for row in table["rows"]}
    assert found["Male"]["rate"] == 667 / 1390 and found["Male"]["impact_ratio"] == 1
    assert f"{found['Female']['rate']:.0%} {found['Female']['impact_ratio']:.3f}" == "47% 0.979"


def test_small_categories_are_printed_and_neither_compared_nor_the_highest():
    race = np.repeat(["a", "b", "c", "d"], [500, 480, 20, 1])  # c is 1.998 %, d one person; both have the highest rates
    hits = np.concatenate([np.arange(500) < 250, np.arange(480) < 120, np.arange(20) < 19, [True]])
    rows = {row["category"]: row for row in content(np.repeat("m", 1001), race, hits)["tables"][1]["rows"]}
    assert rows["a"]["impact_ratio"] == 1 and rows["b"]["impact_ratio"] == 0.5
    assert [rows[name]["impact_ratio"] for name in "cd"] == [None, None] and rows["c"]["rate"] == 0.95
    race = np.repeat(["a", "c"], [490, 10])  # exactly 2 % is compared: the rule excludes less than 2 %
    rows = {
        row["category"]: row for row in content(np.repeat("m", 500), race, np.arange(500) >= 245)["tables"][1]["rows"]
    }
    assert rows["c"]["compared"] and rows["c"]["impact_ratio"] == 1 and rows["a"]["impact_ratio"] == 0.5


def test_unknown_people_are_counted_and_in_no_table_about_it():
    found = content(["m", None, "f", "Unknown", "m"], ["a", "a", " ", "prefer not to say", "b"], [1, 1, 1, 0, 0])
    assert found["unknown"] == {"sex": 2, "race": 2, "either": 3} and found["rows"] == 5
    assert [table["applicants"] for table in found["tables"]] == [3, 3, 2]
    assert [table["unknown"] for table in found["tables"]] == [2, 2, 3]


def test_scoring_rates_are_shares_above_the_median_of_everybody():
    frame = pd.DataFrame({"sex": ["m", "m", "f", "f", None], "race": ["a"] * 5, "points": [1.0, 5.0, 3.0, 4.0, 2.0]})
    found = law144.content_of_table(
        frame, {"by": ["sex", "race"], "score": "points", "selected": None, "positive": None}
    )
    assert found["median"] == 3.0  # with the unknown one; without it would be 3.5
    assert {r["category"]: r["rate"] for r in found["tables"][0]["rows"]} == {"m": 0.5, "f": 0.5}


@given(st.lists(st.tuples(st.sampled_from(["m", "f", ""]), st.sampled_from(["a", "b", "c", "unknown"]), st.booleans()), min_size=1, max_size=80), st.randoms())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_tables_add_up_and_order_does_not_matter(people, random):
    def told(rows):
        sex, race, hits = (np.array(column) for column in zip(*rows, strict=True))
        columns = [impact.categories(pd.Series(column, name="x")) for column in (sex, race)]
        return impact.tables(*columns, hits.astype(bool))

    tables = told(people)
    shuffled = list(people)
    random.shuffle(shuffled)
    assert told(shuffled) == tables
    for table in tables:
        assert sum(row["applicants"] for row in table["rows"]) + table["unknown"] == len(people)
        ratios = [row["impact_ratio"] for row in table["rows"] if row["impact_ratio"] is not None]
        assert not ratios or max(ratios) == 1
        assert all(0 <= row["hits"] <= row["applicants"] for row in table["rows"])


@pytest.mark.parametrize("facts", [False, True])
@pytest.mark.parametrize("how", ["selected", "score"])
def test_the_law_sets_no_threshold_and_the_report_knows_no_such_word(ws, tmp_path, how, facts):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"sex": rng.choice(["m", "f", None], 400), "race": rng.choice(["a", "b"], 400, p=[0.99, 0.01])}
    )
    frame["selected"], frame["score"] = rng.choice(["yes", "no"], 400), rng.normal(size=400)
    frame.to_csv("applicants.csv", index=False)
    Path("facts.yaml").write_text("tool: Ranker\nresponsible: [{name: Ada, role: auditor}]\n")
    given = {"facts": "facts.yaml"} if facts else {}
    for suffix in (".html", ".json", ".md", ".csv"):
        report("law144", data="applicants.csv", out=f"r{suffix}", **{how: how}, **given)
        text = Path(f"r{suffix}").read_text()
        assert not re.search(r"pass", text, re.I), suffix
        assert not re.search(r"four.fifths|80 ?%|compliant", text, re.I), suffix
    page = Path("r.html").read_text()
    for must in ("unknown sex", "impact ratio", "not compared", "less than 2%", "does not cover", "applicants.csv"):
        assert must in page, must


def test_rows_without_a_decision_are_refused(ws):
    frame = pd.DataFrame({"sex": ["m"] * 3, "race": ["a"] * 3, "hit": [1, 0, None], "points": [1.0, None, 2.0]})
    for options, said in (({"selected": "hit"}, "missing in 1 of 3"), ({"score": "points"}, "no number in 1 of 3")):
        with pytest.raises(UserError, match=said):
            report("law144", data=frame, **options)
    with pytest.raises(UserError, match="no column 'rase'"):
        report("law144", data=frame.fillna(0), selected="hit", by=["sex", "rase"])
    assert not ledger.entries(ws, action="report")


def test_a_report_on_a_table_keeps_only_the_columns_it_used(ws):
    frame = pd.DataFrame(
        {"sex": ["m", "f"] * 50, "race": ["a"] * 100, "hit": [1, 0] * 50, "name": [f"person {i}" for i in range(100)]}
    )
    made = report("law144", data=frame, selected="hit")
    kept = snapshots.load(ws, made.record["data"]["digest"])
    assert list(kept.columns) == ["sex", "race", "hit"] and "person" not in made.text(".html")


@pytest.mark.skipif(not ADULT.exists(), reason="the Adult data is not beside the repository")
def test_adult_equals_a_plain_group_by(ws):
    adult = pd.read_csv(ADULT / "adult-test.csv")
    made = report("law144", data=adult, selected="income", positive=">50K")
    for table, by in zip(made.record["content"]["tables"], (["sex"], ["race"], ["race", "sex"]), strict=True):
        plain = (adult.income == ">50K").groupby([adult[name] for name in by]).agg(["sum", "size", "mean"])
        large = plain[plain["size"] / len(adult) >= 0.02]["mean"].max()
        for row in table["rows"]:
            key = tuple(row["category"].split(" / ")) if len(by) > 1 else row["category"]
            hits, n, rate = plain.loc[key]
            assert (row["hits"], row["applicants"]) == (hits, n) and abs(row["rate"] - rate) < 1e-12
            assert row["impact_ratio"] is None or abs(row["impact_ratio"] - rate / large) < 1e-12


# --- hostile names ----------------------------------------------------------------------------------------------------


def test_hostile_names_stay_text_in_every_file(ws):
    frame = pd.DataFrame(
        {EVIL: ["m", EVIL, "=cmd()"] * 60, "race": ["</pre></details><script>", "a", "b"] * 60, "hit": [1, 0, 1] * 60}
    )
    Path("facts.yaml").write_text(
        json.dumps({"tool": EVIL, "source": EVIL, "responsible": [{"name": EVIL, "role": EVIL}]})
    )
    for suffix in (".html", ".md", ".csv", ".json"):
        made = report("law144", data=frame, selected="hit", by=[EVIL, "race"], facts="facts.yaml", out=f"r{suffix}")
    text = Path("r.html").read_text()
    assert harmless(text) and text.count("<pre") == 1
    assert json.loads(record_in(text))["record"]["content"]["said"]["tool"] == EVIL
    assert harmless(Path("r.md").read_text())
    cells = [cell for row in csv.reader(Path("r.csv").read_text().splitlines()) for cell in row]
    assert "'=cmd()" in cells and not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    assert report(check="r.html").exit_code == 0 and made.seal["digest"]


def test_hostile_names_of_a_model_and_its_people(ws):
    people = credit(rows=1200, seed=1).dropna(subset=FEATURES).rename(columns={"sex": EVIL, "approved": "<b>t</b>"})
    people[EVIL] = people[EVIL].map(lambda sex: f"{EVIL}{sex}")
    estimator = LogisticRegression(max_iter=500).fit(people[FEATURES], people["<b>t</b>"])
    log_run(
        ws, "train", estimator, train=people[:700], test=people[700:], task="binary", target="<b>t</b>", positive="1",
        features=FEATURES, candidate=EVIL, data=EVIL,
    )  # fmt: skip
    evaluate("last")
    audit("last", by=[EVIL])
    Path("notes.md").write_text(f"# {EVIL}\n\n{EVIL}\n\n- {EVIL}")
    Path("facts.yaml").write_text(json.dumps({"provider": EVIL, "1(a)": EVIL, "2(d)": f"{EVIL}\n{EVIL}"}))
    register("last", "income")
    written = [card("income/1", notes="notes.md", out=f"c{suffix}").files[0] for suffix in (".html", ".md")]
    written += [
        report("annex-iv", "income/1", facts="facts.yaml", out=f"a{suffix}").files[0] for suffix in (".html", ".md")
    ]
    written += [report("audit", "income/1", out=f"b{suffix}").files[0] for suffix in (".html", ".md")]
    for name in written:
        assert harmless(Path(name).read_text()), name
    assert report(check="a.html").exit_code == report(check="b.html").exit_code == 0
    assert EVIL in json.dumps(json.loads(record_in(Path("b.html").read_text()) or ""), ensure_ascii=False).replace(
        '\\"', '"'
    )


# --- seals ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(model):
    """The three reports of one model, as pages and as JSON."""
    evaluate("last")
    audit("last", by=["sex", "age_group"])
    options = {"audit": {}, "law144": {"by": ["sex", "age_group"]}, "annex-iv": {}}
    for kind, more in options.items():
        report(kind, "last", out=f"{kind}.html", **more)
        report(kind, "last", out=f"{kind}.json", **more)
    return list(options)


def test_a_report_is_proved_and_counted_again(sealed):
    for kind in sealed:
        for suffix in (".html", ".json"):
            proof = report(check=f"{kind}{suffix}")
            assert proof.exit_code == 0 and "counted again from data and model" in str(proof), str(proof)
        first = opened(f"{kind}.html")[0]
        assert Report(first.record, first.seal).text(".html") == Path(f"{kind}.html").read_text()
    assert verify().exit_code == 0 and "6 reports" in str(verify())


def test_every_way_to_alter_a_report_is_found(sealed, ws):
    for kind in sealed:
        page, text = Path(f"{kind}.html").read_text(), Path(f"{kind}.json").read_text()
        kept = json.loads(text)
        Path("x.html").write_text(page.replace("does not cover", "covers"))
        assert report(check="x.html").exit_code == 1
        kept["record"]["data"]["rows"] += 1
        Path("x.json").write_text(json.dumps(kept))
        assert report(check="x.json").exit_code == 1
        kept["seal"]["digest"] = digest_of(kept["record"])  # the digest is mended too: the ledger holds another
        Path("x.json").write_text(json.dumps(kept))
        assert "about another record" in str(report(check="x.json"))
        kept = json.loads(text)
        kept["seal"]["entry"] = 1  # an entry that is no report
        Path("x.json").write_text(json.dumps(kept))
        assert "no report at entry 1" in str(report(check="x.json"))
        kept = json.loads(text) | {"more": EVIL}
        Path("x.json").write_text(json.dumps(kept, indent=1))
        assert report(check="x.json").exit_code == 1
    for nonsense in ("", "[]", "{}", '{"record": 1, "seal": {}}', "<html>", '{"record": {}, "seal": {"digest": 1}}'):
        Path("x.json").write_text(nonsense)
        with pytest.raises(UserError):
            report(check="x.json")


def test_figures_that_were_invented_before_sealing_do_not_come_out_again(model, ws):
    """Somebody seals a record with better figures: the seal is right, the figures are not."""
    from aiplat.trust.reporting import audit_report
    from aiplat.trust.reporting.sealed import seal

    evaluate("last")
    audit("last", by=["sex"])
    draft = audit_report.draft(ws, "last", None, {})
    for line in draft.content["audit"]["measured"]["groups"]:
        line["rates"]["selection_rate"]["value"] = 0.5
    made = seal(ws, draft)
    Report(made.record, made.seal).write(Path("x.html"))
    proof = report(check="x.html")
    assert proof.exit_code == 1 and "come out differently" in str(proof)


def test_without_the_rows_the_seal_still_holds_and_the_counting_is_said_to_be_impossible(sealed, ws):
    for path in ws.path("snapshots").glob("*.parquet"):
        path.unlink()
    proof = report(check="audit.html")
    assert proof.exit_code == 0 and "cannot be counted again here" in str(proof)


def test_a_page_of_another_build_is_not_called_forged_and_not_called_proved(sealed, monkeypatch):
    page = Path("audit.html").read_text()
    monkeypatch.setattr("aiplat.trust.reporting.reproduction.made_with", lambda: "aiplat 9, build 1")
    assert "it holds" in str(report(check="audit.html"))  # the same signs need no excuse
    Path("audit.html").write_text(page.replace("does not cover", "covers"))
    proof = report(check="audit.html", out="anew.html")
    assert proof.exit_code == 0 and "the page itself was not compared" in str(proof)
    assert Path("anew.html").read_text() == page


def test_a_report_proves_nothing_elsewhere(sealed, tmp_path, monkeypatch):
    from aiplat.core import workspace

    files = [Path(f"{kind}.json").resolve() for kind in sealed]
    (tmp_path / "other").mkdir()
    workspace.create(tmp_path / "other", user="eve")
    monkeypatch.chdir(tmp_path / "other")
    assert {report(check=str(file)).exit_code for file in files} == {1}


def test_verify_finds_a_record_that_was_altered_in_its_folder(sealed, ws):
    file = next(ws.path("reports").glob("*-audit.json"))
    file.write_text(file.read_text().replace('"by": "ana"', '"by": "eve"'))
    found = verify()
    assert found.exit_code == 1 and "audit" in str(found) and "altered" in str(found)


def test_a_later_report_is_named(sealed):
    assert "a later report of this kind" in str(report(check="audit.html"))  # the JSON was made after it


# --- Annex IV ---------------------------------------------------------------------------------------------------------


def test_annex_iv_has_every_point_and_claims_nothing_that_is_not_on_record(model):
    made = report("annex-iv", "last")
    found = {point["point"]: point for point in made.record["content"]["points"]}
    assert list(found) == [f"1({c})" for c in "abcdefgh"] + [f"2({c})" for c in "abcdefgh"] + list("3456789")
    assert all(point["missing"] for point in found.values())
    for empty in ("1(b)", "1(d)", "1(e)", "1(f)", "1(g)", "1(h)", "2(f)", "5", "7", "8", "9"):
        assert found[empty]["on_record"] == [] and found[empty]["stated"] == ""
    text = made.to_markdown()
    assert "there is no audit of this model file" in text and "No approval by a person is on record" in text
    assert "cross\\-validation" not in text and "cross-validation" not in text  # nobody searched
    assert "Robustness" in text and "who answers for this file" in text


def test_annex_iv_takes_statements_and_signatures(model):
    Path("f.yaml").write_text(
        "provider: Example GmbH\n'5': We weighed risks.\nresponsible: [{name: Ada, role: CRO, date: 2026-02-01}]\n"
    )
    made = report("annex-iv", "last", facts="f.yaml")
    found = {point["point"]: point for point in made.record["content"]["points"]}
    assert found["5"]["stated"] == "We weighed risks." and not found["5"]["missing"] and found["9"]["missing"]
    page = made.text(".html")
    assert "Example GmbH" in page and "Ada" in page and "2026-02-01" in page
    for line in made.record["content"]["log"]:
        assert len(line["hash"]) == 64 and line["at"] and line["by"]


def test_annex_iv_shows_no_value_of_a_person(model):
    text = report("annex-iv", "last").text(".json")
    assert "education" in text and "vocational" not in text and "home improvement" not in text


@pytest.mark.parametrize("kind", list(KINDS))
def test_questions_can_be_answered_as_they_are_written(kind, tmp_path):
    file = tmp_path / "q.yaml"
    report(kind, template=str(file))
    assert read_answers(file, KINDS[kind].questions) == {}
    file.write_text(re.sub(r"^('?[0-9a-z_()]+'?):$", r"\1: said", file.read_text(), flags=re.M))
    assert set(read_answers(file, KINDS[kind].questions)) == set(KINDS[kind].questions)
    with pytest.raises(UserError, match="may hold answers"):
        report(kind, template=str(file))


def test_points_and_questions_agree():
    assert set(points.KNOWN) <= {point.number for point in points.POINTS} <= set(points.QUESTIONS)
    assert {point.number.partition("(")[0] for point in points.POINTS} == set(points.PARTS)


# --- audits that are on record ----------------------------------------------------------------------------------------


def test_evidence_from_before_verdicts_and_curves_still_makes_a_report(model, ws):
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    groups = [
        {"by": "sex", "group": name, "n": 90, "rates": {"selection_rate": rate, "accuracy": rate}}
        for name in ("female", "male")
    ]
    old = {
        "value": 0.0,
        "undefined": None,
        "groups": ["female", "male"],
        "rate": "selection_rate",
        "left_out": [],
        "low": 0.0,
        "high": 0.2,
    }
    measured = {
        "by": ["sex"], "task": "binary", "target": "approved", "positive": "1", "rows": 180, "min_group": 30, "groups": groups,
        "criteria": {f"demographic_parity_{how}": {"sex": old} for how in ("difference", "ratio")},
    }  # fmt: skip
    digests = {"model_digest": model.model_digest, "data_digest": model.test_digest}
    evidence.record(ws, "audit", subject=f"run:{model.id}", measured=measured, **digests)
    figures = {"metrics": {"roc_auc": rate}, "rows": 180}
    evidence.record(ws, "evaluation", subject=f"run:{model.id}", measured=figures, **digests)
    for kind in ("audit", "annex-iv"):
        made = report(kind, "last", out=f"{kind}.html")
        assert "does not cover" in Path(f"{kind}.html").read_text() and made.record["content"]
        assert "come out differently" in str(report(check=f"{kind}.html"))  # these figures were made up, and it shows
    assert "roc_auc" in card("last").html_page()


def test_an_audit_that_does_not_exist_is_asked_for(model):
    with pytest.raises(UserError, match="has not been audited") as problem:
        report("audit", "last")
    assert "aiplat audit" in problem.value.todo
    audit("last", by=["sex"])
    with pytest.raises(UserError, match="by age_group"):
        report("audit", "last", by=["age_group"])


def test_options_of_another_kind_are_refused(model):
    for wrong in (
        {"kind": "annex-iv", "by": ["sex"]},
        {"kind": "audit", "scoring": True},
        {"kind": "law144", "selected": "x", "data": "y.csv"},
    ):
        with pytest.raises(UsageError):
            report(ref="last", **wrong)
    with pytest.raises(UsageError, match="no report 'annexiv'"):
        report("annexiv", "last")


# --- cards ------------------------------------------------------------------------------------------------------------


def test_register_keeps_a_card_with_the_version_and_card_renews_it(model, ws):
    import hashlib

    made = register("last", "credit")
    client = ws.client()
    page = Path(client.download_artifacts(model.id, made.card.removeprefix(f"runs:/{model.id}/"))).read_text()
    tags = client.get_model_version("credit", "1").tags
    assert tags[TAG] == made.card and tags[f"{TAG}.sha256"] == hashlib.sha256(page.encode()).hexdigest()
    assert "Fairness has not been audited" in page and "ROC curve" in page and harmless(page)
    audit("last", by=["sex"])
    Path("use.md").write_text("For loans.")
    card("credit/1", notes="use.md")
    page = Path(client.download_artifacts(model.id, made.card.removeprefix(f"runs:/{model.id}/"))).read_text()
    assert "female is selected" in page and "For loans." in page
    assert "For loans." in card("credit/1").to_markdown()  # the words are kept
    assert [entry.body["card"] for entry in ledger.entries(ws, action="card")] == [made.card] * 3
    assert not register("last", "credit").made and len(ledger.entries(ws, action="card")) == 3


def test_a_version_stands_when_its_card_cannot_be_written(model, ws, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient.log_text", broken)
        made = register("last", "credit")
    assert made.made and "not written (no space left on device)" in made.card
    assert register("last", "credit").card.endswith("credit-1.html")


def test_a_model_that_needs_the_sensitive_column_says_so_first(ws):
    people = credit(rows=1200, seed=1).dropna(subset=FEATURES)
    people["sex"] = (people["sex"] == "female").astype(int)
    needed = [*FEATURES, "sex"]
    estimator = LogisticRegression(max_iter=500).fit(people[needed], people["approved"])
    log_run(
        ws, "mitigate", estimator, train=people[:700], test=people[700:], task="binary", target="approved", positive="1",
        features=FEATURES, sensitive=["sex"],
    )  # fmt: skip
    made = register("last", "fairer")
    page = card("fairer/1", out="c.html").html_page()
    said = "needs the sensitive column sex for every prediction"
    assert said in page and page.index(said) < page.index("Intended use")
    assert said in ws.client().get_model_version("fairer", "1").description and made.card
    audit("last", by=["sex"])
    assert said in report("audit", "fairer/1").text(".html")
    assert "needs sensitive columns" in report("annex-iv", "fairer/1").text(".html")


# --- by the command line ----------------------------------------------------------------------------------------------


def test_by_the_command_line(ws, cli):
    frame = pd.DataFrame({"gender": ["m", "f"] * 60, "race": ["a", "a", "b"] * 40, "hired": ["yes", "no", "yes"] * 40})
    frame.to_csv("results.csv", index=False)
    cli("report", "law144", "results.csv", "--selected", "hired", "--by", "gender,race", "--out", "r.html")
    assert cli("report", "--check", "r.html").stdout.strip().endswith("it holds")
    Path("r.html").write_text(Path("r.html").read_text().replace("impact", "Impact", 1))
    assert cli("report", "--check", "r.html", check=False).returncode == 1
    told = json.loads(
        cli("report", "law144", "results.csv", "--selected", "hired", "--by", "gender,race", "--json").stdout
    )
    assert told["record"]["content"]["rows"] == 120 and told["seal"]["entry"] == 2
    wrong = cli("report", "law145", check=False)
    assert wrong.returncode == 2 and len(wrong.stderr.strip().splitlines()) == 2
