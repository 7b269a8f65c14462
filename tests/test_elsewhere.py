"""Exported models where aiplat is not: a device with nothing but a public key, a container's folder, KServe's own classes, Ray Serve."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiplat.core.workspace import Workspace
from aiplat.release.exports import export
from tests.conftest import run_cli
from tests.servers import free_port


@dataclass
class Fleet:
    """A workspace with two versions of a model, and the channel of the first."""

    ws: Workspace
    out: Path

    def aiplat(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_cli(*words, cwd=self.ws.root, env={"AIPLAT_USER": "ana"}, check=False)

    def device(self, home: Path, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the exported script as a device would: another folder, nothing of this environment's settings."""
        return subprocess.run(self.command(home, *words), cwd="/", input=given, capture_output=True, text=True)

    def command(self, home: Path, *words: str) -> list[str]:
        return [
            sys.executable,
            "-I",
            str(self.out / "device.py"),
            "--home",
            str(home),
            "--key",
            str(self.out / "public.pem"),
            *words,
        ]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    from aiplat.core.workspace import create, workspace
    from aiplat.data.sample import credit
    from aiplat.release.versions import register
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.runs import log_run

    before = Path.cwd()
    folder = tmp_path_factory.mktemp("fleet") / "credit-risk"
    create(folder, user="ana", gates={})
    os.chdir(folder)
    try:
        ws, people = workspace(folder), credit(rows=500, seed=1)
        features = [name for name in people if name != "approved"]
        about: dict[str, Any] = {"task": "binary", "target": "approved", "positive": "1", "features": features}
        for trees in (5, 10):
            model = build("lightgbm", usable_columns(people[features]), {"n_estimators": trees}, task="binary")
            model.fit(people[features][:300], people["approved"][:300])
            register(log_run(ws, "train", model, train=people[:300], test=people[300:], **about).run.id, "credit")
        out = tmp_path_factory.mktemp("out") / "fleet"
        export("credit/1", to="edge", out=str(out), home=folder)
        yield Fleet(ws, out)
    finally:
        os.chdir(before)


def rows_of(fleet: Fleet) -> list[dict[str, Any]]:
    from aiplat.release.exporting.device import payload_of

    (release,) = sorted((fleet.out / "channel" / "releases").glob("credit-1-*"))
    manifest = json.loads(payload_of((release / "manifest.json").read_bytes()))
    return [one["row"] for one in manifest["examples"]]


def test_a_device_follows_its_channel_and_goes_back(fleet: Fleet, tmp_path: Path) -> None:
    home, channel = tmp_path / "device", str(fleet.out / "channel")
    first = fleet.device(home, "update", channel)
    assert first.returncode == 0 and "credit-1-" in first.stdout, first.stderr
    asked = json.dumps(rows_of(fleet))
    said = fleet.device(home, "predict", given=asked)
    assert said.returncode == 0, said.stderr
    ours = json.loads(said.stdout)
    assert {"prediction", "probabilities"} == set(ours[0]) and abs(sum(ours[0]["probabilities"].values()) - 1) < 1e-9

    done = fleet.aiplat("export", "credit/2", "--to", "edge", "--out", str(fleet.out))
    assert done.returncode == 0, done.stderr
    assert "credit-2-" in fleet.device(home, "update", channel).stdout
    assert json.loads(fleet.device(home, "predict", given=asked).stdout) != ours
    assert "credit-1-" in fleet.device(home, "rollback").stdout
    assert json.loads(fleet.device(home, "predict", given=asked).stdout) == ours

    model = home / "current" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    broken = fleet.device(home, "predict", given=asked)
    assert broken.returncode == 1 and "not the file that was signed" in broken.stderr


