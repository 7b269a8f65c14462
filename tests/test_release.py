"""Gates, registry, verify, batch: every way in which evidence can be wrong, two people at once, and what a raw client can do."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiplat.core import evidence, ledger, workspace
from aiplat.core.errors import Refused, UsageError, UserError
from aiplat.core.records import ModelVersion, Run
from aiplat.release import aliases, gates, promotion, registry, rules, versions
from aiplat.release.verify import verify
from aiplat.trust.criteria import Comparison, Disparity
from tests import models

NOW = datetime.now(UTC)
MODEL, TRAIN, TEST = "ab" * 32, "cd" * 32, "ef" * 32

# ---------------------------------------------------------------- the table: what a gate says about every kind of evidence

RUN = Run(
    id="4f1c", name="first", kind="train", status="FINISHED", user="ana", started=NOW, duration=1.0, task="binary", target="approved",
    positive="1", features=("age",), data_digest=TRAIN, test_digest=TEST, model_digest=MODEL, model_uri="models:/m-1", parent="",
    metrics={}, params={}, tags={},
)  # fmt: skip
VERSION = ModelVersion("credit", 3, "4f1c", MODEL, "models:/m-1", (), NOW, {})
GATE = {
    "metrics": "roc_auc >= 0.80",
    "fairness": "demographic_parity_ratio >= 0.80 by sex\n    demographic_parity_difference <= 0.1 by sex & race",
    "contract": "pass",
    "approvals": "1 by risk",
    "max_age": "30d",
}
METRIC, SEX, BOTH, CONTRACT, APPROVAL = 1, 2, 3, 4, 5


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A workspace in which model 4f1c was trained by ana; nothing else is known of it."""
    monkeypatch.chdir(tmp_path)
    ws = workspace.create(
        tmp_path, user="ana", roles={"risk": "rosa, ali, ana", "legal": "rosa"}, gates={"production": GATE}
    )
    with ledger.change(ws, "train", "run:4f1c") as change:
        change.outcome |= {"run": "4f1c", "model_digest": MODEL, "data_digest": TRAIN, "test_digest": TEST}
    return ws


def evaluation(
    ws,
    value: Any = 0.87,
    model: str = MODEL,
    data: str = TEST,
    name: str = "roc_auc",
    subject: str = "run:4f1c",
    **more: Any,
):
    measured = {"metrics": {name: {"value": value, "low": 0.8, "high": 0.9, "n": 99, **more}}, "rows": 99}
    return evidence.record(ws, "evaluation", subject=subject, model_digest=model, data_digest=data, measured=measured)


def gap(how: str, value: Any, low: Any = None, high: Any = None, reason: Any = None) -> dict[str, Any]:
    """What an audit records of one criterion and grouping; without ends the interval is narrow."""
    if value is None:
        return Disparity(None, reason).to_dict()
    ends = (value - 0.01 if low is None else low, value + 0.01 if high is None else high)
    row = Comparison("f", "m", "selection_rate", how, value, *ends, 900)
    return Disparity(value, None, ("f", "m"), "selection_rate", (), *ends, (row,), 1.96).to_dict()


def audit(
    ws,
    sex: Any = 0.9,
    both: Any = 0.05,
    model=MODEL,
    data=TEST,
    reason=None,
    low=None,
    high=None,
    bare=False,
    **more: Any,
):
    criteria: dict[str, dict[str, Any]] = {"demographic_parity_ratio": {}, "demographic_parity_difference": {}}
    if sex is not None or reason:
        criteria["demographic_parity_ratio"]["sex"] = gap("ratio", sex, low, high, reason)
    if both is not None:
        criteria["demographic_parity_difference"]["sex & race"] = gap("difference", both)
    for kept in (each for row in criteria.values() for each in row.values() if bare):
        del kept["comparisons"]
    measured = {"by": ["sex", "race"], "positive": "1", "min_group": 30, "criteria": criteria, **more}
    return evidence.record(ws, "audit", subject="run:4f1c", model_digest=model, data_digest=data, measured=measured)


def contract(ws, outcome: str = "pass", data: str = TRAIN):
    measured = {"contract": "credit.yml", "failures": [] if outcome == "pass" else ["age < 0"]}
    return evidence.record(ws, "contract", subject=f"data:{data}", data_digest=data, outcome=outcome, measured=measured)


def approval(ws, by="rosa", outcome="approve", subject="model:credit/3", model=MODEL, alias="production", role="risk"):
    before, ws.user = ws.user, by
    try:
        measured = {"alias": alias, "role": role, "reason": "fine"}
        return evidence.record(ws, "approval", subject=subject, model_digest=model, outcome=outcome, measured=measured)
    finally:
        ws.user = before


def everything(ws, **instead: Any) -> None:
    """Good evidence of all four kinds; ``instead`` replaces one: parameters of its function, or None to leave it out."""
    for leave in (evaluation, audit, contract, approval):
        about = instead.get(leave.__name__, {})
        if about is not None:
            leave(ws, **about)


def test_a_gate_opens_when_every_rule_holds(desk) -> None:
    everything(desk)
    decision = gates.decide(desk, VERSION, "production", run=RUN)
    assert decision.holds and decision.exit_code == 0 and [f.verdict for f in decision.findings] == ["pass"] * 6
    assert "holds" in decision.to_json() and len(decision.seqs) == 5


