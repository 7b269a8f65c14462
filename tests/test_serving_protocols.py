"""The addresses of an endpoint over real connections: clients that exist, requests that are meant to hurt, and what is kept of both."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiplat.release.serving import inference, invocations, records
from aiplat.release.serving.accepting import Host
from aiplat.release.serving.answers import Answers, Bundle, Busy, Scorer
from aiplat.release.serving.application import application
from aiplat.release.serving.door import Door
from aiplat.release.serving.fields import Field, Invalid, Schema
from aiplat.release.serving.journal import Journal
from aiplat.release.serving.lives import Live, Options
from aiplat.release.serving.logs import Log, Relay
from aiplat.release.serving.meters import Meters
from aiplat.release.serving.plans import Arm, Plan
from aiplat.release.serving.problems import Wrong
from tests.conftest import ROOT

LIMIT = 1_000_000
SCHEMA = Schema(
    (
        Field("age", "number", example=41, low=18, high=90),
        Field("income", "number", example=2400.5),
        Field("job", "text", example="clerk", levels=("clerk", "nurse")),
        Field("owner", "boolean", example=True),
        Field("sex", "text", example="female", optional=True),
    )
)
ROW = {"age": 60, "income": 10.0, "job": "clerk", "owner": True}


def in_a_loop(work: Any) -> Any:
    """Run a coroutine in a thread of its own: Playwright, which browser tests in this process use, has a loop of its own in this one."""
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, work).result()


def bundle_of(version: int, **other: Any) -> Bundle:
    told = {"name": "income", "version": version, "model_digest": str(version) * 64, "data_digest": "0" * 64, "task": "binary", "target": "rich",
            "positive": "yes", "classes": ("no", "yes"), "schema": SCHEMA, "form": "onnx", **other}  # fmt: skip
    return Bundle(Path("bundle"), **told)


def model(version: int, run: Callable[[Any], Answers] | None = None) -> Scorer:
    """Version 3 says yes to those above 50, version 4 to those below: whoever answered shows in what was said."""

    def sure(columns: Any) -> Answers:
        share = np.clip(np.nan_to_num(columns["age"]) / 100, 0, 1)
        share = share if version == 3 else 1 - share
        return Answers(
            np.where(share > 0.5, "yes", "no").astype(object), np.stack([1 - share, share], axis=1), ("no", "yes")
        )

    return Scorer(bundle_of(version), run or sure)


def live_of(
    *shares: tuple[int, int],
    shadows: tuple[int, ...] = (),
    generation: int = 1,
    key: str = "",
    scorers: dict[int, Scorer] | None = None,
) -> Live:
    arms = tuple(Arm(version, weight, f"b{version}", str(version) * 64) for version, weight in shares)
    unseen = tuple(Arm(version, 10_000, f"b{version}", str(version) * 64) for version in shadows)
    plan = Plan(
        "income",
        "income",
        generation,
        "shadow" if shadows else "canary" if len(arms) > 1 else "single",
        arms,
        unseen,
        key=key,
    )
    return Live(plan, scorers or {version: model(version) for version in plan.versions})


# -- a server -------------------------------------------------------------------------------------------------------------------------------------


def serve(handle: int, folder: str) -> None:
    """What the server's process runs: one worker on a socket that it was given."""
    import uvicorn

    live = live_of((3, 10_000), shadows=(4,))
    app = application(
        lambda: live,
        journal=Journal(Path(folder) / "predictions", endpoint="income", worker="0", private=("income",), every=0.2),
        meters=Meters(Path(folder) / "metrics"),
        door=Door(None, endpoint="income"),
        options=Options(body_limit=LIMIT, timeout=1.0),
    )
    config = uvicorn.Config(app, fd=handle, loop="uvloop", http="httptools", log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=handle)])


@dataclass
class Server:
    """A worker in a process of its own."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, **how: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=30, **how)

    def get(self, path: str, **how: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **how)

    def raw(self, text: bytes, *, more: float = 0.0, seconds: float = 20.0) -> bytes:
        """Send bytes as they are, and return all that comes back until the server closes, or nothing comes for a moment."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(text)
            out = b""
            try:
                while part := connection.recv(65_536):
                    out += part
                    connection.settimeout(more or seconds)
            except (TimeoutError, ConnectionResetError):
                pass
            return out

    def well(self) -> None:
        """It still answers, the same process, and nothing of the earlier requests is still in it."""
        answer = self.post("/predict", json={"records": [ROW]})
        assert answer.status_code == 200 and answer.json()["predictions"] == [
            {"prediction": "yes", "probability": 0.6}
        ], answer.text
        assert self.process.poll() is None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("endpoint")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        code = f"from tests.test_serving_protocols import serve; serve({listening.fileno()}, {str(folder)!r})"
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL
        )
        made = Server(listening.getsockname()[1], folder, process)
    try:
        # the socket listens already: the first answer comes when the process is up, and an error when it ends before
        httpx.get(f"{made.url}/readyz", timeout=240)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
    assert process.returncode in (0, -signal.SIGTERM)


# -- clients that exist ---------------------------------------------------------------------------------------------------------------------------


