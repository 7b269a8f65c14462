"""Single rows over HTTP, beside `mlflow models serve` and a bare FastAPI; what records, metrics and tokens cost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROUNDS, SECONDS, CONNECTIONS = 3, 4, 16
PAIRS = 9  # a small difference of two large figures needs more rounds


def prepared(home: Path) -> Any:
    """A workspace with a registered gradient boosting of the sample, whose endpoints have one worker."""
    from aiplat.core import workspace
    from aiplat.data.sample import credit
    from aiplat.release.versions import register
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.runs import log_run

    ws = workspace.create(home, user="ana")
    (home / "settings.ini").write_text((home / "settings.ini").read_text() + "\n[serving]\nworkers = 1\ngate = none\n")
    os.environ |= {"AIPLAT_HOME": str(home), "AIPLAT_USER": "ana"}
    rows = credit(rows=6000, seed=1)
    features = [name for name in rows if name != "approved"]
    model = build("hist_gradient_boosting", usable_columns(rows[features]), {}, task="binary")
    model.fit(rows[features][:5000], rows["approved"][:5000])
    about = {"task": "binary", "target": "approved", "positive": "1", "features": features}
    run = log_run(workspace.workspace(home), "train", model, train=rows[:5000], test=rows[5000:], **about).run
    register(run.id, "credit")
    return workspace.workspace(home) or ws


def bundle_of(ws: Any) -> Any:
    """The version, prepared; it must be a compiled form that is compared."""
    from aiplat.core.refs import find_model
    from aiplat.release.serving.bundles import prepare

    bundle = prepare(ws, find_model(ws, "credit/1"), ws.state / "bench")
    assert bundle.form == "onnx", bundle.why
    return bundle


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def post(url: str, body: dict[str, Any], token: str = "") -> Any:
    """One request."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


@contextmanager
def process(command: Sequence[str], url: str, body: dict[str, Any], token: str = "", **environ: str) -> Iterator[int]:
    """A server of its own, from its first answer to its end; the number of its process."""
    with tempfile.TemporaryFile("w+") as said:
        run = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | environ, start_new_session=True)
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    post(url, body, token)
                    break
                except OSError as problem:
                    if run.poll() is not None or time.monotonic() > until:
                        said.seek(0)
                        raise RuntimeError(said.read()[-2000:]) from problem
                    time.sleep(0.1)
            yield run.pid
        finally:
            os.killpg(run.pid, signal.SIGTERM)
            try:
                run.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()