OTHER = "99" * 32
# Each case: what is instead of good evidence; the rule that must not hold; its verdict; what its row must say.
INSTEAD: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "nothing evaluated": ({"evaluation": None}, METRIC, "missing", "no evaluation"),
    "nothing audited": ({"audit": None}, SEX, "missing", "no audit"),
    "no contract check": ({"contract": None}, CONTRACT, "missing", "no contract check"),
    "nobody approved": ({"approval": None}, APPROVAL, "missing", "0 of 1"),
    "sex not audited": ({"audit": {"sex": None}}, SEX, "missing", "not by sex"),
    "crossing not audited": ({"audit": {"both": None}}, BOTH, "missing", "not by sex & race"),
    "evaluation of another model": (
        {"evaluation": {"model": OTHER}},
        METRIC,
        "other digest",
        "of another model digest",
    ),
    "evaluation of other rows": ({"evaluation": {"data": OTHER}}, METRIC, "other digest", "other rows"),
    "evaluation of training rows": ({"evaluation": {"data": TRAIN}}, METRIC, "other digest", "other rows"),
    "audit of another model": (
        {"audit": {"model": OTHER}},
        SEX,
        "other digest",
        "an audit exists, but of another model",
    ),
    "audit of other rows": ({"audit": {"data": OTHER}}, SEX, "other digest", "other rows"),
    "audit about no rows": ({"audit": {"data": ""}}, SEX, "other digest", "other rows (none)"),
    "contract of other rows": ({"contract": {"data": TEST}}, CONTRACT, "other digest", "other rows"),
    "approval of another digest": ({"approval": {"model": OTHER}}, APPROVAL, "other digest", "another model digest"),
    "approval of another version": ({"approval": {"subject": "model:credit/2"}}, APPROVAL, "missing", "0 of 1"),
    "approval of another name": ({"approval": {"subject": "model:income/3"}}, APPROVAL, "missing", "0 of 1"),
    "approval for another alias": ({"approval": {"alias": "staging"}}, APPROVAL, "missing", "0 of 1"),
    "approved by the trainer": ({"approval": {"by": "ana"}}, APPROVAL, "missing", "ana trained it"),
    "approved without the role": ({"approval": {"by": "eve"}}, APPROVAL, "missing", "eve no longer has the role"),
    "approved in another role": ({"approval": {"role": "legal"}}, APPROVAL, "missing", "0 of 1"),
}
# And what comes after good evidence, and counts because it is the newest.
THEN: dict[str, tuple[Any, int, str, str]] = {
    "another metric": (lambda ws: evaluation(ws, name="accuracy"), METRIC, "missing", "it has accuracy"),
    "audit of another outcome": (lambda ws: audit(ws, positive="0"), SEX, "missing", "of the outcome '0'"),
    "audit of low confidence": (lambda ws: audit(ws, level=0.8), SEX, "missing", "hold with 80 % only"),
    "audit of weighted rows": (lambda ws: audit(ws, weights="w"), SEX, "missing", "weighs its rows by w"),
    "audit with a reference of its own": (
        lambda ws: audit(ws, reference={"sex": "m", "sex & race": "m & b"}),
        SEX,
        "missing",
        "compares sex with m, the gate with the largest group",
    ),
    "audit without comparisons": (lambda ws: audit(ws, bare=True), SEX, "undefined", "no intervals"),
    "audit that cannot be read": (lambda ws: audit(ws, groups=[{}]), SEX, "undefined", "cannot be read"),
    "audit leaves out large groups": (lambda ws: audit(ws, min_group=500), SEX, "missing", "fewer than 500 rows"),
    "metric too low": (lambda ws: evaluation(ws, 0.79), METRIC, "fail", "0.79"),
    "newest counts, not best": (lambda ws: (evaluation(ws, 0.99), evaluation(ws, 0.5)), METRIC, "fail", "0.5"),
    "newest audit counts": (lambda ws: (audit(ws, 0.99), audit(ws, 0.3)), SEX, "fail", "0.3"),
    "difference too large": (lambda ws: audit(ws, both=0.2), BOTH, "fail", "0.2"),
    "beyond the bound for sure": (lambda ws: audit(ws, 0.7, low=0.6, high=0.79), SEX, "fail", "0.7 (0.6 to 0.79)"),
    "too few rows to tell": (lambda ws: audit(ws, 0.85, low=0.7, high=0.95), SEX, "insufficient", "0.85 (0.7 to 0.95)"),
    "contract broken": (lambda ws: contract(ws, "fail"), CONTRACT, "fail", "1 failure"),
    "contract outcome unknown": (lambda ws: contract(ws, "measured"), CONTRACT, "fail", "failure"),
    "metric undefined": (lambda ws: evaluation(ws, None, undefined="one class"), METRIC, "undefined", "one class"),
    "metric NaN": (lambda ws: evaluation(ws, float("nan")), METRIC, "undefined", "no figure"),
    "metric infinite": (lambda ws: evaluation(ws, float("inf")), METRIC, "undefined", "no figure"),
    "metric a text": (lambda ws: evaluation(ws, "0.99"), METRIC, "undefined", "no figure"),
    "metric a truth value": (lambda ws: evaluation(ws, True), METRIC, "undefined", "no figure"),
    "criterion undefined": (lambda ws: audit(ws, None, reason="nobody selected"), SEX, "undefined", "nobody selected"),
    "approval withdrawn": (lambda ws: approval(ws, outcome="withdraw"), APPROVAL, "missing", "rosa withdrew"),
}