def _triton_inputs(binary: bool, rows: int = 3) -> list[Any]:
    from tritonclient.http import InferInput

    values = {
        "age": (np.array([60, 20, np.nan][:rows], dtype=np.float32), "FP32"),
        "income": (np.arange(rows, dtype=np.int64), "INT64"),
        "job": (np.array(["clerk", "nurse", "Ärztin"][:rows], dtype=object), "BYTES"),
        "owner": (np.array([True, False, True][:rows]), "BOOL"),
    }
    inputs = []
    for name, (array, kind) in values.items():
        one = InferInput(name, list(array.shape), kind)
        plain = np.nan_to_num(array) if name == "age" and not binary else array  # JSON has no NaN
        one.set_data_from_numpy(plain, binary_data=binary)
        inputs.append(one)
    return inputs


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient(server: Server, binary: bool, packing: str | None) -> None:
    """As it comes, which is bytes both ways, and with JSON; packed and not."""
    from tritonclient.http import InferenceServerClient, InferRequestedOutput

    client = InferenceServerClient(f"127.0.0.1:{server.port}")
    try:
        assert (
            client.is_server_live()
            and client.is_server_ready()
            and client.is_model_ready("income")
            and client.is_model_ready("income", "3")
        )
        assert not client.is_model_ready("outcome") and not client.is_model_ready(
            "income", "4"
        )  # a shadow answers nobody
        known = client.get_model_metadata("income")
        assert {one["name"]: one["datatype"] for one in known["inputs"]} == {
            "age": "FP64",
            "income": "FP64",
            "job": "BYTES",
            "owner": "BOOL",
            "sex": "BYTES",
        }
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        how = {"request_compression_algorithm": packing, "response_compression_algorithm": packing}
        if binary:
            result = client.infer("income", _triton_inputs(True), request_id="mine-1", **how)
        else:
            outputs = [
                InferRequestedOutput("prediction", binary_data=False),
                InferRequestedOutput("probability", binary_data=True),
            ]
            result = client.infer(
                "income", _triton_inputs(False), model_version="3", outputs=outputs, request_id="mine-1", **how
            )
        said = [text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("prediction")]
        assert said == ["yes", "no", "no"]
        assert np.allclose(result.as_numpy("probability"), [[0.4, 0.6], [0.8, 0.2], [1, 0]])
        told = result.get_response()
        assert (told["id"], told["model_name"], told["model_version"]) == ("mine-1", "income", "3")
    finally:
        client.close()


def test_tritonclient_reads_what_is_wrong(server: Server) -> None:
    from tritonclient.http import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(f"127.0.0.1:{server.port}")
    try:
        with pytest.raises(InferenceServerException) as failed:
            client.infer("income", _triton_inputs(True)[:-1])
        assert failed.value.status() == "400" and "field 'owner': it is missing" in failed.value.message()
        with pytest.raises(InferenceServerException, match="there is no such model"):
            client.infer("outcome", _triton_inputs(True))
    finally:
        client.close()


def test_tritonclient_with_a_long_answer(server: Server) -> None:
    """Sixty thousand rows of which each has a text: read beside the event loop, and packed on the way back."""
    from tritonclient.http import InferenceServerClient, InferInput

    rows = 20_000
    client = InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=60)
    try:
        inputs = []
        for name, array, kind in (("age", np.linspace(0, 100, rows, dtype=np.float32), "FP32"), ("income", np.zeros(rows), "FP64"),
                                  ("job", np.array(["nurse"] * rows, dtype=object), "BYTES"), ("owner", np.zeros(rows, dtype=bool), "BOOL")):  # fmt: skip
            one = InferInput(name, [rows, 1], kind)
            one.set_data_from_numpy(array.reshape(rows, 1))
            inputs.append(one)
        result = client.infer("income", inputs, response_compression_algorithm="gzip")
        said = result.as_numpy("probability")[:, 1]
        assert said.shape == (rows,) and np.allclose(said, np.linspace(0, 1, rows), atol=1e-6)
    finally:
        client.close()


def test_mlflow_scoring_client(server: Server) -> None:
    """A DataFrame with a gap, which MLflow's client writes as NaN; columns by name; its pings."""
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=30)
    client.ping()
    assert client.get_version().count(".") == 2
    frame = pd.DataFrame(
        {**{name: [value, value] for name, value in ROW.items()}, "age": [60, np.nan], "unasked": [1, 2]}
    )
    answer = client.invoke(frame, params={"unknown": 1})
    assert answer["predictions"] == ["yes", "no"] and answer.get_predictions().shape == (2, 1)
    assert client.invoke([ROW])["predictions"] == ["yes"]
    with pytest.raises(Exception, match="field 'job': it is missing") as failed:
        client.invoke(frame.drop(columns="job"))
    assert "error code 400" in str(failed.value) and '"error_code":"BAD_REQUEST"' in str(failed.value)
    text = frame.to_csv(index=False)
    got = server.post("/invocations", content=text, headers={"content-type": "text/csv"})
    assert got.json() == {"predictions": ["yes", "no"]}