def test_a_device_killed_at_any_moment_has_a_release_that_works(fleet: Fleet, tmp_path: Path) -> None:
    home, channel = tmp_path / "device", fleet.out / "channel"
    from aiplat.release.exporting.edge import publish, signing_key

    key = signing_key(fleet.ws.path("keys", "edge.pem"))
    (one,) = sorted((channel / "releases").glob("credit-1-*"))
    graph, own = (one / "model.onnx").read_bytes(), tmp_path / "channel"
    about = {"name": "toy", "version": 0, "model_digest": "d" * 64, "classes": ["0", "1"]}

    def release(number: int) -> None:
        # bytes after the end of the graph's last field would be refused by a reader: the description tells them apart
        import onnx

        made = onnx.load_from_string(graph)
        made.doc_string = f"number {number}"
        files = {"model.onnx": made.SerializeToString(), "weights.bin": os.urandom(3_000_000)}
        publish(own, key, about={**about, "version": number}, files=files, rows=rows_of(fleet), days=1)

    release(0)
    assert fleet.device(home, "update", str(own)).returncode == 0
    chance, killed = random.Random(7), 0
    for number in range(1, 6):
        release(number)
        process = subprocess.Popen(
            fleet.command(home, "update", str(own)), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        seen = home / "releases"
        end = time.monotonic() + chance.random() * 0.05
        while process.poll() is None and not any(file.name.startswith(".") for file in seen.iterdir()):
            time.sleep(0.001)  # until the download has begun
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        said = fleet.device(home, "predict", given=json.dumps(rows_of(fleet)))
        assert said.returncode == 0, said.stderr
        assert fleet.device(home, "update", str(own)).returncode == 0
        status = json.loads(fleet.device(home, "status").stdout)
        assert status["release"].startswith(f"toy-{number}-") and status["sequence"] == number + 1
    assert killed, "no update was cut off"


def test_what_is_told_works_as_it_stands(fleet: Fleet, tmp_path: Path) -> None:
    """The line after an export, and the README's, in folders with a space in their names; what a device cannot use is named."""
    import shlex

    out = tmp_path / "our fleet"
    done = fleet.aiplat("--json", "export", "credit/1", "--to", "edge", "--out", str(out))
    assert done.returncode == 0, done.stderr
    line = (
        json.loads(done.stdout)["lines"].partition("#")[0].replace("DEVICE", shlex.quote(str(tmp_path / "one device")))
    )
    python, *words = shlex.split(line)
    assert python == "python"
    first = subprocess.run([sys.executable, *words], cwd="/", capture_output=True, text=True)
    assert first.returncode == 0 and "credit-1-" in first.stdout, first.stderr
    (release,) = (out / "channel" / "releases").iterdir()
    before = (release / "manifest.json").read_bytes()
    renewed = fleet.aiplat("export", "credit/1", "--to", "edge", "--out", str(out))
    assert renewed.returncode == 0, renewed.stderr
    assert list((out / "channel" / "releases").iterdir()) == [release], "the same release has one folder"
    assert (release / "manifest.json").read_bytes() == before
    told = (out / "README.md").read_text()
    (ask,) = [one.strip() for one in told.splitlines() if one.strip().startswith("printf")]
    asked = shlex.split(ask.partition(" | ")[0])[2]
    home, said = tmp_path / "one device", []
    for given in (asked, asked[1:-1], asked.replace('"age": ', '"age": "abc" , "was": ', 1), "[{}]"):
        said.append(subprocess.run([sys.executable, str(out / "device.py"), "--home", str(home), "--key", str(out / "public.pem"), "predict"],
                                   input=given, capture_output=True, text=True))  # fmt: skip
    assert [one.returncode for one in said] == [0, 1, 1, 1], [one.stderr for one in said]
    assert "a list of objects" in said[1].stderr and "row 0 has 'abc' as 'age'" in said[2].stderr
    packages = {line.partition("==")[0] for line in (out / "requirements.txt").read_text().split()}
    assert packages == {"onnxruntime", "numpy", "cryptography"}
    bare = subprocess.run([sys.executable, "-I", "-S", *fleet.command(tmp_path / "bare", "update", str(out / "channel"))[2:]], capture_output=True, text=True)  # fmt: skip
    assert bare.returncode == 1 and "pip install -r requirements.txt" in bare.stderr and "Traceback" not in bare.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "edge", "--days", "nan"), "--days nan is no time"),
        (("--to", "edge", "--days", "1e9"), "--days 1e+09 is no time"),
        (("--to", "edge", "--key", "typo.pem"), "there is no key typo.pem"),
        (("--to", "docker", "--image", "My Image:1"), "is no name of an image"),
        (("--to", "docker", "--days", "3"), "--days does not go with --to docker"),
        (("--to", "onnx", "--image", "r.example/credit:1"), "--image does not go with --to onnx"),
    ],
)
def test_what_cannot_be_exported_is_said_in_two_lines(
    fleet: Fleet, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    out = tmp_path / ("m.onnx" if "onnx" in words else "out")
    done = fleet.aiplat("export", "credit/1", *words, "--out", str(out))
    assert done.returncode in (1, 2) and said in done.stderr and len(done.stderr.splitlines()) == 2, done.stderr
    assert not out.exists() and not (fleet.ws.root / "typo.pem").exists()


def test_an_export_without_a_version_in_production_says_what_to_name(fleet: Fleet, tmp_path: Path) -> None:
    done = fleet.aiplat("export", "credit", "--to", "onnx", "--out", str(tmp_path / "m.onnx"))
    assert done.returncode == 1 and "'production'" in done.stderr and "deploy" not in done.stderr, done.stderr


def test_a_container_says_when_it_may_not_read_the_tokens(fleet: Fleet, tmp_path: Path) -> None:
    done = fleet.aiplat("export", "credit/2", "--to", "docker", "--out", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    told, recipe = (tmp_path / "d" / "README.md").read_text(), (tmp_path / "d" / "Dockerfile").read_text()
    assert "install -m 444 .aiplat/endpoints/tokens.json" in told and "docker run" in told
    assert "COPY --chmod=0755 lib" in recipe and "COPY --chmod=0755 endpoint" in recipe
    tokens = tmp_path / "tokens.json"
    tokens.write_text("{}")
    start = str(tmp_path / "d" / "start.py")
    code = f"import os, runpy; os.access = lambda *_: False; runpy.run_path({start!r}, run_name='__main__')"
    environment = {"PATH": "/usr/bin:/bin", "AIPLAT_TOKENS": str(tokens)}
    started = subprocess.run([sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True)
    assert started.returncode == 1 and f"may not read {tokens}" in started.stderr, started.stderr


def test_a_containers_folder_answers_with_what_it_brings(fleet: Fleet, tmp_path: Path) -> None:
    done = fleet.aiplat(
        "--json", "export", "credit/2", "--to", "kserve", "--out", str(tmp_path / "k"), "--image", "r.example/credit:2"
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "k" / "image"
    packages = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in packages) and not any(
        line.startswith(("pandas=", "ray=", "mlflow=")) for line in packages
    )
    manifest = yaml.safe_load((tmp_path / "k" / "manifest.yaml").read_text())
    (pod,) = manifest["spec"]["predictor"]["containers"]
    assert pod["image"] == "r.example/credit:2" and pod["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"] and "securityContext" not in manifest["spec"]["predictor"], "Knative"
    made = fleet.aiplat("--json", "token", "add", "shop")
    assert made.returncode == 0, made.stderr
    tokens = fleet.ws.path("endpoints", "tokens.json")

    venv, python = tmp_path / "venv", tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "-r",
        str(folder / "requirements.txt"),
    ]
    subprocess.run(install, check=True)
    state = tmp_path / "state"
    environment = {
        "PATH": "/usr/bin:/bin",
        "AIPLAT_ADDRESS": "127.0.0.1",
        "AIPLAT_WORKERS": "1",
        "AIPLAT_TOKENS": str(tokens),
        "PORT": "18750",
    }
    environment |= {"AIPLAT_STATE": str(state), "AIPLAT_RECORDS": str(tmp_path / "records")}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(python), "-I", str(folder / "start.py")], env=environment, cwd="/", stdout=log, stderr=log
        )
        try:
            url, said = "", (401, b"")
            while not url or said[0] != 200:
                assert server.poll() is None, (tmp_path / "log").read_text()
                file = state / "endpoint" / "server.json"
                url = json.loads(file.read_text())["url"] if file.exists() else ""
                said = _get(f"{url}/v2/health/ready") if url else said
                time.sleep(0.05)
            token = json.loads(made.stdout)["token"]
            status, answer = _get(f"{url}/predict", {"records": rows_of(fleet)}, token)
            assert status == 200 and len(json.loads(answer)["predictions"]) == len(rows_of(fleet)), answer
            assert _get(f"{url}/predict", {"records": rows_of(fleet)}, "aip_00000000_forged")[0] == 401
        finally:
            server.terminate()
            assert server.wait(60) == 0, (tmp_path / "log").read_text()
    assert list((tmp_path / "records").rglob("*.parquet")), "the predictions were not kept"