@pytest.mark.parametrize("case", [*INSTEAD, *THEN])
def test_a_gate_fails_closed(desk, case: str) -> None:
    change, row, verdict, says = (INSTEAD | THEN)[case]
    everything(desk, **(change if case in INSTEAD else {}))
    if case in THEN:
        change(desk)
    decision = gates.decide(desk, VERSION, "production", run=RUN)
    found = decision.findings[row]
    assert not decision.holds and decision.exit_code == 3
    assert found.verdict == verdict and says in found.found, found
    same = {SEX, BOTH} if row in (SEX, BOTH) else {row}  # an audit carries both fairness rules
    assert {finding.verdict for i, finding in enumerate(decision.findings) if i not in same} == {"pass"}, decision
    if verdict in ("missing", "other digest", "undefined") and row != CONTRACT:
        assert found.todo.startswith("aiplat ") and "credit/3" in found.todo
    assert says in str(decision)


# Each case: who says what, about which subject, model and alias, after rosa approved; and whether the gate still opens.
NOES: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "another of the role refuses": ([{"by": "ali", "outcome": "refuse"}], False),
    "somebody of another role refuses": ([{"by": "lea", "outcome": "refuse", "role": "legal"}], False),
    "the trainer refuses": ([{"by": "ana", "outcome": "refuse"}], False),
    "somebody refuses who has lost the role": ([{"by": "eve", "outcome": "refuse"}], False),
    "refused as another version of the same file": (
        [{"by": "ali", "outcome": "refuse", "subject": "model:credit/2"}],
        False,
    ),
    "refused, then somebody else withdraws": (
        [{"by": "ali", "outcome": "refuse"}, {"by": "ana", "outcome": "withdraw"}],
        False,
    ),
    "refused, then another approves": ([{"by": "ali", "outcome": "refuse"}, {"by": "ana"}], False),
    "two refuse, one withdraws": (
        [{"by": "ali", "outcome": "refuse"}, {"by": "ana", "outcome": "refuse"}, {"by": "ali", "outcome": "withdraw"}],
        False,
    ),
    "refused and withdrawn": ([{"by": "ali", "outcome": "refuse"}, {"by": "ali", "outcome": "withdraw"}], True),
    "refused, then approved by the same": ([{"by": "ali", "outcome": "refuse"}, {"by": "ali"}], True),
    "withdrawn as another version": (
        [{"by": "ali", "outcome": "refuse"}, {"by": "ali", "outcome": "withdraw", "subject": "model:credit/4"}],
        True,
    ),
    "another file was refused": ([{"by": "ali", "outcome": "refuse", "model": OTHER}], True),
    "another name was refused": ([{"by": "ali", "outcome": "refuse", "subject": "model:income/3"}], True),
    "refused for another alias": ([{"by": "ali", "outcome": "refuse", "alias": "staging"}], True),
}


@pytest.mark.parametrize("case", NOES)
def test_a_refusal_stands_until_the_same_person_ends_it(desk, case: str) -> None:
    words, opens = NOES[case]
    everything(desk)
    for word in words:
        approval(desk, **word)
    decision = gates.decide(desk, VERSION, "production", run=RUN)
    assert decision.holds is opens, decision
    if not opens:
        assert [finding.verdict for finding in decision.findings] == ["pass"] * 6 + ["refused"]
        assert "fine" in decision.findings[-1].found and decision.findings[-1].seqs and "refused" in decision.summary()
    later = gates.decide(desk, VERSION, "production", run=RUN, now=NOW + timedelta(days=400))
    assert ("refused" in {finding.verdict for finding in later.findings}) is not opens, "it does not grow stale"


def test_a_gate_may_name_the_reference(tmp_path: Path) -> None:
    ws = workspace.create(
        tmp_path, user="ana", roles={"risk": "rosa"}, gates={"production": GATE | {"reference": "sex=m"}}
    )
    with ledger.change(ws, "train", "run:4f1c") as change:
        change.outcome |= {"run": "4f1c", "model_digest": MODEL, "data_digest": TRAIN, "test_digest": TEST}
    everything(ws)
    assert gates.decide(ws, VERSION, "production", run=RUN).findings[SEX].verdict == "missing"
    audit(ws, reference={"sex": "m"})
    assert gates.decide(ws, VERSION, "production", run=RUN).holds


def test_an_interval_within_the_bound_passes(desk) -> None:
    everything(desk, audit={"sex": 0.85, "low": 0.81, "high": 0.95})
    assert gates.decide(desk, VERSION, "production", run=RUN).holds


def test_what_the_data_cannot_decide_needs_a_name(tmp_path: Path) -> None:
    """Somebody of the named role accepts it, after having been able to see it; nobody else, and not in advance."""
    rules_ = GATE | {"insufficient": "legal"}
    ws = workspace.create(
        tmp_path, user="ana", roles={"risk": "rosa", "legal": "lea, ana"}, gates={"production": rules_}
    )
    with ledger.change(ws, "train", "run:4f1c") as change:
        change.outcome |= {"run": "4f1c", "model_digest": MODEL, "data_digest": TRAIN, "test_digest": TEST}
    approval(ws, "lea", role="legal")
    everything(ws, audit={"sex": 0.85, "low": 0.7, "high": 0.95})

    def verdict() -> str:
        return gates.decide(ws, VERSION, "production", run=RUN).findings[SEX].verdict

    assert verdict() == "insufficient", "lea approved before there was an audit"
    approval(ws, "ana", role="legal")
    assert verdict() == "insufficient", "ana trained it"
    approval(ws, "lea", role="legal")
    decision = gates.decide(ws, VERSION, "production", run=RUN)
    assert decision.findings[SEX].verdict == "accepted" and decision.holds and "by lea" in str(decision)
    approval(ws, "lea", outcome="withdraw", role="legal")
    assert verdict() == "insufficient"
    approval(ws, "lea", role="legal")
    audit(ws, 0.7, low=0.6, high=0.75)
    assert verdict() == "fail", "nobody can accept what is certain"


