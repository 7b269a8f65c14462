"""A year of production in seconds: rows are answered, recorded and watched window by window, as an endpoint would, with the truth a window late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

START, WEEK = datetime(2025, 1, 6, tzinfo=UTC), timedelta(weeks=1)  # a Monday: windows of a week begin there


@dataclass
class Year:
    """What happened.

    Attributes
    ----------
    name
        The endpoint.
    first
        Rows that the first model learned from, and was tested on; window ``w`` holds the rows after them.
    per
        Rows in a window.
    told
        ``(window, figure, raised or cleared)`` in the order in which people were told.
    retrained
        ``(window, version, whether it was promoted)``.
    versions
        The version that answered each window.
    """

    name: str
    first: int
    per: int
    told: list[tuple[int, str, str]] = field(default_factory=list)
    retrained: list[tuple[int, str, bool]] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def raised(self, prefix: str = "") -> list[tuple[int, str]]:
        """When which alert was raised."""
        return [
            (window, figure) for window, figure, what in self.told if what == "raised" and figure.startswith(prefix)
        ]

    def false_alarms(self, changes: Sequence[int], patience: int) -> list[tuple[int, str]]:
        """Alerts that were raised at another time than up to ``patience`` windows after a change."""
        return [each for each in self.raised() if not any(0 <= each[0] - change <= patience for change in changes)]

    def figures(self, ws: Any, figure: str) -> list[float | None]:
        """A figure, window by window."""
        from aiplat.operations.monitoring.windows import kept

        return [window.figures.get(figure, (None,))[0] for window in kept(ws, self.name)]


def first_model(ws: Any, name: str, rows: pd.DataFrame, target: str, make: Callable[[], Any]) -> None:
    """Train on the first three quarters of these rows, test on the rest, register and promote."""
    from aiplat.release.promotion import promote
    from aiplat.release.registry import register
    from aiplat.training.runs import log_run

    cut = 3 * len(rows) // 4
    features = [column for column in rows.columns if column != target]
    model = make().fit(rows[features][:cut], rows[target][:cut])
    about = {"task": "binary", "target": target, "positive": "1", "features": features}
    log_run(ws, "train", model, train=rows[:cut], test=rows[cut:], **about)
    register("last", name)
    promote(f"{name}/1", to="production", reason="the first")


def answer(
    ws: Any, name: str, rows: pd.DataFrame, target: str, start: datetime, step: timedelta = WEEK
) -> tuple[int, pd.DataFrame]:
    """Let the version in production answer rows, spread over a window, and leave them in the log; its number, and their truth."""
    from aiplat.core.refs import find_model, load_model
    from aiplat.operations.monitoring.references import answered
    from aiplat.release.serving.answers import Answers
    from aiplat.release.serving.journal import Journal

    version = find_model(ws, f"{name}@production")
    features = [column for column in rows.columns if column != target]
    said = answered(load_model(ws, version), rows[features], "binary")
    journal = Journal(ws.state / "predictions", endpoint=name, worker="w")
    truths = []
    for part, where in enumerate(np.array_split(np.arange(len(rows)), 7)):
        batch, id_ = rows.iloc[where], f"{start:%Y%m%d}-{part}"
        columns = {
            c: batch[c].to_numpy(float) if batch[c].dtype.kind in "fiu" else batch[c].to_numpy(object) for c in features
        }
        scores = said[["score_0", "score_1"]].to_numpy()[where]
        at = (start + step * part / 7 + timedelta(seconds=1)).timestamp()
        journal.add(id_, version.version, version.model_digest, "champion", columns,
                    Answers(said["prediction"].to_numpy(object)[where], scores, ("0", "1")), at, 0.001)  # fmt: skip
        truths.append(
            pd.DataFrame({"request_id": id_, "row": range(len(where)), "came_true": batch[target].to_numpy()})
        )
    journal.close()
    return version.version, pd.concat(truths, ignore_index=True)


def simulate(
    ws: Any, name: str, frame: pd.DataFrame, target: str, *, first: int, per: int, make: Callable[[], Any], retrain_on: str = "",
    most: int | None = None, **options: Any,
) -> Year:  # fmt: skip
    """Live through the rows of ``frame`` in their order.

    Parameters
    ----------
    ws, name
        The workspace, whose settings have a section ``[monitor:NAME]`` with ``window = 1w``; and the endpoint.
    frame, target
        The rows with the truth.
    first, per
        See `Year`.
    make
        Makes the first model.
    retrain_on
        Alerts whose figure begins so start a retraining on what came since the window that raised them, again every other window until one is promoted.
    most
        At most so many windows.
    options
        Of `retrain`.
    """
    from aiplat.operations.monitoring.alerting import check_endpoint
    from aiplat.operations.monitoring.retraining import retrain
    from aiplat.release.truth import truth

    year, late = Year(name, first, per), None
    first_model(ws, name, frame[:first], target, make)
    windows = min((len(frame) - first) // per, most or 10**6)
    asked: tuple[int, datetime] | None = None
    for window in range(windows):
        start = START + WEEK * window
        version, came = answer(ws, name, frame[first + window * per : first + (window + 1) * per], target, start)
        year.versions.append(version)
        if late is not None:
            truth(name, late, target="came_true", row="row")
        late = came
        found = check_endpoint(ws, name, (start + WEEK + timedelta(minutes=1)).timestamp())
        for line in found.rules:
            figure = line.alert.split(":", 2)[2]
            if line.told:
                year.told.append((window, figure, line.told))
            if line.told == "raised" and retrain_on and figure.startswith(retrain_on):
                asked = (window, datetime.fromisoformat(line.since))
        if asked is not None and (window - asked[0]) % 2 == 0:
            again = retrain(name, since=asked[1].isoformat(), until=(start + WEEK).isoformat(), **options)
            year.retrained.append((window, again.candidate, again.promoted))
            asked = None if again.promoted else asked
    return year
