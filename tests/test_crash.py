"""`kill -9` in the middle of `register`, `promote` and `rollback`: at writes to a database (all of them in the campaign), and at arbitrary lines.

A child process dies at the n-th moment that counts; then `verify` must explain what it left, and the next command must put it right.
Children are forked from a server that has the libraries imported, so one costs a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from aiplat.core import ledger, workspace
from aiplat.core.errors import UserError
from aiplat.release import aliases, registry
from aiplat.release.verify import verify
from aiplat.release.versions import find_versions
from tests import models

CAMPAIGN = bool(os.environ.get("AIPLAT_CAMPAIGN"))
LINES = 120 if CAMPAIGN else 3  # arbitrary lines to die at, per verb
STRIDE = 1 if CAMPAIGN else 3  # of the writes, every one or every third
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

nursery = multiprocessing.get_context("forkserver")
nursery.set_forkserver_preload(
    ["tests.models", "mlflow", "sklearn.linear_model", "skops.io", "aiplat.release.registry", "aiplat.training.runs"]
)


# ---------------------------------------------------------------- the child


def _die_at_write(n: int | None) -> list[int]:
    """Die before the n-th statement that writes, or commit; returns a counter."""
    import sqlalchemy as sa

    count = [0]

    def tick(*_: Any) -> None:
        count[0] += 1
        if count[0] == n:
            os.kill(os.getpid(), 9)

    @sa.event.listens_for(sa.engine.Engine, "before_cursor_execute")
    def _statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            tick()

    sa.event.listen(sa.engine.Engine, "commit", tick)
    return count


def _die_at_line(n: int | None) -> list[int]:
    """Die at the n-th line executed in aiplat's own release and ledger rooms; returns a counter."""
    count, rooms = [0], (f"{os.sep}aiplat{os.sep}release{os.sep}", f"{os.sep}aiplat{os.sep}core{os.sep}ledger")

    def line(frame: Any, event: str, arg: Any) -> Any:
        if event == "line":
            count[0] += 1
            if count[0] == n:
                os.kill(os.getpid(), 9)
        return line

    def call(frame: Any, event: str, arg: Any) -> Any:
        return line if any(room in frame.f_code.co_filename for room in rooms) else None

    sys.settrace(call)
    return count


def child(
    root: str,
    how: str,
    n: int | None,
    verb: str,
    args: tuple[str, ...],
    options: dict[str, str],
    answer: Any,
    gun: Any = None,
) -> None:
    """Run a verb as ana, dying at the n-th moment; sends back what it said and how many moments there were."""
    os.chdir(root)
    os.environ["AIPLAT_USER"] = options.pop("user", "ana")
    workspace.workspace().client()
    ledger.unfinished(workspace.workspace())  # opening the databases is not what dies here
    count = {"write": _die_at_write, "line": _die_at_line, "not": lambda n: [0]}[how](n)
    if gun is not None:
        gun.wait(60)
    try:
        getattr(registry, verb)(*args, **options)
        said = "done"
    except UserError as error:
        said = str(error)
    sys.settrace(None)
    answer.send((said, count[0]))


def start(ws: Any, how: str, n: int | None, verb: str, *args: str, gun: Any = None, **options: str) -> tuple[Any, Any]:
    receive, send = nursery.Pipe(duplex=False)
    process = nursery.Process(target=child, args=(str(ws.root), how, n, verb, args, options, send, gun))
    process.start()
    send.close()
    return process, receive


def run(ws: Any, how: str, n: int | None, verb: str, *args: str, **options: str) -> tuple[int, str, int]:
    """Exit code, what the child said, and how many moments it counted."""
    process, receive = start(ws, how, n, verb, *args, **options)
    try:
        said, count = receive.recv()
    except EOFError:
        said, count = "", 0
    process.join(60)
    return process.exitcode, said, count


def moments(writes: int, lines: int, seed: int) -> list[tuple[str, int]]:
    """Writes, the first and the last among them, and some lines."""
    chosen = sorted(random.Random(seed).sample(range(1, lines), min(LINES, lines - 1)))
    return [("write", n) for n in sorted({*range(1, writes + 1, STRIDE), writes})] + [("line", n) for n in chosen]


def explained(ws: Any, subject: str) -> None:
    """The ledger is sound, and verify says in words what was left, if anything was."""
    assert ledger.breaks(ws) == []
    left, found = ledger.unfinished(ws), verify()
    assert len(left) <= 1 and all(entry.subject == subject for entry in left)
    if left:
        assert found.exit_code == 1 and len(found.breaks) == 1, str(found)
        (only,) = found.breaks
        assert (
            subject in only.what and "was begun by ana" in only.what and "had" in only.what and "aiplat " in only.todo
        ), str(found)
    else:
        assert found.exit_code == 0, str(found)