def _get(address: str, body: Any = None, token: str = "") -> tuple[int, bytes]:
    heads = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, heads), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@pytest.mark.skipif(
    not os.environ.get("AIPLAT_CAMPAIGN"), reason="installs KServe in a folder of its own: make campaign"
)
def test_kserve_knows_every_field_of_the_manifest(fleet: Fleet, tmp_path: Path) -> None:
    done = fleet.aiplat("export", "credit/2", "--to", "kserve", "--out", str(tmp_path / "k"))
    assert done.returncode == 0, done.stderr
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True
    )
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "kserve", "pyyaml"],
        check=True,
    )
    code = """
import sys, yaml, kserve.models, kubernetes.client
def check(value, kind, at):
    if kind.startswith("list["):
        for one in value:
            check(one, kind[5:-1], at)
        return
    known = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind, None)
    if known is None or kind.startswith("dict("):
        return
    names = {name: own for own, name in known.attribute_map.items()}
    for name, inner in value.items():
        assert name in names, f"{at}.{name} is not in {kind}"
        check(inner, known.openapi_types[names[name]], f"{at}.{name}")
check(yaml.safe_load(open(sys.argv[1])), "V1beta1InferenceService", "")
"""
    subprocess.run([str(python), "-c", code, str(tmp_path / "k" / "manifest.yaml")], check=True)