def test_prometheus_reads_the_figures(server: Server) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    def figure(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(server.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    before = {role: figure("aiplat_requests_total", role=role, status="200") for role in ("champion", "shadow")}
    unknown = figure("aiplat_unknown_levels_total", column="job")
    server.post("/predict", json={"records": [{**ROW, "job": "astronaut"}, ROW]}).raise_for_status()
    assert figure("aiplat_requests_total", role="champion", status="200", route="/predict") >= 1
    assert figure("aiplat_requests_total", role="champion", status="200") == before["champion"] + 1
    assert figure("aiplat_unknown_levels_total", column="job") == unknown + 1
    end = time.monotonic() + 30
    while figure("aiplat_requests_total", role="shadow", status="200") < before["shadow"] + 1:
        assert time.monotonic() < end, "the shadow was never asked"
    assert figure("aiplat_in_flight") == 1  # the one who asks


@pytest.mark.slow
def test_schemathesis(server: Server, tmp_path: Path) -> None:
    """Requests by the description, and some against it: what fits is answered, what does not is refused with a status that is described."""
    deep = os.environ.get("AIPLAT_CAMPAIGN")

    def fuzz(*options: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--url", server.url, "--max-examples", "300" if deep else "12",
             "--seed", "7", "--mode", "all", "--no-color", "--request-timeout", "60", "--suppress-health-check", "all", *options],
            cwd=tmp_path, capture_output=True, text=True, timeout=3000 if deep else 250,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

    # that the data of a tensor or of a split table agree with their shape, their types and each other is more than JSON schema can say
    some = ("positive_data_acceptance", "negative_data_rejection")
    fuzz("--include-path", "/predict", "--phases", "examples,coverage,fuzzing")
    fuzz("--exclude-path", "/predict", "--exclude-checks", ",".join(some), "--phases", "examples,coverage,fuzzing")
    server.well()


# -- requests that are meant to hurt --------------------------------------------------------------------------------------------------------------


def _json(**changed: Any) -> bytes:
    return json.dumps({"records": [{**ROW, **changed}]}).encode()


NUL = bytes(200_000_000 if os.environ.get("AIPLAT_CAMPAIGN") else 30_000_000)
BOMB, ZBOMB = gzip.compress(NUL, 9), zlib.compress(NUL, 9)
HOSTILE: dict[str, tuple[int, str, bytes, dict[str, str], str]] = {
    "nothing": (400, "/predict", b"", {}, "there is no body"),
    "half": (400, "/predict", b'{"records": [{', {}, "the body is no JSON"),
    "no object": (422, "/predict", b"[]", {}, "an object is wanted, not a list"),
    "no rows": (422, "/predict", b'{"records": []}', {}, "there are no rows"),
    "a text for a number": (422, "/predict", _json(age="60"), {}, "field 'age' of row 0: a number is wanted"),
    "true for a number": (422, "/predict", _json(age=True), {}, "not true"),
    "1 for true": (422, "/predict", _json(owner=1), {}, "field 'owner' of row 0: true or false is wanted"),
    "a number for a text": (422, "/predict", _json(job=3), {}, "field 'job' of row 0: text is wanted"),
    "a list for a text": (422, "/predict", _json(job=["clerk"]), {}, "not a list"),
    "NaN": (422, "/predict", _json(age=float("nan")), {}, "field 'age' of row 0: NaN is no JSON"),
    "infinity": (422, "/predict", _json(age=float("-inf")), {}, "-Infinity is no JSON"),
    "a number beyond all": (422, "/predict", _json().replace(b"60", b"1e999"), {}, "1e999 is no JSON"),
    "a number of many digits": (422, "/predict", _json().replace(b"60", b"9" * 5000), {}, "is no JSON"),
    "an infinity to MLflow": (400, "/invocations", b'{"inputs": [{"age": Infinity}]}', {}, "income"),
    "a surrogate": (400, "/predict", _json().replace(b"clerk", b"\\ud800"), {}, "the body is no JSON"),
    "a surrogate beside NaN": (400, "/predict", _json(age=float("nan")).replace(b"clerk", b"\\udc00"), {}, "half of a character"),
    "a surrogate for MLflow": (400, "/invocations", b'{"instances": [{"age": NaN, "\\uD800": 1}]}', {}, "half of a character"),
    "a surrogate in a tensor": (400, "/v2/models/income/infer", b'{"inputs": [{"name": "\\ud800", "datatype": "X", "shape": [1], "data": [NaN]}]}', {}, "half of a character"),
    "bytes of a surrogate": (400, "/predict", _json(age=float("nan")).replace(b"clerk", b"\xed\xa0\x80"), {}, "the body is no JSON"),
    "no UTF-8": (400, "/predict", _json().replace(b"clerk", b"\xff\xfe"), {}, "the body is no JSON"),
    "no UTF-8 in a table": (400, "/invocations", b"age\n\xff", {"content-type": "text/csv"}, "not UTF-8"),
    "UTF-16": (400, "/predict", _json().decode().encode("utf-16"), {}, "the body is no JSON"),
    "a depth of many": (400, "/predict", b'{"records":' + b"[" * 400_000, {}, "nested too deeply"),
    "a depth of many, closed": (400, "/predict", b"[" * 100_000 + b"NaN" + b"]" * 100_000, {}, "nested too deeply"),
    "a depth of many in a field": (400, "/predict", _json().replace(b"60", b'{"a":' * 5_000 + b"1" + b"}" * 5_000), {}, "nested too deeply"),
    "a depth of some in a field": (422, "/predict", _json(age=[[[[[[1]]]]]]), {}, "field 'age' of row 0: a number is wanted, not a list"),
    "rows without end": (422, "/predict", b'{"records": [' + b"1," * 300_000 + b"1]}", {}, "too many for one request"),
    "too long": (413, "/predict", b" " * (LIMIT + 1), {}, "longer than 1,000,000 bytes"),
    "a bomb": (413, "/predict", BOMB, {"content-encoding": "gzip"}, "the unpacked body is longer"),
    "a bomb of zlib": (413, "/invocations", ZBOMB, {"content-encoding": "deflate"}, "the unpacked body is longer"),
    "a bomb in a bomb": (400, "/predict", gzip.compress(gzip.compress(NUL, 9)), {"content-encoding": "gzip"}, "the body is no JSON"),
    "two packings": (415, "/predict", gzip.compress(gzip.compress(b"{}")), {"content-encoding": "gzip, gzip"}, "cannot be read"),
    "a packing that there is not": (415, "/predict", b"{}", {"content-encoding": "br"}, "cannot be read"),
    "a packing that it is not": (400, "/predict", b"{}", {"content-encoding": "gzip"}, "the body is not gzip"),
    "half a packing": (400, "/predict", gzip.compress(_json())[:-10], {"content-encoding": "gzip"}, "ends too soon"),
    "something behind a packing": (400, "/predict", gzip.compress(_json()) + b"{}", {"content-encoding": "gzip"}, "followed by something else"),
    "a name that breaks lines": (400, "/predict", _json(), {"x-request-id": "a\tb"}, "no name for a request"),
    "a name without end": (400, "/predict", _json(), {"x-request-id": "a" * 129}, "no name for a request"),
    "a name in a tensor": (400, "/v2/models/income/infer", b'{"id": "a b", "inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "data": [1]}]}', {}, "id is no name"),
    "a length that is none": (400, "/v2/models/income/infer", b"{}", {"inference-header-content-length": "-1"}, "Inference-Header-Content-Length"),
    "a length beyond": (400, "/v2/models/income/infer", b"{}", {"inference-header-content-length": "3"}, "Inference-Header-Content-Length"),
    "a tensor of many sizes": (400, "/v2/models/income/infer", b'{"inputs": [{"name": "age", "datatype": "FP64", "shape": [9223372036854775807, 1], "data": []}]}', {}, "too many"),
    "a tensor of minus one": (400, "/v2/models/income/infer", b'{"inputs": [{"name": "age", "datatype": "FP64", "shape": [-1], "data": []}]}', {}, "a shape of [n]"),
    "shared memory": (400, "/v2/models/income/infer", b'{"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "parameters": {"shared_memory_region": "x"}}]}', {}, "memory is not shared"),
    "another form": (415, "/invocations", b"<x/>", {"content-type": "application/xml"}, "cannot be read"),
    "another alphabet": (415, "/invocations", b"{}", {"content-type": "application/json; charset=utf-16"}, "cannot be read"),
    "two forms": (400, "/invocations", b'{"inputs": [], "instances": []}', {}, "exactly one of"),
    "values without names": (400, "/invocations", b'{"instances": [[60, 10.0, "clerk", true]]}', {}, "not matched by their position"),
    "a pickle": (400, "/predict", b"\x80\x05\x95\x0b\x00\x00\x00", {}, "the body is no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_are_refused_by_name(server: Server, name: str) -> None:
    status, path, body, headers, said = HOSTILE[name]
    got = server.post(path, content=body, headers={"content-type": "application/json", **headers})
    told = got.json()
    assert got.status_code == status and told["status"] == status and said in told["detail"], told
    assert (
        got.headers["content-type"] == "application/problem+json" and got.headers["x-request-id"] == told["request_id"]
    )
    assert len(got.content) < 2_000 and "Traceback" not in got.text
    if path.startswith("/v2"):
        assert told["error"] == told["detail"]
    server.well()


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/v2/models/../../../etc/passwd", "/v2/models/..%2f..%2fetc%2fpasswd/infer", "//predict", "/predict/", "/predict%00", "/%2e%2e/predict",
     "/v2/models/income/versions/4/infer", "/v2/models/income/versions/03/infer", "/v2/models/%69ncome%2Finfer%2F..", "/v2/models/income;x=1/infer", "/" + "a" * 8_000, "/metrics/../openapi.json/x",
     "/docs/../../settings.ini", "/%c0%ae%c0%ae/", "/v2/models/income\\infer"],
)  # fmt: skip
def test_tricks_with_paths_lead_nowhere(server: Server, path: str) -> None:
    """Sent as they stand: clients would mend some of them."""
    for method in ("GET", "POST"):
        text = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
        status = int(server.raw(text).split(b" ", 2)[1])
        assert status in (400, 404), (method, path, status)
    server.well()


def test_methods_that_there_are_not(server: Server) -> None:
    for method, path, allowed in (
        ("GET", "/predict", "POST"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("PUT", "/v2/models/income/infer", "POST"),
        ("TRACE", "/", "GET, HEAD"),
        ("OPTIONS", "/invocations", "POST"),
    ):
        got = httpx.request(method, server.url + path, timeout=30)
        assert got.status_code == 405 and got.headers["allow"] == allowed
    assert server.get("/predct").json()["detail"].endswith("did you mean /predict?")


def test_bodies_that_never_end(server: Server) -> None:
    """A byte now and then, nothing at all, and more than was said: within the time that a request has, and the connection is over."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ThreadPoolExecutor(3) as pool:
        silent = pool.submit(server.raw, head + b"Content-Length: 500\r\n\r\n" + b"{")
        chunked = pool.submit(server.raw, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n")
        server.well()  # meanwhile everybody else is answered
        for slow in (silent, chunked):
            answer = slow.result()
            assert (
                answer.startswith(b"HTTP/1.1 408 ")
                and b"connection: close" in answer
                and b"did not arrive within 1 seconds" in answer
            )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as dripping:
        dripping.sendall(head + b"Content-Length: 500\r\n\r\n")
        dripping.settimeout(0.1)
        answer = b""
        for _ in range(300):
            try:
                dripping.sendall(b" ")
                answer += dripping.recv(65_536)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
    server.well()


def test_a_body_that_goes_on_beyond_the_limit_is_told_so(server: Server) -> None:
    """In pieces without a length, and with a length that is believed at once; the client reads why although it was still sending."""

    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            yield b" " * 50_000

    got = server.post("/predict", content=pieces(), headers={"content-type": "application/json"})
    assert got.status_code == 413 and "longer than 1,000,000 bytes" in got.json()["detail"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/predict", b" " * 5_000_000, {"content-type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()
    waits = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    answer = server.raw(waits)
    assert answer.startswith(b"HTTP/1.1 413 ")  # and no 100 before it: nothing needs to be sent
    server.well()


def test_what_is_no_http(server: Server) -> None:
    for text in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST /predict HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                 b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):  # fmt: skip
        answer = server.raw(text, more=0.2, seconds=5)
        assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 505")), answer[:200]
    server.well()


def test_clients_that_go_away(server: Server) -> None:
    """Before, in the middle of, and right after their request: nothing of them stays in flight, and nobody else notices."""
    body = _json()
    for cut in (0, 20, len(body) // 2, len(body)):
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:cut]
            )
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    server.well()
    end = time.monotonic() + 30
    while "aiplat_in_flight 1.0" not in server.get("/metrics").text:
        assert time.monotonic() < end, server.get("/metrics").text


def test_a_web_socket_is_no_way_in(server: Server) -> None:
    answer = server.raw(
        b"GET /predict HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        more=1,
    )
    assert answer.split(b" ", 2)[1] in (b"403", b"405")
    server.well()


# -- what is kept ---------------------------------------------------------------------------------------------------------------------------------


def test_every_answer_is_recorded_once_with_its_shadow(server: Server) -> None:
    """By the name that the client gave: version and answer as sent, the shadow's beside it, and no private column."""
    import duckdb

    from aiplat.release.serving import segments

    names = {f"kept-{number}" for number in range(50)}
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda name: server.post(
                    "/predict", json={"records": [ROW, {**ROW, "age": None}]}, headers={"x-request-id": name}
                ).raise_for_status(),
                names,
            )
        )
    assert server.post("/predict", json={"records": [{}]}, headers={"x-request-id": "kept-not"}).status_code == 422
    found, columns = list[Any](), set[str]()
    end = time.monotonic() + 60
    while len(found) < 4 * len(names):
        assert time.monotonic() < end, f"{len(found)} records"
        days = {file.parent for file in (server.folder / "predictions").rglob("*.parquet")}
        files = [str(file) for day in days for file in segments.live(day)]  # while files are packed, rows stand in two
        with contextlib.suppress(duckdb.IOException):  # between listing and reading, files were packed into one
            if files:
                kept = duckdb.sql(
                    "SELECT * FROM read_parquet($files, union_by_name=true) WHERE request_id LIKE 'kept-%'",
                    params={"files": files},
                )
                columns, kept = set(kept.columns), kept.project("request_id, row, version, role, prediction, in_age")
                found = kept.fetchall()
    assert sorted(found) == sorted(
        record
        for name in names
        for record in (
            (name, 0, 3, "champion", "yes", 60.0),
            (name, 1, 3, "champion", "no", None),
            (name, 0, 4, "shadow", "no", 60.0),
            (name, 1, 4, "shadow", "yes", None),
        )
    )
    assert "in_job" in columns and "in_income" not in columns


# -- a connection, by itself ----------------------------------------------------------------------------------------------------------------------


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Refuse without reading, as the door does."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


@pytest.fixture
def host() -> Iterator[tuple[str, int]]:
    """Where a server answers that has no more than 0.5 s for headers, and 1.5 s for a client that is silent."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        listening.setblocking(False)
        made = Host(refusing, listening, patience=0.5, quiet=0.0)
        made.config.timeout_keep_alive = 1.5  # type: ignore[assignment]
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            made.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


ASKED = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"


def asked(where: tuple[str, int], *more: bytes, first: bytes = ASKED) -> socket.socket:
    """A connection on which something was asked and answered, and then more was sent, piece by piece."""
    client = socket.create_connection(where, timeout=20)
    for piece in (first, *more):
        client.sendall(piece)
        if piece.endswith(b"\r\n\r\n"):
            answer = b""
            while not answer.endswith(b"no"):
                answer += client.recv(1000)
    return client


@pytest.mark.parametrize(
    "more",
    [(), (b"x",), (b"12345",), (b"12345", b"\r\n"), (b"12345GET / HTTP/1.1\r\nhost",), (b"12345", b"GET / HT"), (b"12345\r\n", b"G")],
)  # fmt: skip
def test_nobody_keeps_a_connection_by_beginning_something(host: tuple[str, int], more: tuple[bytes, ...]) -> None:
    """After an answer: nothing, a part of the body that nobody reads, all of it, an empty line, a part of the next request."""
    with asked(host, *more) as client:
        said = b""
        while part := client.recv(1000):
            said += part
        assert b" 408 " in said.splitlines()[0] if b"G" in b"".join(more) else said == b""


def test_bytes_now_and_then_do_not_keep_a_connection(host: tuple[str, int]) -> None:
    """Each byte used to stop the clock of uvicorn; a body that nobody reads, or empty lines, may go on for ever."""
    endless = ASKED.replace(b"length: 5", b"length: 99999")
    for begun, more in ((ASKED, b"x"), (ASKED, b"12345"), (endless, b"x")):
        with asked(host, more, first=begun) as client, contextlib.suppress(ConnectionError):
            client.settimeout(0.05)
            for _ in range(400):
                client.sendall(b"x" if begun is endless else b"\r\n" if len(more) == 5 else b"")
                with contextlib.suppress(TimeoutError):
                    assert client.recv(1000) == b""
                    break
            else:
                pytest.fail("it is still open")


def test_a_body_that_comes_after_its_answer_does_not_end_the_connection(host: tuple[str, int]) -> None:
    """Many clients send headers and body one after the other; the answer, here a refusal, may come between both."""
    with asked(host, b"12345", ASKED, b"12345", ASKED) as client:
        assert client.recv(1000) == b""  # at last nothing more came


@pytest.mark.parametrize("line", [b"GET http://[ HTTP/1.1", b"\0", b"GET /\xff HTTP/1.1"])
def test_what_is_no_request_ends_the_connection(
    host: tuple[str, int], line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(host, timeout=20) as client:
        client.sendall(line + b"\r\nhost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400") and client.recv(1000) == b""
    assert not any(record.exc_info for record in caplog.records), caplog.text


# -- without a connection -------------------------------------------------------------------------------------------------------------------------


def client_of(app: Any, **how: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://endpoint", **how)


def test_plans_change_under_load_and_no_answer_is_mixed() -> None:
    """What was said fits the version in the header, and the version was in the plan that was in force."""
    current = [live_of((3, 10_000))]
    app = application(lambda: current[0])

    async def load() -> set[str]:
        seen: set[str] = set()
        async with client_of(app) as client:

            async def ask() -> None:
                for _ in range(60):
                    allowed = {str(arm.version) for arm in current[0].plan.arms}
                    got = await client.post("/predict", json={"records": [ROW] * 3})
                    allowed |= {str(arm.version) for arm in current[0].plan.arms}
                    version = got.headers["x-model-version"]
                    right = "yes" if version == "3" else "no"
                    assert [one["prediction"] for one in got.json()["predictions"]] == [right] * 3 and got.json()[
                        "version"
                    ] == int(version)
                    assert version in allowed and got.headers["x-model-digest"] == version * 64
                    seen.add(version)
                    await asyncio.sleep(0)

            async def change() -> None:
                for number in range(60):
                    current[0] = live_of((3 + number % 2, 10_000), generation=number + 2)
                    await asyncio.sleep(0.002)

            await asyncio.gather(change(), *(ask() for _ in range(8)))
        return seen

    assert in_a_loop(load()) == {"3", "4"}


@pytest.mark.parametrize("key", ["customer", "header:X-Customer"])
def test_a_client_stays_with_its_version(key: str) -> None:
    """By a field, which may be none of the model's, in every protocol alike; or by a header."""
    live = live_of((3, 5_000), (4, 5_000), key=key)
    app = application(lambda: live)

    async def ask() -> None:
        seen = set()
        async with client_of(app) as client:
            for customer in range(40):
                row = {**ROW, "customer": customer}
                tensors = [
                    {
                        "name": name,
                        "datatype": {"job": "BYTES", "owner": "BOOL"}.get(name, "FP64"),
                        "shape": [1],
                        "data": [value],
                    }
                    for name, value in row.items()
                ]
                ways = {
                    "/predict": {"records": [row]},
                    "/invocations": {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
                    "/v2/models/income/infer": {"inputs": tensors},
                }
                versions = {
                    (await client.post(path, json=body, headers={"x-customer": str(customer)})).headers[
                        "x-model-version"
                    ]
                    for path, body in ways.items()
                    for _ in range(2)
                }
                assert versions == {str(live.plan.choose(str(customer), 0.5).version)}
                seen |= versions
        assert seen == {"3", "4"}

    in_a_loop(ask())


def test_a_canary_can_be_asked_by_its_number_and_a_shadow_cannot() -> None:
    live = live_of((3, 10_000), shadows=(4,))
    both = live_of((3, 9_999), (4, 1))
    tensors = {
        "inputs": [
            {
                "name": name,
                "datatype": {"job": "BYTES", "owner": "BOOL"}.get(name, "FP64"),
                "shape": [1],
                "data": [value],
            }
            for name, value in ROW.items()
        ]
    }

    async def ask() -> None:
        async with client_of(application(lambda: both)) as client:
            got = await client.post("/v2/models/income/versions/4/infer", json=tensors)
            assert (
                got.status_code == 200
                and got.json()["model_version"] == "4"
                and got.json()["outputs"][0]["data"] == ["no"]
            )
            assert (await client.get("/v2/models/income")).json()["versions"] == ["3", "4"]
        async with client_of(application(lambda: live)) as client:
            assert (await client.post("/v2/models/income/versions/4/infer", json=tensors)).status_code == 404
            assert (await client.get("/v2/models/income")).json()["versions"] == ["3"]

    in_a_loop(ask())


def test_what_fails_behind_an_answer_does_not_fail_the_answer() -> None:
    """A journal that raises, a shadow that raises, a shadow that wants another field: the answer is out, and the count says so."""

    class Broken:
        dropped = 0

        def add(self, *_: Any) -> bool:
            self.dropped += 1
            raise OSError("the disk is full")

    def explode(columns: Any) -> Answers:
        raise RuntimeError("60")

    other = Scorer(
        bundle_of(5, schema=Schema((Field("height", "number"),))), lambda columns: Answers(columns["height"])
    )
    live = live_of((3, 10_000), shadows=(4, 5), scorers={3: model(3), 4: model(4, explode), 5: other})
    meters = Meters()
    app = application(lambda: live, journal=Broken(), meters=meters)

    async def ask() -> None:
        async with client_of(app) as client:
            for _ in range(5):
                assert (await client.post("/predict", json={"records": [ROW]})).status_code == 200
        await app.answering.shadows.close()

    in_a_loop(ask())
    figures = meters.text().decode()
    for line in (
        'aiplat_dropped_total{what="record"} 5.0',
        'role="shadow",route="/predict",status="500",version="4"} 5.0',
        'role="shadow",route="/predict",status="400",version="5"} 5.0',
    ):
        assert line in figures, figures


def test_shadows_that_wait_at_the_end_of_a_worker_answer_or_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker ends when nothing is asked any more; what shadows have not answered by then they answer still, for a moment."""
    from aiplat.release.serving.processes import Order
    from aiplat.release.serving.worker import Worker

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda *_: None)  # not in the main thread
    blocked = threading.Event()

    def hang(columns: Any) -> Answers:
        blocked.wait(30)
        return Answers(columns["age"])

    for run in (model(4).run, hang):
        blocked.clear()
        live = live_of((3, 10_000), shadows=(4,), scorers={3: model(3), 4: model(4, run)})
        monkeypatch.setattr(Worker, "live", lambda self, live=live: live)
        folder = tmp_path / run.__name__
        folder.mkdir()
        worker = Worker(Order("income", str(folder), str(folder)), "0", None, None)
        app = worker.application()

        class Ended:
            """A host of which the last client has gone."""

            should_exit = False

            async def serve(self, app: Any = app) -> None:
                async with client_of(app, headers={"host": "localhost"}) as client:
                    for _ in range(20):
                        assert (await client.post("/predict", json={"records": [ROW]})).status_code == 200
                self.should_exit = True

        worker.host = Ended()  # type: ignore[assignment]
        monkeypatch.setattr(worker.follower, "ready", lambda: None)
        with monkeypatch.context() as still:
            still.setattr(worker.meters, "close", lambda: None)
            in_a_loop(worker_end(worker, blocked))
        figures = worker.meters.text().decode()
        worker.meters.close()
        if run is hang:
            assert 'aiplat_dropped_total{what="shadow"} 20.0' in figures, figures
        else:
            assert 'role="shadow",route="/predict",status="200",version="4"} 20.0' in figures, figures


async def worker_end(worker: Any, blocked: threading.Event) -> None:
    await worker._serve()
    blocked.set()
    await asyncio.to_thread(worker.close)


def test_a_replica_counts_the_shadows_that_it_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Serve ends a replica without giving its loop another turn."""
    from aiplat.release.serving.processes import Order
    from aiplat.release.serving.worker import Worker

    live = live_of((3, 10_000), shadows=(4,))
    monkeypatch.setattr(Worker, "live", lambda self: live)
    worker = Worker(Order("income", str(tmp_path), str(tmp_path)), "ray-1", None, None)
    app = worker.application()

    async def end() -> None:
        async with client_of(app, headers={"host": "localhost"}) as client:
            for _ in range(9):
                assert (await client.post("/predict", json={"records": [ROW]})).status_code == 200
        worker.close()

    with monkeypatch.context() as still:
        still.setattr(worker.meters, "close", lambda: None)
        in_a_loop(end())
    figures = worker.meters.text().decode()
    worker.meters.close()
    counted = [float(line.split()[-1]) for line in figures.splitlines() if line.startswith(("aiplat_requests_total{", "aiplat_dropped_total{")) and "shadow" in line]  # fmt: skip
    assert sum(counted) == 9, figures


def test_a_shadow_that_has_too_much_to_do_is_no_failure_of_it() -> None:
    def busy(columns: Any) -> Answers:
        raise Busy("enough")

    meters = Meters()
    live = live_of((3, 10_000), shadows=(4,), scorers={3: model(3), 4: model(4, busy)})
    app = application(lambda: live, meters=meters)

    async def ask() -> None:
        async with client_of(app) as client:
            assert (await client.post("/predict", json={"records": [ROW]})).status_code == 200
        await app.answering.shadows.close()

    in_a_loop(ask())
    figures = meters.text().decode()
    assert 'aiplat_dropped_total{what="shadow"} 1.0' in figures and 'role="shadow"' not in figures, figures


def test_the_log_says_more_under_the_id_that_the_client_was_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(columns: Any) -> Answers:
        raise RuntimeError("60")

    live = live_of((3, 10_000), scorers={3: model(3, explode)})
    file = tmp_path / "log"
    handle = os.open(file, os.O_WRONLY | os.O_CREAT)
    relay = Relay(Log("income/0", handle=handle))
    logger = logging.getLogger("aiplat.serving")
    logger.addHandler(relay)

    async def ask(headers: dict[str, str]) -> str:
        async with client_of(application(lambda: live)) as client:
            got = await client.post("/predict", json={"records": [ROW]}, headers=headers)
        assert got.status_code == 500 and "under this request's id" in got.json()["detail"]
        return got.headers["x-request-id"]

    try:
        named = [in_a_loop(ask(headers)) for headers in ({}, {"X-Request-Id": "mine"})]
    finally:
        logger.removeHandler(relay)
        os.close(handle)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["request_id"], line["error"]) for line in lines] == [(name, "RuntimeError") for name in named]
    assert named[1] == "mine" and all(name in caplog.text for name in named)