def load(url: str, body: dict[str, Any], connections: int = CONNECTIONS, token: str = "") -> dict[str, float]:
    """Requests a second and quantiles of latency in milliseconds, by wrk."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method = 'POST'\nwrk.body = {json.dumps(json.dumps(body))}\n"
            "wrk.headers['Content-Type'] = 'application/json'\n"
        )
        if token:
            script.write(f"wrk.headers['Authorization'] = 'Bearer {token}'\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", script.name, url]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    found = {f"p{q}": float(v) * units[u] for q, v, u in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)", out, re.M)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate, out
    return {"rate": float(rate[1]), **found}


def beside(
    servers: dict[str, tuple[str, dict[str, Any], str]],
    connections: int = CONNECTIONS,
    rounds: int = ROUNDS,
    workers: dict[str, Any] | None = None,
) -> dict[str, list[dict[str, float]]]:
    """Several rounds, in each of which every server is asked in turn; now this one first, now that.

    Of the `workers` (psutil's processes) also the processor time of an answer, in microseconds.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for name in list(servers)[:: -1 if turn % 2 else 1]:
            url, body, token = servers[name]
            began = sum(workers[name].cpu_times()[:2]) if workers else 0.0
            measured = load(url, body, connections, token)
            if workers:
                taken = sum(workers[name].cpu_times()[:2]) - began
                measured["processor"] = 1e6 * taken / (measured["rate"] * SECONDS)
            if turn:  # the first round warms up
                runs[name].append(measured)
    return runs


def medians(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each figure, over the rounds."""
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }


@contextmanager
def endpoint(ws: Any) -> Iterator[tuple[str, float]]:
    """An endpoint as `deploy` makes it: where it answers, and how many seconds its first answer took."""
    from aiplat.release.endpoint import deploy, undeploy
    from aiplat.release.serving.server import running

    row = dict(bundle_of(ws).examples[0])
    began = time.perf_counter()
    deploy("credit/1")
    found = running(ws, "credit")
    assert found is not None
    post(f"{found.url}/predict", {"records": [row]})
    took = time.perf_counter() - began
    try:
        yield f"{found.url}/predict", took
    finally:
        undeploy("credit")


FASTAPI = """
import sys, numpy as np, onnxruntime as ort, uvicorn
from fastapi import FastAPI
from pydantic import create_model
from aiplat.release.serving.bundles import load
from aiplat.release.serving.shelves import load_program
from pathlib import Path
folder, port = Path(sys.argv[1]), int(sys.argv[2])
model, schema = load_program(folder).model, load(folder).bundle.schema  # only to know names, levels and the graph
ranks, numbers, coded = model.encoder.ranks, model.encoder.numbers, model.core.layout.coded
base = float(model.core.ensemble.base[0])
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(str(folder / "trees-0.onnx"), options, providers=["CPUExecutionProvider"])
kinds = {one.name: float | None if one.kind == "number" else str | None for one in schema.fields}
Row = create_model("Row", **{name: (kind, ...) for name, kind in kinds.items()})
app = FastAPI()

@app.post("/predict")
async def predict(row: Row):
    values = [getattr(row, name) for name in numbers] + [ranks[name].get(getattr(row, name)) for name in ranks]
    x = np.array([values], dtype=float)
    x[:, coded] += 1
    chance = 1 / (1 + np.exp(-float(session.run(None, {"X": x})[0][0, 0]) - base))
    return {"prediction": int(chance > 0.5), "probability": chance}

uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, loop="uvloop", http="httptools")
"""


def serving_vs_mlflow() -> dict[str, Any]:
    """Single rows, 16 connections: how many times the requests a second of `mlflow models serve`, one worker each."""
    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        ws = prepared(Path(folder))
        bundle, port = bundle_of(ws), free_port()
        row = dict(bundle.examples[0])
        theirs = {"dataframe_records": [row]}
        url = f"http://127.0.0.1:{port}/invocations"
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            "models:/credit/1",
            "-p",
            str(port),
            "--env-manager",
            "local",
        ]
        with endpoint(ws) as (ours, _), process(command, url, theirs, MLFLOW_TRACKING_URI=ws.tracking_uri):
            found = medians(beside({"ours": (ours, {"records": [row]}, ""), "mlflow": (url, theirs, "")}))
    value = found["ours"]["rate"] / found["mlflow"]["rate"]
    return {
        "bench": "serving_vs_mlflow",
        "value": round(value, 1),
        "target": ">= 20",
        "ok": value >= 20,
        "detail": found,
    }


def serving_vs_fastapi() -> dict[str, Any]:
    """Single rows, 16 connections: the share of a bare FastAPI + onnxruntime's requests a second; p99 within twice."""
    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        ws = prepared(Path(folder))
        bundle, port = bundle_of(ws), free_port()
        row = dict(bundle.examples[0])
        url = f"http://127.0.0.1:{port}/predict"
        with (
            endpoint(ws) as (ours, _),
            process([sys.executable, "-c", FASTAPI, str(bundle.folder), str(port)], url, row),
        ):
            chance = post(ours, {"records": [row]})["predictions"][0]
            assert abs(post(url, row)["probability"] - chance["probability"]) < 1e-9, chance
            found = medians(beside({"ours": (ours, {"records": [row]}, ""), "fastapi": (url, row, "")}))
    value, tail = found["ours"]["rate"] / found["fastapi"]["rate"], found["ours"]["p99"] / found["fastapi"]["p99"]
    ok = value >= 0.6 and tail <= 2
    return {
        "bench": "serving_vs_fastapi",
        "value": round(value, 2),
        "target": ">= 0.6, p99 <= 2x",
        "ok": ok,
        "detail": {**found, "p99_ratio": round(tail, 2)},
    }


def serving_p50() -> dict[str, Any]:
    """Single rows over one connection: the median latency in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        ws = prepared(Path(folder))
        row = dict(bundle_of(ws).examples[0])
        with endpoint(ws) as (ours, _):
            found = medians(beside({"ours": (ours, {"records": [row]}, "")}, connections=1))["ours"]
    return {
        "bench": "serving_p50",
        "value": round(found["p50"], 3),
        "target": "<= 1 ms",
        "ok": found["p50"] <= 1,
        "detail": found,
    }


def deploy_first_answer() -> dict[str, Any]:
    """From `deploy` of a registered model to its first answer: preparing, comparing, starting workers, answering."""
    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        ws = prepared(Path(folder))
        with endpoint(ws) as (_, took):
            pass
    return {"bench": "deploy_first_answer", "value": round(took, 2), "target": "<= 5 s", "ok": took <= 5, "detail": {}}


VARIANT = """
import gc, json, sys
from pathlib import Path
import uvicorn
from aiplat.release.serving import plans
from aiplat.release.serving.application import application
from aiplat.release.serving.bundles import load
from aiplat.release.serving.door import Door
from aiplat.release.serving.journal import Journal
from aiplat.release.serving.lives import Live
from aiplat.release.serving.meters import Meters
told = json.loads(sys.argv[1])
home, scorer = Path(told["home"]), load(Path(told["bundle"]))
arm = plans.Arm(scorer.bundle.version, 10_000, Path(told["bundle"]).name, scorer.bundle.model_digest)
plan = plans.Plan(endpoint="credit", model="credit", generation=1, mode="single", arms=(arm,))
live = Live(plan, {arm.version: scorer})
journal = Journal(home / "log", endpoint="credit", worker=told["name"]) if told["record"] else None
meters = Meters(home / "figures", told["name"], endpoint="credit") if told["meters"] else None
door = Door(Path(told["tokens"]), required=True, endpoint="credit") if told["tokens"] else None
gc.set_threshold(20_000, 20, 50)
app = application(lambda: live, journal=journal, meters=meters, door=door)
quiet = {"log_level": "error", "access_log": False, "loop": "uvloop", "http": "httptools"}
uvicorn.run(app, host="127.0.0.1", port=told["port"], **quiet)
"""


def cost(bench: str, most: float, **with_it: bool) -> dict[str, Any]:
    """How much throughput one part costs: the same application with it and without it, in turn; the median of pairs.

    One worker answers as fast as it can, so its processor time per answer is what bounds the throughput. That is the
    figure: the rates themselves, in the detail, vary more with whoever else uses the machine.
    """
    import psutil

    with tempfile.TemporaryDirectory(prefix="aiplat-bench-") as folder:
        ws = prepared(Path(folder))
        bundle = bundle_of(ws)
        row = {"records": [dict(bundle.examples[0])]}
        token, tokens = "", ""
        if with_it.get("auth"):
            from aiplat.release.serving.tokens import add, file_of

            token, tokens = add("bench", home=folder).token, str(file_of(ws))
        servers: dict[str, tuple[str, dict[str, Any], str]] = {}
        workers: dict[str, psutil.Process] = {}
        with ExitStack() as stack:
            for name in ("without", "with"):
                on, port = name == "with", free_port()
                told = {
                    "home": folder, "bundle": str(bundle.folder), "name": name, "port": port,
                    "record": on and with_it.get("record", False),
                    "meters": on and with_it.get("meters", False), "tokens": tokens if on else "",
                }  # fmt: skip
                url, mine = f"http://127.0.0.1:{port}/predict", token if on else ""
                command = [sys.executable, "-c", VARIANT, json.dumps(told)]
                workers[name] = psutil.Process(stack.enter_context(process(command, url, row, mine)))
                servers[name] = (url, row, mine)
            runs = beside(servers, rounds=PAIRS, workers=workers)
    pairs = {
        key: sorted(
            1 - (two[key] / one[key] if key == "processor" else one[key] / two[key])
            for one, two in zip(runs["with"], runs["without"], strict=True)
        )
        for key in ("processor", "rate")
    }
    value = statistics.median(pairs["processor"])
    detail = {**medians(runs), "pairs": {key: [round(each, 2) for each in found] for key, found in pairs.items()}}
    return {"bench": bench, "value": round(value, 3), "target": f"<= {most}", "ok": value <= most, "detail": detail}


def recording_cost() -> dict[str, Any]:
    """The share of throughput that recording every prediction costs."""
    return cost("recording_cost", 0.10, record=True)


def metrics_cost() -> dict[str, Any]:
    """The share of throughput that counting every request costs."""
    return cost("metrics_cost", 0.05, meters=True)


def auth_cost() -> dict[str, Any]:
    """The share of throughput that bearer tokens cost."""
    return cost("auth_cost", 0.05, auth=True)
