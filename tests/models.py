"""Finished runs without a search: a small logistic regression on synthetic credit applications, as `train` would log it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiplat.core.workspace import Workspace
    from aiplat.training.runs import Logged

RULES = {
    "metrics": "roc_auc >= 0.55",
    "fairness": "demographic_parity_ratio >= 0.05 by sex",
    "contract": "pass",
    "approvals": "1 by risk",
    "max_age": "30d",
}
ROLES = {"risk": "rosa, ali"}


def governed(folder: Path, user: str = "ana", rules: dict[str, str] | None = None) -> Workspace:
    """A workspace with a gate for production."""
    from aiplat.core import workspace

    return workspace.create(folder, user=user, roles=ROLES, gates={"production": RULES if rules is None else rules})


def acting(ws: Workspace, user: str) -> Any:
    """The same workspace with another person at the keyboard, for verbs too."""
    from aiplat.core import workspace

    os.environ["AIPLAT_USER"] = user
    return workspace.workspace(ws.root)


def trained(ws: Workspace, seed: int = 0, rows: int = 400) -> Logged:
    """A finished run."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from aiplat.data.sample import credit
    from aiplat.training.runs import log_run

    frame = pd.DataFrame(credit(rows=rows, seed=seed))
    features = [name for name in frame.columns if name != "approved"]
    train, test = frame.iloc[: rows // 2], frame.iloc[rows // 2 :]
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=200))
    model.fit(train[features], train["approved"])
    return log_run(
        ws, "train", model, train=train, test=test, task="binary", target="approved", features=features, positive="1", seed=seed,
        name=f"by hand {seed}",
    )  # fmt: skip


def evident(ws: Workspace, run: Any, *, value: float = 0.9, contract: bool = True) -> None:
    """What a gate reads beside the evaluation: an audit of the held-out rows, and a contract check of the training rows."""
    from aiplat.core import evidence
    from aiplat.trust import verdicts
    from aiplat.trust.findings import Audit
    from aiplat.trust.groups import GroupLine, all_disparities
    from aiplat.trust.intervals import share

    lines = [
        GroupLine("sex", name, 90_000, {"selection_rate": share(hits, 90_000, "")})
        for name, hits in (("female", round(45_000 * value)), ("male", 45_000))
    ]
    made = Audit(
        run.id, "binary", run.target, run.positive, "", "", 180_000, ["sex"], 30, lines, all_disparities(lines)
    )
    made.verdicts = verdicts.judge(made.criteria, made.measures())
    measured = made.measured()
    evidence.record(
        ws,
        "audit",
        subject=f"run:{run.id}",
        model_digest=run.model_digest,
        data_digest=run.test_digest,
        measured=measured,
    )
    if contract:
        about = {"contract": "credit.yml", "failures": []}
        evidence.record(
            ws,
            "contract",
            subject=f"data:{run.data_digest}",
            data_digest=run.data_digest,
            outcome="pass",
            measured=about,
        )


def ready(ws: Workspace, name: str, seed: int = 0, to: str = "production") -> str:
    """A registered version that its gate would let through."""
    from aiplat.release import registry

    logged = trained(ws, seed)
    evident(ws, logged.run)
    model = registry.register(logged.run.id, name).model
    acting(ws, "rosa")
    registry.approve(model, to=to, reason="looked at the audit")
    acting(ws, "ana")
    return model


class House:
    """A workspace that goes back to a known state, which is much faster than a new one.

    The databases are put back by SQLite's own backup, so that open connections stay valid; files are copied.

    States: ``empty`` has a gate and nothing else; ``live`` has credit/2 in production and credit/1 before it.
    """

    def __init__(self, root: Path):
        from aiplat.core import ledger
        from aiplat.release import registry

        self.root, self.ws, here = root, governed(root), Path.cwd()
        self.ws.experiment_id()
        ledger.entries(self.ws)
        self._keep("empty")
        os.chdir(root)
        try:
            for seed in (1, 2):
                registry.promote(ready(self.ws, "credit", seed), to="production")
        finally:
            os.chdir(here)
            os.environ.pop("AIPLAT_USER", None)
        self._keep("live")

    def _copy(self, source: Path, target: Path) -> None:
        for name in ("mlflow.db", "ledger.db"):
            with (
                closing(sqlite3.connect(source / name)) as old,
                closing(sqlite3.connect(target / name, timeout=30)) as new,
            ):
                old.backup(new)
        for name in ("artifacts", "snapshots"):
            shutil.rmtree(target / name, ignore_errors=True)
            if (source / name).exists():
                shutil.copytree(source / name, target / name)

    def _keep(self, state: str) -> None:
        place = self.root.parent / f"{self.root.name}-{state}"
        place.mkdir()
        self._copy(self.ws.state, place)

    def back_to(self, state: str) -> Workspace:
        for path in self.root.iterdir():
            if path.name not in ("settings.ini", ".aiplat"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._copy(self.root.parent / f"{self.root.name}-{state}", self.ws.state)
        return acting(self.ws, "ana")


def plain(value: Any) -> Any:
    """A result as a JSON reader sees it."""
    return json.loads(value.to_json())