@pytest.mark.parametrize("records", [{"age": 60}, 5, "rows", None, True])
def test_records_that_are_no_list_are_refused_also_where_a_key_decides(records: Any) -> None:
    live = live_of((3, 5000), (4, 5000), key="age")

    async def ask() -> None:
        async with client_of(application(lambda: live)) as client:
            got = await client.post("/invocations", json={"dataframe_records": records})
            assert got.status_code == 400 and "a list of records" in got.json()["detail"], got.text

    in_a_loop(ask())


def test_a_name_that_stands_twice_is_found_without_comparing_all_with_all() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names: list[str] = [Name(f"c{number}") for number in range(3_000)]
    with pytest.raises(Invalid, match="stands twice") as told:
        invocations.by_name([*names, Name("c2000"), Name("c2999")], [])
    assert told.value.field == "c2000" and compared < 30_000


def test_when_the_model_has_too_much_to_do() -> None:
    def busy(columns: Any) -> Answers:
        raise Busy("enough")

    live = live_of((3, 10_000), scorers={3: model(3, busy)})

    async def ask() -> None:
        async with client_of(application(lambda: live)) as client:
            got = await client.post(
                "/v2/models/income/infer",
                json={
                    "inputs": [
                        {
                            "name": name,
                            "datatype": {"job": "BYTES", "owner": "BOOL"}.get(name, "FP64"),
                            "shape": [1],
                            "data": [value],
                        }
                        for name, value in ROW.items()
                    ]
                },
            )
            assert (
                got.status_code == 503 and got.headers["retry-after"] == "1" and "more rows wait" in got.json()["error"]
            )

    in_a_loop(ask())


