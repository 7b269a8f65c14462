"""Single rows over HTTP on Ray Serve: an endpoint with `host = ray` beside a plain deployment of the same model."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving import beside, bundle_of, endpoint, free_port, medians, post, prepared


@contextmanager
def on_ray(home: Path) -> Iterator[Any]:
    """A prepared workspace whose endpoints run on a Ray of its own, or on the one in ``AIPLAT_RAY``."""
    from aiplat.core.cluster import down, up
    from aiplat.core.workspace import workspace

    prepared(home)
    file = home / "settings.ini"
    file.write_text(file.read_text() + f"host = ray\nport = {free_port()}\n")  # the section of `prepared` is the last
    if not os.environ.get("AIPLAT_RAY"):
        up()
    try:
        yield workspace(home)
    finally:
        if not os.environ.get("AIPLAT_RAY"):
            down()


@contextmanager
def plain(ws: Any, port: int) -> Iterator[str]:
    """The model as Ray Serve's documentation deploys one: loaded once, a frame and `predict` per request."""
    from ray import serve
    from starlette.requests import Request

    @serve.deployment(num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.1})
    class Plain:
        def __init__(self, tracking: str, uri: str):
            import mlflow

            mlflow.set_tracking_uri(tracking)
            self.model = mlflow.pyfunc.load_model(uri)

        async def __call__(self, request: Request) -> dict[str, Any]:
            import pandas as pd

            rows = (await request.json())["dataframe_records"]
            return {"predictions": self.model.predict(pd.DataFrame(rows)).tolist()}

    serve.run(Plain.bind(ws.tracking_uri, "models:/credit/1"), name="plain", route_prefix="/plain")
    try:
        yield f"http://127.0.0.1:{port}/plain"
    finally:
        serve.delete("plain")


def serving_vs_rayserve() -> dict[str, Any]:
    """Single rows, 16 connections: how many times the requests a second of a plain deployment on the same Ray."""
    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder, on_ray(Path(folder)) as ws:
        row = dict(bundle_of(ws).examples[0])
        theirs = {"dataframe_records": [json.loads(json.dumps(row))]}
        with endpoint(ws) as (ours, _), plain(ws, int(ours.split(":")[2].split("/")[0])) as url:
            said = post(ours, {"records": [row]})["predictions"][0]["prediction"]
            assert post(url, theirs)["predictions"] == [said], said
            found = medians(beside({"ours": (ours, {"records": [row]}, ""), "plain": (url, theirs, "")}))
    value = found["ours"]["rate"] / found["plain"]["rate"]
    return {
        "bench": "serving_vs_rayserve",
        "value": round(value, 1),
        "target": ">= 2",
        "ok": value >= 2,
        "detail": found,
    }
