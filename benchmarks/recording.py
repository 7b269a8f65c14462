"""What a record of every answer costs: processor time of a worker, with a journal and without, side by side."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
TEXTS = ("workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country")


def _live() -> Any:
    """A model of Adult's shape that costs next to nothing, so that everything else weighs more than it would."""
    from aiplat.release.serving.answers import Answers, Bundle, Scorer
    from aiplat.release.serving.fields import Field, Schema
    from aiplat.release.serving.lives import Live
    from aiplat.release.serving.plans import Arm, Plan

    schema = Schema((*(Field(name, "number") for name in NUMBERS), *(Field(name, "text") for name in TEXTS)))
    bundle = Bundle(
        Path("bundle"), name="income", version=3, model_digest="3" * 64, data_digest="0" * 64, task="binary",
        target="rich", positive="1", classes=("0", "1"), schema=schema, form="onnx",
    )  # fmt: skip

    def run(columns: Any) -> Answers:
        chance = 1 / (1 + np.exp(0.1 * (40 - columns["age"])))
        return Answers((chance > 0.5).astype(np.int64), np.stack([1 - chance, chance], axis=1), ("0", "1"))

    plan = Plan("income", "income", 1, "single", (Arm(3, 10_000, "b3", "3" * 64),), ())
    return Live(plan, {3: Scorer(bundle, run)})


async def _ask(app: Any, body: bytes, times: int) -> None:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
    }  # fmt: skip
    seen = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal seen
        seen += message.get("status") == 200

    for number in range(times):
        await app(dict(scope), receive, send)
        if number % 50 == 49:
            await asyncio.sleep(0)
    assert seen == times, f"{times - seen} requests failed"


def processor_time(rounds: int = 7, times: int = 2000) -> dict[str, float]:
    """Microseconds of the processor per request of one row, with records and without, no network between.

    Without the network the share of recording is larger than an endpoint's: there every request is read from a socket.
    """
    from aiplat.release.serving.application import application
    from aiplat.release.serving.journal import Journal
    from aiplat.release.serving.meters import Meters

    row = {name: 41 for name in NUMBERS} | {name: f"{name} 3" for name in TEXTS}
    body, live = json.dumps({"records": [row]}).encode(), _live()
    told: dict[str, list[float]] = {"recorded": [], "plain": [], "added": []}
    with tempfile.TemporaryDirectory() as folder:
        meters = Meters(Path(folder) / "metrics")
        journal = Journal(Path(folder) / "predictions", endpoint="income", worker="0")
        apps = {
            "recorded": application(lambda: live, journal=journal, meters=meters),
            "plain": application(lambda: live, meters=meters),
        }
        for number in range(rounds + 1):
            for name, app in apps.items():
                began = time.process_time()
                asyncio.run(_ask(app, body, times))
                if name == "recorded":
                    assert journal.flush(60)
                if number:  # the first round imports and warms up
                    told[name].append(1e6 * (time.process_time() - began) / times)
        columns = {name: np.array([41.0]) for name in NUMBERS} | {name: np.array(["x"], dtype=object) for name in TEXTS}
        answers = live.scorers[3].score(columns) if hasattr(live.scorers[3], "score") else None
        for _ in range(times if answers is not None else 0):
            began = time.perf_counter()
            journal.add("r", 3, "3" * 64, "main", columns, answers, 1_772_323_200.0, 0.001)
            told["added"].append(1e6 * (time.perf_counter() - began))
        journal.close()
        assert journal.dropped == 0
    return {name: statistics.median(values) for name, values in told.items() if values}


def recording_processor() -> dict[str, Any]:
    """A record of every answer, of the processor time that the answer takes without it."""
    told = processor_time()
    share = told["recorded"] / told["plain"] - 1
    detail = (
        f"{told['recorded']:.0f} µs a request with records, {told['plain']:.0f} without, in process, without network, "
        f"with a model that costs nothing; {told['added']:.1f} µs of it while somebody waits"
    )
    return {
        "bench": "recording_processor", "value": round(100 * share, 1), "target": "<= 50 % of that processor time",
        "ok": share <= 0.5, "detail": detail,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(recording_processor(), ensure_ascii=False))