def test_a_model_that_takes_too_long_is_not_waited_for() -> None:
    """Rows that are scored beside the event loop: the time of a request is also the model's, and others are answered meanwhile."""
    begun, over = threading.Event(), threading.Event()

    def slow(columns: Any) -> Answers:
        if len(columns["age"]) > 1:
            begun.set()
            over.wait(30)
        return Answers(columns["age"])

    live = live_of((3, 10_000), scorers={3: model(3, slow)})

    async def ask() -> None:
        async with client_of(application(lambda: live, options=Options(timeout=0.5))) as client:
            waiting = asyncio.create_task(client.post("/invocations", json={"instances": [ROW] * 500}))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            assert (await client.post("/v1/models/income:predict", json={"instances": [ROW]})).json() == {
                "predictions": [60.0]
            }
            got = await waiting
            assert (
                got.status_code == 503
                and "took longer than 0.5 seconds" in got.json()["message"]
                and got.headers["retry-after"] == "1"
            )
            over.set()

    in_a_loop(ask())


def test_who_may_come_in(tmp_path: Path) -> None:
    """Without a token health alone is told; a token for predictions reads no figures; what is refused was not read."""
    from aiplat.release.serving.door import digest_of

    tokens = {scope: f"aip_{number:08x}_{'x' * 42}{number}" for number, scope in enumerate(("infer", "metrics"))}
    told = [
        {"id": token[4:12], "name": scope, "hash": digest_of(token), "scopes": [scope]}
        for scope, token in tokens.items()
    ]
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": told}))
    live = live_of((3, 10_000))
    app = application(
        lambda: live, door=Door(tmp_path / "tokens.json", required=True, endpoint="income"), meters=Meters()
    )

    async def ask() -> None:
        async with client_of(app) as client:

            async def status(method: str, path: str, token: str = "", body: bytes = b"") -> int:
                headers = {"authorization": f"Bearer {token}"} if token else {}
                got = await client.request(method, path, content=body, headers=headers)
                assert got.status_code < 400 or got.json()["status"] == got.status_code
                return got.status_code

            for path in ("/healthz", "/readyz", "/ping", "/v2/health/ready", "/v2/models/income/ready", "/docs"):
                assert await status("GET", path) == 200
            body = json.dumps({"records": [ROW]}).encode()
            assert await status("POST", "/predict", body=body) == 401
            assert await status("POST", "/predict", tokens["infer"], body) == 200
            assert await status("POST", "/predict", tokens["metrics"], body) == 403
            assert await status("POST", "/predict", tokens["infer"][:-1] + "z", body) == 401
            assert await status("POST", "/predict", "not a token", b"{" * 10) == 401
            assert (
                await status("GET", "/metrics", tokens["infer"]) == 403
                and await status("GET", "/metrics", tokens["metrics"]) == 200
            )
            for path in ("/openapi.json", "/v2/models/income", "/v2/models/nobody", "/nowhere"):
                assert await status("GET", path) == 401 and await status("GET", path, tokens["infer"]) in (200, 404)
            described = (
                await client.get("/openapi.json", headers={"authorization": f"Bearer {tokens['infer']}"})
            ).json()
            assert described["security"] == [{"token": []}]

    in_a_loop(ask())