# The fields of ray.io/v1 as KubeRay's types name them (ray-operator/apis/ray/v1), those that have to be there with a star; what a
# pod is, Kubernetes' own schema says.
TEXT, NUMBER, FLAG, POD, CONTAINER = "text", "number", "flag", "pod", "container"
GROUP = {
    "rayStartParams*": {"": TEXT},
    "template*": {"metadata": {"labels": {"": TEXT}, "annotations": {"": TEXT}}, "spec": POD},
}
SCALER = {
    "idleTimeoutSeconds": NUMBER, "upscalingMode": TEXT, "version": TEXT, "image": TEXT, "imagePullPolicy": TEXT,
    "resources": CONTAINER, "securityContext": CONTAINER, "volumeMounts": CONTAINER, "env": CONTAINER, "envFrom": CONTAINER,
}  # fmt: skip
WORKERS = {
    "groupName*": TEXT, "replicas": NUMBER, "minReplicas*": NUMBER, "maxReplicas*": NUMBER, "numOfHosts": NUMBER,
    "idleTimeoutSeconds": NUMBER, "suspend": FLAG, **GROUP,
}  # fmt: skip
CLUSTER = {
    "rayVersion": TEXT, "enableInTreeAutoscaling": FLAG, "autoscalerOptions": SCALER, "suspend": FLAG, "managedBy": TEXT,
    "authOptions": {"mode": TEXT}, "headServiceAnnotations": {"": TEXT}, "headGroupSpec*": {"serviceType": TEXT, "enableIngress": FLAG, **GROUP},
    "workerGroupSpecs": [WORKERS],
}  # fmt: skip
SERVICE = {
    "apiVersion*": TEXT, "kind*": TEXT,
    "metadata*": {"name*": TEXT, "namespace": TEXT, "labels": {"": TEXT}, "annotations": {"": TEXT}},
    "spec*": {"serveConfigV2": TEXT, "rayClusterConfig": CLUSTER, "excludeHeadPodFromServeSvc": FLAG},
}  # fmt: skip


def _known(value: Any, schema: Any, at: str) -> None:
    """Raise unless a value has the fields of a schema, and no others."""
    import kubernetes_validate

    if schema in (POD, CONTAINER):
        field = at.rpartition(".")[2]
        spec = value if schema == POD else {"containers": [{"name": "one", "image": "i", field: value}], "volumes": []}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.31", strict=True)
    elif isinstance(schema, list):
        for one in value:
            _known(one, schema[0], at)
    elif isinstance(schema, dict):
        names = {name.rstrip("*"): inner for name, inner in schema.items()}
        missing = {name[:-1] for name in schema if name.endswith("*")} - value.keys()
        assert not missing, f"{at} lacks {missing}"
        for name, inner in value.items():
            assert name in names or "" in names, f"{at}.{name} is not known"
            _known(inner, names.get(name, names.get("")), f"{at}.{name}")
    else:
        assert isinstance(value, {TEXT: str, NUMBER: int, FLAG: bool}[schema]), f"{at} = {value!r}"