@pytest.mark.parametrize("row", [METRIC, SEX, BOTH, CONTRACT, APPROVAL])
def test_old_evidence_is_stale(desk, row: int) -> None:
    everything(desk)
    assert gates.decide(desk, VERSION, "production", run=RUN, now=NOW + timedelta(days=29)).holds
    late = gates.decide(desk, VERSION, "production", run=RUN, now=NOW + timedelta(days=31))
    assert not late.holds and late.findings[row].verdict == "stale"
    early = gates.decide(desk, VERSION, "production", run=RUN, now=NOW - timedelta(days=1))
    assert early.findings[row].verdict == "stale", "evidence from the future is no evidence"


def test_two_audits_by_different_columns_add_up(desk) -> None:
    evaluation(desk), contract(desk), approval(desk)
    audit(desk, sex=None)
    audit(desk, both=None)
    assert gates.decide(desk, VERSION, "production", run=RUN).holds


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "99" * 32},
        {"data_digest": "99" * 32},
        {"test_digest": "99" * 32},
        {"test_digest": ""},
        {"data_digest": ""},
    ],
    ids=lambda change: f"{next(iter(change))}={next(iter(change.values()))[:4]}",
)
def test_tags_that_the_ledger_does_not_know_stop_everything(desk, change: dict[str, str]) -> None:
    """Somebody points the run's tags at kinder rows, and leaves matching evidence: the ledger's training says otherwise."""
    everything(desk)
    version = replace(VERSION, **change) if "model_digest" in change else VERSION
    run = replace(RUN, **change)
    evaluation(desk, 0.99, model=run.model_digest, data=run.test_digest)
    audit(desk, 0.99, 0.0, model=run.model_digest, data=run.test_digest)
    contract(desk, data=run.data_digest)
    approval(desk, model=run.model_digest)
    decision = gates.decide(desk, version, "production", run=run)
    assert not decision.holds and decision.findings[0].verdict == "other digest"


def test_a_version_without_digest_has_no_evidence(desk) -> None:
    evaluation(desk, 0.99, model=""), audit(desk, model=""), approval(desk, model=""), contract(desk)
    decision = gates.decide(desk, replace(VERSION, model_digest=""), "production", run=RUN)
    assert (
        not decision.holds
        and decision.findings[METRIC].verdict != "pass"
        and decision.findings[APPROVAL].verdict != "pass"
    )


def test_a_model_that_nobody_trained_here_does_not_pass(tmp_path: Path) -> None:
    ws = workspace.create(tmp_path, user="ana", roles={"risk": "rosa"}, gates={"production": GATE})
    everything(ws)
    decision = gates.decide(ws, VERSION, "production", run=RUN)
    assert not decision.holds and decision.findings[0].verdict == "missing"


def test_two_of_a_role_are_two_people_and_one_speaks_once(desk) -> None:
    asks = rules.Gate(
        "production", (rules.Rule("approval", "risk", bound=2.0), rules.Rule("approval", "legal", bound=1.0))
    )
    case = gates.Case(desk, asks, VERSION, RUN, datetime.now(UTC))
    approval(desk, "rosa"), approval(desk, "rosa")
    assert [gates.judge_approval(case, rule).verdict for rule in asks.rules] == ["missing", "missing"]
    case = gates.Case(desk, asks, VERSION, RUN, datetime.now(UTC))
    approval(desk, "ali"), approval(desk, "rosa", role="legal")
    # rosa speaks for legal now, so risk has only ali: nobody is two people
    assert [gates.judge_approval(case, rule).verdict for rule in asks.rules] == ["missing", "pass"]


def test_hostile_names_are_shown_harmlessly(desk) -> None:
    bad = "<img src=x onerror=alert(1)>"
    evaluation(desk), contract(desk)
    measured = {
        "by": [bad],
        "positive": "1",
        "criteria": {"demographic_parity_ratio": {"sex": {"value": 0.1, "groups": [bad, bad]}}},
    }
    evidence.record(desk, "audit", subject="run:4f1c", model_digest=MODEL, data_digest=TEST, measured=measured)
    decision = gates.decide(desk, VERSION, "production", run=RUN)
    assert bad in str(decision) and bad not in decision._repr_html_() and bad not in decision.to_markdown()


# ---------------------------------------------------------------- the registry


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> models.House:
    """One workspace for all tests below, put back to a known state before each."""
    return models.House(tmp_path_factory.mktemp("house"))


@pytest.fixture
def home(house: models.House, monkeypatch: pytest.MonkeyPatch):
    """A workspace with a gate and nothing in it; verbs act as ana in it."""
    monkeypatch.chdir(house.root)
    monkeypatch.setenv("AIPLAT_USER", "ana")
    for room in (versions, promotion, aliases):
        monkeypatch.setattr(room, "PATIENCE", 0.3)
    return house.back_to("empty")