def test_behind_a_proxy_that_mounts_it_elsewhere() -> None:
    live = live_of((3, 10_000))

    async def ask() -> None:
        transport = httpx.ASGITransport(application(lambda: live), root_path="/models/income")
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            assert (await client.post("/models/income/predict", json={"records": [ROW]})).status_code == 200
            assert (await client.get("/models/incomes/predict")).status_code == 404

    in_a_loop(ask())


# -- anything at all ------------------------------------------------------------------------------------------------------------------------------

VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
NAMES = st.sampled_from([*SCHEMA.names, "other"])
ANYTHING = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.sampled_from(["records", "inputs", "instances", "name", "shape", "datatype", "data", "columns", "dataframe_split"]), inner, max_size=5), max_leaves=20)  # fmt: skip
FITTING = st.fixed_dictionaries({"age": st.none() | st.floats(allow_nan=False, allow_infinity=False), "income": st.none() | st.integers(-(2**53), 2**53), "job": st.none() | st.text(), "owner": st.none() | st.booleans()})  # fmt: skip


@given(st.lists(FITTING, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_same_rows_in_every_protocol_are_the_same_columns(rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    kinds = {"job": "BYTES", "owner": "BOOL"}
    tensors = {
        "inputs": [
            {"name": name, "datatype": kinds.get(name, "FP64"), "shape": [len(rows)], "data": values}
            for name, values in columns.items()
        ]
    }
    split = {"dataframe_split": {"columns": list(columns), "data": [[row[name] for name in columns] for row in rows]}}
    asked = [
        records.read(json.dumps({"records": rows}).encode(), {}),
        inference.read(json.dumps(tensors).encode(), {}),
        *(
            invocations.read(json.dumps(body).encode(), {})
            for body in (split, {"inputs": columns}, {"instances": rows})
        ),
    ]
    first, *others = [one.columns(SCHEMA) for one in asked]
    for name, dtype in (("age", np.float64), ("income", np.float64), ("job", object), ("owner", object)):
        assert first[name].dtype == dtype
        for other in others:
            assert np.array_equal(first[name], other[name], equal_nan=dtype == np.float64)
    assert [None if np.isnan(value) else value for value in first["age"]] == columns["age"] and first[
        "job"
    ].tolist() == columns["job"]


TENSOR = {"name": "age", "datatype": "FP64", "shape": [1], "data": [60], "parameters": {"x": 1}}
GOOD = [
    {"records": [ROW, ROW]},
    {"dataframe_split": {"columns": list(ROW), "index": [0], "data": [list(ROW.values())]}, "params": {}},
    {"inputs": {name: [value] for name, value in ROW.items()}},
    {"dataframe_records": [ROW]},
    {"instances": [ROW]},
    {
        "id": "r-1",
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}],
        "inputs": [TENSOR, {**TENSOR, "name": "job", "datatype": "BYTES", "parameters": {"binary_data_size": 9}}],
    },
]


@st.composite
def nearly(draw: Callable[..., Any]) -> bytes:
    """A good request in which one thing, anywhere, is something else."""

    def spoil(node: Any) -> Any:
        if not isinstance(node, dict | list) or not node or draw(st.integers(0, 4)) == 0:
            return draw(ANYTHING)
        if isinstance(node, dict):
            name = draw(st.sampled_from(sorted(node)))
            return {**node, name: spoil(node[name])}
        at = draw(st.integers(0, len(node) - 1))
        return [*node[:at], spoil(node[at]), *node[at + 1 :]]

    return json.dumps(spoil(draw(st.sampled_from(GOOD)))).encode() + draw(
        st.sampled_from([b"", b"\5\0\0\0clerk", b"\xff" * 9])
    )


@given(
    st.binary(max_size=200) | nearly(),
    st.sampled_from([None, b"0", b"5", b"40", b"200"]) | st.just(b"whole"),
    st.sampled_from([b"application/json", b"text/csv"]),
)
@settings(max_examples=600 if not os.environ.get("AIPLAT_CAMPAIGN") else 20_000, deadline=None)
def test_whatever_comes_is_read_or_refused(body: bytes, length: bytes | None, kind: bytes) -> None:
    """Whatever it is, it becomes columns of the right kind or a complaint, and never an error of ours."""
    if length == b"whole":
        length = str(body.rfind(b"}") + 1).encode()
    headers = {b"content-type": kind} | ({inference.LENGTH: length} if length is not None else {})
    for read in (records.read, invocations.read, inference.read):
        try:
            asked = read(body, headers)
            asked.key("age")
            columns = asked.columns(SCHEMA)
        except (Invalid, Wrong):
            continue
        assert set(SCHEMA.names) == set(columns) and len({len(values) for values in columns.values()}) == 1
        assert columns["age"].dtype == np.float64 and not np.isinf(columns["age"]).any()
        assert {type(value) for value in columns["job"]} <= {str, type(None)}