@pytest.fixture(scope="module")
def for_ray(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `export --to kuberay` makes."""
    out = tmp_path_factory.mktemp("kuberay") / "out"
    done = fleet.aiplat("export", "credit/2", "--to", "kuberay", "--out", str(out), "--image", "r.example/credit:2")
    assert done.returncode == 0, done.stderr
    return out


def test_kuberay_and_ray_serve_know_every_field_of_the_manifest(for_ray: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    service = yaml.safe_load((for_ray / "rayservice.yaml").read_text())
    _known(service, SERVICE, "")
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    with pytest.raises(AssertionError, match="is not known"):
        _known({**service, "spec": {**service["spec"], "rayCluster": {}}}, SERVICE, "")
    cluster = service["spec"]["rayClusterConfig"]
    images = {one["image"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]) for one in group["template"]["spec"]["containers"]}  # fmt: skip
    assert images == {"r.example/credit:2"}
    packages = (for_ray / "image" / "requirements.txt").read_text().split()
    assert f"ray=={cluster['rayVersion']}" in packages and all("==" in line for line in packages)
    recipe = (for_ray / "image" / "Dockerfile").read_text()
    assert f"ARG BASE=rayproject/ray:{cluster['rayVersion']}-py3" in recipe and "\nUSER 1000\n" in recipe


def _asked(fleet: Fleet, url: str, token: str) -> None:
    """An endpoint answers with what the registered model says, and only those who have a token."""
    import mlflow
    import pandas

    rows = rows_of(fleet)
    status, answer = _get(f"{url}/predict", {"records": rows}, token)
    assert status == 200, answer
    mlflow.set_tracking_uri(fleet.ws.tracking_uri)
    model = mlflow.sklearn.load_model("models:/credit/2")
    expected = model.predict_proba(pandas.DataFrame(rows))
    for said, one in zip(json.loads(answer)["predictions"], expected, strict=True):
        assert str(said["prediction"]) == str(model.classes_[one.argmax()]) and abs(said["probability"] - one[1]) < 1e-6
    assert _get(f"{url}/predict", {"records": rows}, "aip_00000000_forged")[0] == 401
    assert _get(f"{url}/v2/health/ready")[0] == 200


def test_ray_serve_runs_the_configuration_of_the_manifest(
    fleet: Fleet, for_ray: Path, tmp_path: Path, ray_address: str
) -> None:
    """On a Ray that runs already, with the image's code instead of this environment's: nothing else is added to the configuration."""
    from aiplat.core.attach import attach

    attach(ray_address)
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    made = fleet.aiplat("--json", "token", "add", "ray")
    assert made.returncode == 0, made.stderr
    config = yaml.safe_load(yaml.safe_load((for_ray / "rayservice.yaml").read_text())["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    environment = {
        "AIPLAT_TOKENS": str(fleet.ws.path("endpoints", "tokens.json")),
        "AIPLAT_RECORDS": str(tmp_path / "records"),
    }
    environment["PYTHONPATH"] = str(for_ray / "image" / "lib")
    application["runtime_env"] = {"env_vars": environment}
    serve.start(http_options={"host": "127.0.0.1", "port": free_port()})
    client: Any = serve.context._get_global_client()
    try:
        client.deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)
        url = f"http://127.0.0.1:{client.http_config.port}"
        end = time.monotonic() + 120
        while _get(f"{url}/v2/health/ready")[0] != 200:
            told = serve.status().applications[application["name"]]
            assert told.status.value != "DEPLOY_FAILED" and time.monotonic() < end, told.message
            time.sleep(0.2)
        _asked(fleet, url, json.loads(made.stdout)["token"])
    finally:
        serve.delete(application["name"])
    assert list((tmp_path / "records").rglob("*.parquet")), "the predictions were not kept"


KEPT = {"name": "toy", "version": 1, "model_digest": "d" * 64, "classes": []}


def _toy(factor: float, kind: int = 11, name: str = "x") -> bytes:
    """A graph that multiplies numbers (ONNX's 11, DOUBLE) or dates (7, INT64)."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Cast", [name], ["wide"], to=TensorProto.DOUBLE), helper.make_node("Mul", ["wide", "k"], ["variable"])]  # fmt: skip
    ends = [helper.make_tensor_value_info(one, of, ["n", 1]) for one, of in ((name, kind), ("variable", 11))]
    constant = helper.make_tensor("k", TensorProto.DOUBLE, [1], [factor])
    graph = helper.make_graph(nodes, "toy", ends[:1], ends[1:], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@dataclass
class Toys:
    """A channel of models of one operator, and one device."""

    folder: Path

    def __post_init__(self) -> None:
        from aiplat.release.exporting.device import Device
        from aiplat.release.exporting.edge import public_pem, signing_key

        self.key = signing_key(self.folder / "edge.pem")
        self.public, self.channel = public_pem(self.key), self.folder / "channel"
        self.device = Device(self.folder / "device", self.public)

    def publish(self, version: int = 1, **more: Any) -> Any:
        from aiplat.release.exporting.edge import publish

        about, files = {**KEPT, "version": version, **more}, {"model.onnx": _toy(version)}
        return publish(self.channel, self.key, about=about, files=files, rows=[{"x": 2.0}], days=30)

    def update(self) -> str:
        return self.device.update(str(self.channel))

    def answer(self) -> float:
        return float(self.device.model().predict([{"x": 2.0}])[0]["prediction"])


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path)


@pytest.mark.parametrize("lost", ["model.onnx", "manifest.json"])
def test_a_device_mends_a_release_that_was_damaged_on_it(toys: Toys, lost: str) -> None:
    from aiplat.release.exporting.device import NotTrusted

    toys.publish()
    toys.update()
    assert "nothing new" in toys.update()
    for damage in (lambda file: file.write_bytes(file.read_bytes()[:-3] + b"xyz"), Path.unlink):
        damage(toys.device.home / "current" / lost)
        with pytest.raises(NotTrusted):
            toys.answer()
        toys.update()
        assert toys.answer() == 2.0 and toys.device.state()["sequence"] == 1
    # what is damaged is no release to go back to
    toys.publish(2)
    toys.update()
    (toys.device.home / "current" / lost).unlink()
    toys.publish(3)
    toys.update()
    assert toys.answer() == 6.0 and "toy-1-" in toys.device.rollback() and toys.answer() == 2.0


@pytest.mark.parametrize("state", [b"", b"{}", b"[]", b'{"sequence": "1"}', b"\xff\x00", None])
def test_a_device_that_forgot_what_it_saw_does_not_follow(toys: Toys, state: bytes | None) -> None:
    """Otherwise a pointer that was replayed would bring an old release back."""
    from aiplat.release.exporting.device import NotTrusted

    toys.publish()
    old = (toys.channel / "latest.json").read_bytes()
    toys.publish(2)
    toys.update()
    (toys.channel / "latest.json").write_bytes(old)
    kept = toys.device.home / "state.json"
    if state is None:
        kept.unlink()
    else:
        kept.write_bytes(state)
    for act in (toys.update, toys.device.rollback):
        with pytest.raises(NotTrusted, match=r"state\.json"):
            act()
    assert toys.answer() == 4.0, "what is in use goes on answering"
    (toys.folder / "public.pem").write_bytes(toys.public)
    from aiplat.release.exporting.device import main

    assert main(["--home", str(toys.device.home), "--key", str(toys.folder / "public.pem"), "status"]) == 1


def test_a_number_that_was_published_twice_is_refused(
    toys: Toys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A channel that was restored from a copy counts on from there: devices that saw its number already would stay where they are."""
    import shutil

    from aiplat.release.exporting.device import NotTrusted, main

    toys.publish()
    shutil.copytree(toys.channel, tmp_path / "copy")
    assert toys.publish(2).sequence == 2
    toys.update()
    shutil.rmtree(toys.channel)
    os.rename(tmp_path / "copy", toys.channel)
    assert toys.publish(3).sequence == 2
    (toys.folder / "public.pem").write_bytes(toys.public)
    words = ["--home", str(toys.device.home), "--key", str(toys.folder / "public.pem"), "update", str(toys.channel)]
    assert main(words) == 1 and toys.answer() == 4.0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "number 2" in said[0] and "toy-3-" in said[0] and "publish" in said[1]
    (toys.device.home / "current" / "model.onnx").unlink()
    with pytest.raises(NotTrusted, match="number 2"):
        toys.update()  # nor is it a way around the number
    toys.publish(3)
    assert "toy-3-" in toys.update() and toys.answer() == 6.0 and "nothing new" in toys.update()
    # taken out on the device: the pointer is the one that was seen
    toys.publish(4)
    toys.update()
    toys.device.rollback()
    assert "nothing new" in toys.update() and toys.answer() == 6.0
    # a device of before this was remembered goes on
    kept = toys.device.home / "state.json"
    kept.write_text(json.dumps({name: value for name, value in toys.device.state().items() if name != "manifest"}))
    assert "nothing new" in toys.update()
    toys.publish(5)
    assert "toy-5-" in toys.update() and toys.answer() == 10.0


def test_a_device_remembers_what_it_saw_before_a_release_is_in_use(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after the first release: what is missing then was lost, and is not a device's first day."""
    toys.publish()
    replace = os.replace

    def cut(source: Any, goal: Any) -> None:
        replace(source, goal)
        if Path(goal).name == "current":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", cut)
        toys.update()
    assert toys.device.current and (toys.device.home / "state.json").exists()
    toys.update()
    assert toys.answer() == 2.0 and toys.device.state()["sequence"] == 1


def test_a_device_does_not_try_a_graph_twice_that_it_cannot_load(
    toys: Toys, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    from aiplat.release.exporting.device import main, opened
    from aiplat.release.exporting.edge import sealed

    toys.publish()
    toys.update()
    bad, graph = toys.publish(2).release, b"of another runtime"
    place, pointer = toys.channel / "releases" / bad, toys.channel / "latest.json"
    told = opened("manifest", (place / "manifest.json").read_bytes(), toys.public)
    told["files"]["model.onnx"] = {"sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    (place / "model.onnx").write_bytes(graph)
    (place / "manifest.json").write_bytes(data := sealed("manifest", told, toys.key))
    latest = opened("latest", pointer.read_bytes(), toys.public) | {"manifest_sha256": hashlib.sha256(data).hexdigest()}
    pointer.write_bytes(sealed("latest", latest, toys.key))
    (toys.folder / "public.pem").write_bytes(toys.public)
    words = ["--home", str(toys.device.home), "--key", str(toys.folder / "public.pem"), "update", str(toys.channel)]
    assert main(words) == 1 and "does not work on this device" in capsys.readouterr().err
    assert bad in toys.device.state()["bad"] and toys.answer() == 2.0
    assert not (toys.device.home / "releases" / bad).exists()
    assert main(words) == 1 and "did not work on this device" in capsys.readouterr().err
    toys.publish(3)
    toys.update()
    assert toys.answer() == 6.0


def test_a_device_fetches_names_of_any_language(toys: Toys) -> None:
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    toys.publish(name="prüfung 審査")
    handler = functools.partial(Quiet, directory=str(toys.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert "prüfung" in toys.device.update(f"http://127.0.0.1:{server.server_port}/channel")
        finally:
            server.shutdown()
    assert toys.answer() == 2.0


def test_a_device_reads_dates_as_the_endpoint_does(tmp_path: Path) -> None:
    from aiplat.release.exporting.device import Model
    from aiplat.release.exporting.edge import publish, signing_key
    from aiplat.release.serving.fields import Invalid, moments

    said: list[str | None] = ["2026-03-31", "1678-01-01", "2261-12-31T23:59:59", "2026-03-31T12:00:00+02:00", "2026-03-31T12:00:00Z", None]  # fmt: skip
    files = {"model.onnx": _toy(1.0, kind=7, name="when")}
    rows = [{"when": one} for one in said]
    done = publish(tmp_path / "c", signing_key(tmp_path / "k"), about=KEPT, files=files, rows=rows, days=1)
    model = Model(tmp_path / "c" / "releases" / done.release)
    assert [one["prediction"] for one in model.predict(rows)] == moments("when", said).view("int64").astype(float).tolist()  # fmt: skip
    for bad in ("9999-12-31", "1677-12-31", "2262-01-01", "0001-01-01T00:00:00+05:00", "soon", "now", 5):
        with pytest.raises(ValueError, match=r"row 1 has .* as 'when'"):
            model.predict([{"when": None}, {"when": bad}])
        with pytest.raises(Invalid):
            moments("when", [str(bad)])


def test_a_release_that_was_published_does_not_change(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing again moves the pointer and nothing else, so that it may end at any moment."""
    from aiplat.release.exporting.device import Device

    one = toys.publish()
    place = toys.channel / "releases" / one.release
    before = {file.name: (file.read_bytes(), file.stat().st_ino) for file in place.iterdir()}
    pointer, replace = (toys.channel / "latest.json").read_bytes(), os.replace

    def cut(source: Any, goal: Any) -> None:
        if Path(goal).name == "latest.json":
            raise KeyboardInterrupt
        replace(source, goal)

    for version in (1, 2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", cut)
            toys.publish(version)
        assert (toys.channel / "latest.json").read_bytes() == pointer
        device = Device(toys.folder / f"new {version}", toys.public)
        assert one.release in device.update(str(toys.channel))
    two = toys.publish()
    assert (two.release, two.sha256, two.sequence) == (one.release, one.sha256, 2)
    assert {file.name: (file.read_bytes(), file.stat().st_ino) for file in place.iterdir()} == before
    # what differs in anything that is said of it is another release
    assert len({one.release, toys.publish(note="other").release, toys.publish(2).release}) == 3
    assert {file.name: (file.read_bytes(), file.stat().st_ino) for file in place.iterdir()} == before
    # what was damaged in the channel is made whole under the same manifest
    (place / "model.onnx").write_bytes(b"damaged")
    assert toys.publish().sha256 == one.sha256 and (place / "model.onnx").read_bytes() == before["model.onnx"][0]


def test_a_pointer_is_written_when_its_release_is_on_the_disk(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[tuple[int, int]] = set()
    fsync, replace, told = os.fsync, os.replace, []

    def noted(handle: int) -> None:
        found = os.fstat(handle)
        synced.add((found.st_dev, found.st_ino))
        fsync(handle)

    def pointing(source: Any, goal: Any) -> None:
        if Path(goal).name == "latest.json":
            for one in [Path(source), toys.channel, *toys.channel.rglob("releases/**/*"), toys.channel / "releases"]:
                found = one.stat()
                told.append((one.name, (found.st_dev, found.st_ino) in synced))
        replace(source, goal)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", pointing)
    toys.publish()
    assert {"model.onnx", "manifest.json", "releases"} <= {name for name, _ in told} and all(done for _, done in told), told  # fmt: skip
    synced.clear()
    monkeypatch.setattr(os, "replace", replace)
    toys.publish()
    found = toys.channel.stat()
    assert (found.st_dev, found.st_ino) in synced, "the new pointer may be gone after a power cut"


def _pods(folder: Path) -> list[dict[str, Any]]:
    """The pods that a manifest of KServe or KubeRay asks for."""
    if (folder / "manifest.yaml").exists():
        return [yaml.safe_load((folder / "manifest.yaml").read_text())["spec"]["predictor"]]
    cluster = yaml.safe_load((folder / "rayservice.yaml").read_text())["spec"]["rayClusterConfig"]
    return [one["template"]["spec"] for one in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_no_secret_is_mounted_where_kubernetes_mounts_its_own(fleet: Fleet, for_ray: Path, tmp_path: Path) -> None:
    """The API's token goes to /var/run/secrets, which is /run/secrets in Debian: below a read-only volume, no folder can be made for it."""
    done = fleet.aiplat("export", "credit/2", "--to", "kserve", "--out", str(tmp_path / "k"))
    assert done.returncode == 0, done.stderr
    own = Path("/run/secrets/kubernetes.io/serviceaccount")
    for folder in (tmp_path / "k", for_ray):
        for pod in _pods(folder):
            for one in pod["containers"]:
                mounts = {mount["name"]: Path(mount["mountPath"]) for mount in one["volumeMounts"]}
                for place in mounts.values():
                    real = Path(str(place).replace("/var/run", "/run", 1))
                    assert not own.is_relative_to(real) and not real.is_relative_to(own), f"{place} of {one['name']}"
                env = {variable["name"]: variable.get("value") for variable in one["env"]}
                assert env["AIPLAT_TOKENS"] == str(mounts["tokens"] / "tokens.json")
        assert "--from-file=tokens.json=" in (folder / "README.md").read_text()


def test_an_image_has_the_libraries_that_wheels_leave_to_the_system(tmp_path: Path) -> None:
    """LightGBM's wheel leaves libgomp to the system, and images of Python without a compiler lack it."""
    from importlib.metadata import version

    from aiplat.release.exporting.images import write_image
    from aiplat.release.exporting.kuberay import write_ray_image
    from aiplat.release.serving.answers import Bundle
    from aiplat.release.serving.fields import Field, Schema
    from aiplat.release.serving.processes import Order

    (tmp_path / "b").mkdir()
    schema, order = Schema((Field("age", "number"),)), Order("credit", "", "")
    bundle = Bundle(tmp_path / "b", "credit", 4, "d" * 64, "e" * 64, "binary", "y", "1", ("0", "1"), schema, "original")
    ours = ["numpy", "scikit-learn", "xgboost-cpu", "onnxruntime", "pyarrow", "scipy", "pandas"]
    for number, (names, needed) in enumerate(((ours, False), ([*ours, "lightgbm"], True))):
        lines = [f"{name}=={version(name)}" for name in names]
        plain, ray = tmp_path / f"plain{number}", tmp_path / f"ray{number}"
        plain.mkdir()
        ray.mkdir()
        write_image(bundle, plain, lines, order)
        write_ray_image(bundle, ray, lines, order, "{}")
        for out in (plain, ray):
            recipe = (out / "Dockerfile").read_text().splitlines()
            install = [line for line in recipe if "apt-get install -y --no-install-recommends libgomp1 " in line]
            assert len(install) == needed and all("rm -rf /var/lib/apt/lists/*" in line for line in install)
            users = [line for line in recipe if line.startswith("USER ")]
            assert users[-1] in ("USER 10001", "USER 1000")
            if needed:
                before = [line for line in recipe[: recipe.index(install[0])] if line.startswith(("USER ", "FROM "))]
                assert before[-1] == ("USER root" if out == ray else "FROM ${BASE}")
                assert recipe.index(install[0]) < recipe.index("COPY requirements.txt .")


@pytest.mark.parametrize("name", ["2024-credit", "7", "3" * 80, "credit", "Ä1 credit"])
def test_objects_of_kubernetes_have_names_of_services(name: str) -> None:
    """A service's name begins with a letter (RFC 1035), and both operators make services by the name that they are given."""
    import re

    from aiplat.release.exporting.kuberay import ray_steps, rayservice
    from aiplat.release.exporting.manifests import kserve, kserve_steps
    from aiplat.release.serving.answers import Bundle
    from aiplat.release.serving.fields import Field, Schema

    schema = Schema((Field("age", "number"),))
    bundle = Bundle(Path("b"), name, 4, "d" * 64, "e" * 64, "binary", "y", "1", ("0", "1"), schema, "onnx")
    served, ray = kserve(bundle, "i:1"), rayservice(bundle, "i:1", "{}")
    head = ray["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    for made, pod, steps in ((served, served["spec"]["predictor"], kserve_steps), (ray, head, ray_steps)):
        called, readme = made["metadata"]["name"], steps(bundle, "i:1")
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", called) and len(called) <= 53
        assert f"/{called} " in readme and made["metadata"]["labels"]["app.kubernetes.io/name"] == called
        (secret,) = (one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one)
        assert f"create secret generic {secret} " in readme