def phases(ws, action: str) -> list[str]:
    return [entry.phase for entry in ledger.entries(ws, action=action)]


def test_register_twice_is_one_version(home) -> None:
    run = models.trained(home).run
    first, second = registry.register(run.id, "credit"), registry.register(run.id[:12], "credit")
    assert (first.model, first.made, second.model, second.made) == ("credit/1", True, "credit/1", False)
    assert phases(home, "register") == ["intent", "done"]
    tags = home.client().get_model_version("credit", "1").tags
    intent = ledger.entries(home, action="register")[0]
    assert (
        tags["aiplat.ledger"] == intent.hash
        and tags["aiplat.model_digest"] == run.model_digest
        and tags["aiplat.run"] == run.id
    )
    assert registry.register(run.id, "income").model == "income/1", "another name is another model"
    assert verify().exit_code == 0


def test_what_cannot_be_registered(home) -> None:
    client = home.client()
    running = client.create_run(home.experiment_id(), tags={"aiplat.kind": "train"}, run_name="still going").info.run_id
    for ref, says in ((running, "not finished"), ("no-such-run", "no-such-run")):
        with pytest.raises(UserError) as caught:
            registry.register(ref, "credit")
        assert says in str(caught.value)
    for name in ("../x", "a/b", "a:b", "", "last"):
        with pytest.raises(UsageError):
            registry.register(running, name)
    assert client.search_registered_models() == [] and phases(home, "register") == []


def test_from_refusal_to_production_and_back(home) -> None:
    run = models.trained(home, 1).run
    registry.register(run.id, "credit")
    with pytest.raises(Refused) as caught:
        registry.promote("credit/1", to="production")
    assert caught.value.exit_code == 3 and "may not become production" in caught.value.what
    assert caught.value.result.holds is False and caught.value.todo.startswith("aiplat audit credit/1 --by sex")
    assert phases(home, "promote") == ["intent", "failed"] and aliases.holder(home, "credit", "production") is None
    refused = ledger.entries(home, action="promote", phase="failed")[0]
    assert refused.body["holds"] is False and refused.body["findings"]
    models.evident(home, run)
    with pytest.raises(Refused, match="none of the roles"):
        registry.approve("credit/1", to="production", reason="mine is fine")
    models.acting(home, "rosa")
    with pytest.raises(UsageError, match="reason"):
        registry.approve("credit/1", to="production", reason="  ")
    assert registry.approve("credit/1", to="production", reason="fine").role == "risk"
    models.acting(home, "ana")
    moved = registry.promote("credit/1", to="production")
    assert moved.moved and moved.before == "" and aliases.holder(home, "credit", "production") == 1
    again = registry.promote("credit/1", to="production")
    assert not again.moved and phases(home, "promote") == ["intent", "failed", "intent", "done"]
    with pytest.raises(UserError, match="nothing to go back to"):
        registry.rollback("credit", to="production")
    assert models.ready(home, "credit", 2) == "credit/2"
    assert registry.promote("credit", to="production").before == "credit/1"
    listed = registry.models()
    assert [row.model for row in listed.versions] == ["credit/2", "credit/1"] and listed.versions[0].gates == {
        "production": "open"
    }
    assert listed.aliases[0].by == "ana" and listed.aliases[0].agrees and "evaluation" in str(listed)
    back = registry.rollback("credit", to="production")
    assert (back.model, back.before) == ("credit/1", "credit/2") and aliases.holder(home, "credit", "production") == 1
    with pytest.raises(UserError, match="nothing to go back to"):
        registry.rollback("credit", to="production")
    proved = verify()
    assert proved.exit_code == 0 and not proved.breaks, str(proved)


def test_approvals_need_the_role_and_other_eyes(home) -> None:
    run = models.trained(home).run
    registry.register(run.id, "credit")
    models.acting(home, "eve")
    with pytest.raises(Refused, match="none of the roles"):
        registry.approve("credit/1", to="production", reason="why not")
    models.acting(home, "rosa")
    with pytest.raises(UserError, match="has not approved"):
        registry.approve("credit/1", to="production", reason="no", withdraw=True)
    registry.approve("credit/1", to="production", reason="fine")
    registry.approve("credit/1", to="production", reason="on second thoughts", withdraw=True)
    models.acting(home, "ana")
    models.evident(home, run)
    with pytest.raises(Refused, match="approval by risk"):
        registry.promote("credit/1", to="production")


def test_an_approver_may_change_her_mind(desk) -> None:
    everything(desk)
    approval(desk, outcome="refuse")
    found = gates.decide(desk, VERSION, "production", run=RUN).findings
    assert (found[APPROVAL].verdict, found[-1].verdict) == ("missing", "refused") and "rosa refused" in found[
        APPROVAL
    ].found


