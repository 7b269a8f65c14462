"""A small credit team after two weeks of work, told by the verbs themselves: what the pictures in the README and the tutorials show."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

GATE = {
    "metrics": "roc_auc >= 0.75",
    "fairness": "demographic_parity_ratio >= 0.8 by sex",
    "approvals": "1 by risk",
    "max_age": "30d",
}
ROLES = {"risk": "rosa, ali"}
ROWS = 8_000
ARRIVE = """\
from pathlib import Path
from time import sleep

while not Path("applications.csv").exists():
    sleep(0.1)"""
NIGHT = (
    (
        'segment: str = "north"  # which branch\nrows: int = 5000  # at most\ndraft: bool = True  # keep no scores',
        ("parameters",),
    ),
    ('print(f"{segment}: at most {rows:,} applications")', ()),
    (ARRIVE, ()),
    ('print("scored", "as a draft" if draft else "for good")', ()),
)
REVIEW = (
    ("%load_ext aiplat", ()),
    ("%aiplat audit credit/2 --by sex,age_group", ()),
    ("%aiplat gate credit/3 --to production", ()),
)


def _logged(ws: Any, people: Any, name: str, model: Any) -> str:
    """A run with a model that was fitted by hand."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from aiplat.training.runs import log_run

    cut = len(people) * 2 // 3
    features = [column for column in people if column != "approved"]
    text = [column for column in features if people[column].dtype.kind not in "biuf"]
    numbers = [column for column in features if column not in text]
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), (StandardScaler(), numbers))
    train, test = people.iloc[:cut], people.iloc[cut:]
    fitted = make_pipeline(columns, model).fit(train[features], train["approved"])
    logged = log_run(
        ws, "train", fitted, train=train, test=test, task="binary", target="approved", features=features, positive="1", name=name
    )  # fmt: skip
    return str(logged.run.id)


def story(folder: Path) -> Any:
    """A workspace in which credit/1 was refused for its gap, credit/2 is its fairer form and in production, and credit/3, trained since, is
    not fair enough and nobody has approved it; with a fortnight of pipelines, `night.ipynb` to run as one, and `review.ipynb`."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    from aiplat.core import workspace
    from aiplat.core.errors import UserError
    from aiplat.data.sample import credit
    from aiplat.release.promotion import approve, promote
    from aiplat.release.registry import register
    from aiplat.training.mitigate import mitigate
    from aiplat.trust.audit import audit
    from tests.browser.homes import write_notebook
    from tests.models import acting
    from tests.nights import fortnight

    before = Path.cwd()
    ws = workspace.create(folder, user="ana", roles=ROLES, gates={"production": GATE})
    os.chdir(folder)
    try:
        people = credit(rows=ROWS, seed=7).dropna().reset_index(drop=True)
        _logged(ws, people, "logistic, first look", LogisticRegression(C=0.01, max_iter=500))
        first = _logged(ws, people, "logistic", LogisticRegression(max_iter=500))
        register(first, "credit")
        audit("credit/1", by=["sex", "age_group"])
        try:
            promote("credit/1", to="production")
        except UserError:
            pass
        else:
            raise AssertionError("a gate let a model through that treats women worse")
        mitigate(first, by=["sex"], name="logistic, thresholds by sex")
        register("last", "credit")
        audit("credit/2", by=["sex", "age_group"])
        acting(ws, "rosa")
        approve("credit/2", to="production", reason="the audit passes, and the cost is known")
        acting(ws, "ana")
        promote("credit/2", to="production")
        forest = RandomForestClassifier(60, min_samples_leaf=8, random_state=0)
        register(_logged(ws, people, "forest", forest), "credit")
        audit("credit/3", by=["sex", "age_group"])
    finally:
        os.chdir(before)
        os.environ.pop("AIPLAT_USER", None)
    fortnight(ws, time.time())
    write_notebook(folder / "night.ipynb", NIGHT)
    write_notebook(folder / "review.ipynb", REVIEW)
    return ws