def healed(ws: Any) -> None:
    assert ledger.unfinished(ws) == [] and ledger.breaks(ws) == []
    found = verify()
    assert found.exit_code == 0, str(found)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIPLAT_USER", "ana")
    models.governed(tmp_path)
    return workspace.workspace(tmp_path)


# ---------------------------------------------------------------- the tests


def test_register_killed_at_every_write(home) -> None:
    made = models.trained(home).run
    code, said, writes = run(home, "write", None, "register", made.id, "dry")
    assert (code, said) == (0, "done") and writes >= 6, (code, said, writes)
    _, _, lines = run(home, "line", None, "register", made.id, "dry2")
    half = 0
    for how, n in moments(writes, lines, seed=1):
        name = f"credit-{how}-{n}"
        code, _, _ = run(home, how, n, "register", made.id, name)
        assert code == -9, (how, n)
        half += bool(ledger.unfinished(home))
        explained(home, f"model:{name}")
        assert registry.register(made.id, name).model == f"{name}/1"
        assert len(find_versions(home, name)) == 1, "made twice"
        about = ledger.entries(home, subject=f"model:{name}")
        made_here = [e for e in about if e.phase == "done" or (e.phase == "recovered" and e.body["version"])]
        assert len(made_here) == 1 and made_here[0].body["version"] == 1
        healed(home)
    assert half >= 2


def test_promote_killed_at_every_write(home) -> None:
    versions = [models.ready(home, "credit", seed) for seed in (1, 2)]
    code, said, writes = run(home, "write", None, "promote", versions[0], to="production")
    assert (code, said) == (0, "done") and writes >= 6, (code, said, writes)
    _, _, lines = run(home, "line", None, "promote", versions[1], to="production")
    seen = set()
    for turn, (how, n) in enumerate(moments(writes, lines, seed=2)):
        model, held = versions[turn % 2], len(aliases.history(home, "credit", "production"))
        code, _, _ = run(home, how, n, "promote", model, to="production")
        assert code == -9, (how, n)
        explained(home, "alias:credit@production")
        promotion = registry.promote(model, to="production")
        seen.add(promotion.moved)
        assert f"credit/{aliases.holder(home, 'credit', 'production')}" == promotion.model == model
        assert len(aliases.history(home, "credit", "production")) == held + 1, (
            "one promotion, however often it was begun"
        )
        healed(home)
    assert seen == {True, False}, "some died before the alias moved, some after"


def test_rollback_killed_at_every_write(home) -> None:
    for seed in (1, 2, 3):
        registry.promote(models.ready(home, "credit", seed), to="production")
    code, said, writes = run(home, "write", None, "rollback", "credit", to="production")
    assert (code, said) == (0, "done")
    registry.promote("credit/3", to="production")
    for _, n in [moment for moment in moments(writes, 2, seed=3) if moment[0] == "write"]:
        code, _, _ = run(home, "write", n, "rollback", "credit", to="production")
        assert code == -9
        explained(home, "alias:credit@production")
        back = registry.rollback("credit", to="production")
        assert back.model == "credit/2" and aliases.holder(home, "credit", "production") == 2, "one step, not two"
        healed(home)
        registry.promote("credit/3", to="production")


def test_two_promotions_at_once(home) -> None:
    versions = [models.ready(home, "credit", seed) for seed in (1, 2)]
    for _ in range(6 if CAMPAIGN else 3):
        before = len(aliases.history(home, "credit", "production"))
        gun = nursery.Barrier(2)
        children = [
            start(home, "not", None, "promote", model, to="production", gun=gun, user=user)
            for model, user in zip(versions, ("ana", "ben"), strict=True)
        ]
        answers = [receive.recv()[0] for _, receive in children]
        for process, _ in children:
            process.join(60)
        now = aliases.holder(home, "credit", "production")
        held = aliases.history(home, "credit", "production")
        assert held[-1].version == now and "done" in answers
        for said in answers:
            assert said == "done" or (
                "production" in said
                and len(said.splitlines()) == 2
                and ("in the meantime" in said or "at this moment" in said)
            ), said
        assert len(held) - before <= answers.count("done")
        healed(home)


def test_six_register_the_same_run_at_once(home) -> None:
    made = models.trained(home).run
    gun = nursery.Barrier(6)
    children = [start(home, "not", None, "register", made.id, "credit", gun=gun) for _ in range(6)]
    assert [receive.recv()[0] for _, receive in children] == ["done"] * 6
    for process, _ in children:
        process.join(60)
    assert len(find_versions(home, "credit")) == 1
    healed(home)