def test_a_refusal_blocks_until_it_is_taken_back(home) -> None:
    model = models.ready(home, "credit")
    models.acting(home, "eve")
    with pytest.raises(Refused, match="none of the roles"):
        registry.refuse(model, to="production", reason="no")
    models.acting(home, "ali")
    with pytest.raises(UsageError, match="needs a reason"):
        registry.refuse(model, to="production", reason=" ")
    with pytest.raises(UserError, match="has not refused"):
        registry.refuse(model, to="production", reason="no", withdraw=True)
    said = registry.refuse(model, to="production", reason="<b>wrong</b> branch")
    assert (said.by, said.role, said.withdrawn) == ("ali", "risk", False) and "<b>" not in said._repr_html_()
    models.acting(home, "ana")
    with pytest.raises(Refused) as caught:
        registry.promote(model, to="production")
    assert "no refusal stands (refused)" in caught.value.what and "(by ali)" in caught.value.todo
    assert "wrong" in str(caught.value.result) and "<b>wrong" not in caught.value.result._repr_html_()
    assert aliases.holder(home, "credit", "production") is None
    failed = ledger.entries(home, action="promote", phase="failed")[0]
    assert failed.body["findings"][-1][2] == "refused" and said.entry in failed.body["evidence"]
    run = str(registry.models().versions[0].run)
    assert registry.register(run, "credit").model, "the same file once more"
    with pytest.raises(Refused, match="refused"):
        registry.promote("credit", to="production")
    models.acting(home, "rosa")
    with pytest.raises(UserError, match="rosa has not refused"):
        registry.refuse(model, to="production", reason="hurry", withdraw=True)
    models.acting(home, "ali")
    assert registry.refuse(model, to="production", reason="looked again", withdraw=True).withdrawn
    models.acting(home, "ana")
    assert registry.promote(model, to="production").moved
    assert not verify().breaks


def test_verify_finds_a_promotion_past_a_refusal(home, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.ready(home, "credit")
    models.acting(home, "ali")
    said = registry.refuse(model, to="production", reason="wrong branch")
    models.acting(home, "ana")
    with monkeypatch.context() as patched:
        patched.setattr(gates, "judge_refusals", lambda case: None)  # somebody's own copy of the gate
        assert registry.promote(model, to="production").moved
    found = verify()
    assert [each.what for each in found.breaks] == [f"{model} was promoted past a refusal (#{said.entry} by ali)"]
    models.acting(home, "ali")
    registry.refuse(model, to="production", reason="looked again", withdraw=True)
    assert verify().exit_code == 1, "what is said later does not mend what was done"


def test_a_refusal_after_the_promotion_changes_nothing_that_was_right(home) -> None:
    model = models.ready(home, "credit")
    registry.promote(model, to="production")
    models.acting(home, "ali")
    registry.refuse(model, to="production", reason="seen too late")
    assert not verify().breaks and aliases.holder(home, "credit", "production") == 1
    assert not registry.gate(model, to="production").holds


def test_an_alias_without_a_gate_is_not_promoted_to(home) -> None:
    models.ready(home, "credit")
    for alias, says in (("prodution", "did you mean 'production'"), ("staging", "[gate:staging]")):
        with pytest.raises(UserError, match="no gate guards") as caught:
            registry.promote("credit/1", to=alias)
        assert says in caught.value.todo
    assert phases(home, "promote") == []


def test_somebody_else_is_at_it(home) -> None:
    model = models.ready(home, "credit")
    models.acting(home, "alice")
    ledger.append(workspace.workspace(home.root), "promote", "alias:credit@production", {"to": 7}, phase="intent")
    models.acting(home, "ana")
    with home.lock("alias:credit@production"), pytest.raises(UserError) as caught:
        registry.promote(model, to="production")
    assert (
        caught.value.what == "alice is changing credit@production at this moment"
        and "aiplat ledger" in caught.value.todo
    )
    with home.lock("model:credit"), pytest.raises(UserError, match="somebody else is registering"):
        registry.register(models.trained(home, 5).run.id, "credit")


def test_an_alias_that_moves_between_look_and_lock(home, monkeypatch: pytest.MonkeyPatch) -> None:
    models.ready(home, "credit", 1)
    models.ready(home, "credit", 2)
    look, moves = promotion.holder, itertools.count()

    def seen(ws, name: str, alias: str):
        if next(moves) == 1:  # promote looks before the lock and again inside it
            ws.client().set_registered_model_alias(name, alias, "1")
        return look(ws, name, alias)

    monkeypatch.setattr(promotion, "holder", seen)
    with pytest.raises(UserError, match="moved credit@production to credit/1 in the meantime"):
        registry.promote("credit/2", to="production")
    assert phases(home, "promote") == ["intent", "failed"]


def test_a_promotion_that_is_cut_off_after_it_took_effect(home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or a server that answers too late: the alias has moved, and the ledger must not say otherwise."""
    model, client = models.ready(home, "credit"), home.client()
    reach = client.set_registered_model_alias

    def cut_off(*words: str) -> None:
        reach(*words)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "set_registered_model_alias", cut_off)
    with pytest.raises(KeyboardInterrupt):
        registry.promote(model, to="production")
    assert phases(home, "promote") == ["intent", "failed"] and aliases.holder(home, "credit", "production") == 1
    assert verify().exit_code == 0 and not registry.promote(model, to="production").moved


# ---------------------------------------------------------------- what verify finds


@pytest.fixture
def live(home, house: models.House):
    """A workspace with credit/2 in production and credit/1 before it."""
    return house.back_to("live")


def broken(*says: str) -> list[Any]:
    found = verify()
    assert found.exit_code == 1
    for text in says:
        assert any(text in each.what for each in found.breaks), str(found)
    assert all(each.todo for each in found.breaks)
    return found.breaks


def test_verify_finds_an_alias_moved_with_a_raw_client(live) -> None:
    live.client().set_registered_model_alias("credit", "production", "1")
    (found,) = broken("moved past the gate with a raw client")
    assert "rollback credit --to production" in found.todo and "promote credit/1" in found.todo
    assert registry.models().aliases[0].agrees is False
    assert registry.rollback("credit", to="production").model == "credit/2"
    assert verify().exit_code == 0
    live.client().set_registered_model_alias("credit", "production", "1")
    assert registry.promote("credit/1", to="production").moved, "the gate may also be asked about it"
    assert verify().exit_code == 0
    assert registry.rollback("credit", to="production").model == "credit/2"


def test_verify_finds_a_deleted_alias_and_a_deleted_version(live) -> None:
    live.client().delete_registered_model_alias("credit", "production")
    broken("was deleted in MLflow")
    registry.rollback("credit", to="production")
    assert verify().exit_code == 0
    live.client().delete_model_version("credit", "2")
    broken("credit@production")
    live.client().delete_registered_model("credit")
    broken("credit@production")


def test_verify_finds_an_ungoverned_promotion(home) -> None:
    models.ready(home, "credit")
    home.client().set_registered_model_alias("credit", "production", "1")
    broken("the ledger has no promotion of it")
    with pytest.raises(UserError, match="never held"):
        registry.rollback("credit", to="production")


def raw(ws, *statements: str) -> None:
    with sqlite3.connect(ws.path("ledger.db")) as database:
        for statement in (
            "DROP TRIGGER IF EXISTS aiplat_no_update",
            "DROP TRIGGER IF EXISTS aiplat_no_delete",
            *statements,
        ):
            database.execute(statement)


def test_verify_finds_an_altered_entry(live) -> None:
    raw(
        live,
        "UPDATE aiplat_ledger SET body = replace(body, 'looked at the audit', 'never looked') WHERE kind = 'approval'",
    )
    broken("was altered after it was written")


def test_verify_finds_a_ledger_that_was_cut_off(live) -> None:
    last = ledger.entries(live, action="promote", phase="intent", newest_first=True)[0]
    raw(live, f"DELETE FROM aiplat_ledger WHERE seq >= {last.seq}")
    assert ledger.breaks(live) == [], "the chain alone cannot tell"
    broken("which is gone: the ledger was cut off or replaced")


def test_verify_finds_a_ledger_that_was_replaced(live) -> None:
    raw(live, "DELETE FROM aiplat_ledger")
    broken("was cut off or replaced", "the ledger has no training of this model")


def model_file(ws, number: int) -> Path:
    uri = ws.client().get_model_version("credit", str(number)).source
    place = ws.client().get_logged_model(uri.removeprefix("models:/")).artifact_location
    return Path(place.removeprefix("file://")) / "model.skops"


def test_an_altered_model_file_goes_nowhere(live) -> None:
    file, other = model_file(live, 2), model_file(live, 1)
    whole = file.read_bytes()
    file.write_bytes(other.read_bytes())
    broken("credit@production")
    registry.rollback("credit", to="production")
    with pytest.raises(UserError) as caught:
        registry.promote("credit/2", to="production")
    assert "gate" not in caught.value.what and aliases.holder(live, "credit", "production") == 1
    assert phases(live, "promote")[-2:] == ["intent", "failed"]
    file.write_bytes(whole)
    assert verify().exit_code == 0
    other.write_bytes(whole)
    registry.promote("credit/2", to="production")
    with pytest.raises(UserError):
        registry.rollback("credit", to="production")
    assert aliases.holder(live, "credit", "production") == 2


def test_a_model_file_altered_before_it_is_registered(home) -> None:
    run = models.trained(home).run
    place = home.client().get_logged_model(run.model_uri.removeprefix("models:/")).artifact_location
    (Path(place.removeprefix("file://")) / "model.skops").write_bytes(b"harm")
    with pytest.raises(UserError):
        registry.register(run.id, "credit")
    assert home.client().search_registered_models() == []


def test_verify_finds_an_altered_snapshot(live) -> None:
    import pandas as pd

    from aiplat.core.refs import find_run

    file = next(live.state.rglob(f"{find_run(live, 'credit/2').test_digest}.parquet"))
    table = pd.read_parquet(file)
    table.loc[0, "approved"] = 1 - table.loc[0, "approved"]
    table.to_parquet(file)
    broken("held-out rows")
    file.unlink()
    broken("held-out rows")


def test_verify_finds_a_run_whose_process_is_dead(live) -> None:
    left = (
        live.client()
        .create_run(live.experiment_id(), run_name="killed early", tags={"aiplat.kind": "train"})
        .info.run_id
    )
    (found,) = broken("says RUNNING")
    assert left[:8] in found.what
    with live.lock(f"run:{left}"):
        assert verify().exit_code == 0, "a living process holds it"


def test_verify_tells_living_work_from_dead(live) -> None:
    ledger.append(
        live,
        "promote",
        "alias:credit@production",
        {"from": 2, "to": 1, "process": {"pid": 1, "host": "h"}},
        phase="intent",
    )
    with live.lock("alias:credit@production"):
        found = verify()
        assert found.exit_code == 0 and found.working and "ana is busy with promote" in found.working[0]
    (dead,) = broken("the alias had not moved: credit@production is credit/2")
    assert "promote of alias:credit@production was begun by ana" in dead.what and "aiplat promote credit/1" in dead.todo
    assert registry.promote("credit/1", to="production").moved
    assert verify().exit_code == 0


def test_a_dead_intent_does_not_smuggle_a_raw_move(live) -> None:
    """Begin a promotion, kill it, move the alias by hand: it would look like a promotion that got through."""
    run = models.trained(live, 9).run
    model = registry.register(run.id, "credit").model
    ledger.append(live, "promote", "alias:credit@production", {"from": 2, "to": 3}, phase="intent")
    live.client().set_registered_model_alias("credit", "production", "3")
    broken("the alias had moved: credit@production is credit/3")
    with pytest.raises(Refused):
        registry.promote(model, to="production")
    broken("moved past the gate with a raw client")
    assert registry.rollback("credit", to="production").model == "credit/2"
    assert verify().exit_code == 0


# ---------------------------------------------------------------- batch


def test_batch_scores_with_the_signature_enforced(live) -> None:
    import pandas as pd

    from aiplat.data.sample import credit
    from aiplat.release.batch import predict

    rows = credit(rows=300, seed=7)
    rows.insert(0, "id", range(1000, 1300))
    rows.to_csv("people.csv", index=False)
    scored = predict("credit", "people.csv", out="out/scores.csv", keep=["id"])
    answer = pd.read_csv("out/scores.csv")
    assert (
        list(answer.columns) == ["id", "prediction", "probability_1"]
        and len(answer) == 300
        and answer["id"].tolist()[0] == 1000
    )
    assert scored.model == "credit/2" and scored.rows == 300 and scored.ignored == []
    whole = predict("credit@production", rows, out="scores.parquet")
    assert whole.ignored == ["id"]
    assert (pd.read_parquet("scores.parquet")["probability_1"] - answer["probability_1"]).abs().max() < 1e-9
    entry = ledger.entries(live, action="predict")[-1]
    assert (
        entry.body["model_digest"] == scored.model_digest
        and entry.body["rows"] == 300
        and entry.subject == "model:credit/2"
    )
    number = next(
        name for name in rows.columns if name not in ("id", "approved") and pd.api.types.is_numeric_dtype(rows[name])
    )
    for bad, says in (
        (rows.drop(columns=number), number),
        (rows.assign(**{number: "many"}), f"'{number}' holds text"),
        (rows.head(0), "no rows"),
    ):
        with pytest.raises(UserError) as caught:
            predict("credit", bad, out="bad.csv")
        assert says in str(caught.value)
    for data, out, keep, says in (
        ("people.csv", "people.csv", None, "is the input"),
        ("people.csv", "./out/../people.csv", None, "is the input"),
        ("people.csv", "scores.xlsx", None, "cannot be written as scores.xlsx"),
        ("people.csv", ".aiplat/ledger.csv", None, "own state"),
        ("people.csv", "x.csv", ["idd"], "did you mean 'id'"),
    ):
        with pytest.raises(UserError) as caught:
            predict("credit", data, out=out, keep=keep)
        assert says in str(caught.value)
    assert (
        not Path("bad.csv").exists() and not Path("x.csv").exists() and Path("people.csv").read_text().startswith("id,")
    )
    predict("credit", "people.csv", out="memory://bucket/scores.csv")
    import fsspec

    assert len(fsspec.open("memory://bucket/scores.csv").open().read().splitlines()) == 301
    with pytest.raises(UserError, match="did you mean 'credit'"):
        predict("credti", "people.csv", out="x.csv")
    model_file(live, 2).write_bytes(b"harm")
    with pytest.raises(UserError):
        predict("credit", "people.csv", out="x.csv")


def test_batch_keeps_rows_of_a_frame_with_any_index(live) -> None:
    import pandas as pd

    from aiplat.data.sample import credit
    from aiplat.release.batch import predict

    rows = credit(rows=60, seed=8)
    rows.index = pd.Index([0] * 60)
    predict("credit/1", rows, out="scores.parquet", keep=["sex"])
    answer = pd.read_parquet("scores.parquet")
    assert len(answer) == 60 and answer["sex"].tolist() == rows["sex"].tolist()


def test_batch_in_chunks_gives_the_same(live, ray_address: str) -> None:
    from aiplat.core.refs import find_run, load_model
    from aiplat.data.sample import credit
    from aiplat.release.batch import answers, needed_columns, score

    run = find_run(live, "credit/2")
    rows, model = credit(rows=2000, seed=9)[needed_columns(run)], load_model(live, "credit/2")
    said, where = score(live, model, rows, run, large=1000, chunk=300)
    assert "7 chunks" in where and said.equals(answers(model, rows, run.task, run.positive))


# ---------------------------------------------------------------- the command line


def test_exit_codes(live, capsys: pytest.CaptureFixture[str]) -> None:
    from aiplat.frontends.cli import main

    def aiplat(*words: str) -> tuple[int, str]:
        code, said = main(words), capsys.readouterr()
        return code, said.out + said.err

    models.trained(live, 11)
    assert aiplat("register", "last", "credit")[0] == 0
    code, said = aiplat("gate", "credit/3", "--to", "production", "--json")
    assert code == 3 and '"holds": false' in said
    code, said = aiplat("promote", "credit/3", "--to", "production")
    assert code == 3 and "may not become production" in said and "demographic_parity_ratio" in said
    assert aiplat("rollback", "credit", "--to", "production")[0] == 0
    assert aiplat("verify")[0] == 0
    assert "rollback" in aiplat("ledger", "--limit", "3")[1]
    assert aiplat("ledger", "--action", "promot")[0] == 2
    assert "credit@production" in aiplat("models")[1]
    live.client().set_registered_model_alias("credit", "production", "3")
    assert aiplat("verify")[0] == 1
