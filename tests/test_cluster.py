"""Processes of the stack and of the workers: started once, found again, killed, outlived, stopped whole."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from aiplat.core import stack, workspace
from aiplat.core.workspace import Workspace
from aiplat.data.sample import credit
from aiplat.operations.pipelines.tables import read_run, read_steps
from tests.conftest import run_cli
from tests.servers import two_nodes
from tests.test_batch import model_in
from tests.test_engine import notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def begin(ws: Workspace, code: str, *, ray: str = "") -> subprocess.Popen[str]:
    """Like `drive`, without waiting."""
    script = f"from aiplat.core import cluster, stack, workspace\nws = workspace.workspace()\n{code}"
    environment = {k: v for k, v in os.environ.items() if k != "AIPLAT_RAY"} | ({"AIPLAT_RAY": ray} if ray else {})
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=ws.root, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def drive(
    ws: Workspace, code: str, *, ray: str = "", timeout: float = 120, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own in the workspace, with ``ws`` and ``cluster`` at hand."""
    process = begin(ws, code, ray=ray)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    done = subprocess.CompletedProcess(code, process.returncode, out, err)
    assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def quiet(done: subprocess.CompletedProcess[str]) -> str:
    """What a driver printed; Ray must not have said anything."""
    assert done.stderr == ""
    return done.stdout.strip()


def ours(ws: Workspace) -> list[psutil.Process]:
    """Everything that runs for this workspace."""
    keeper = psutil.Process(stack.recorded(ws)["ray"]["processes"][0]["pid"])
    return [keeper, *keeper.children(recursive=True)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a stack that six processes have started together."""
    before = os.environ.pop("AIPLAT_RAY", None)
    root = tmp_path_factory.mktemp("a rather long name of a folder in which a workspace may well lie, deep down")
    ws = workspace.create(root)
    if before:
        os.environ["AIPLAT_RAY"] = before
    yield ws
    stack.stop(ws)


def test_six_at_once_start_one(home: Workspace) -> None:
    processes = [begin(home, "shown = cluster.up(); print(shown.address, shown.workers)") for _ in range(6)]
    told = [process.communicate(timeout=200) for process in processes]
    assert [err for _, err in told] == [""] * 6
    assert len({out for out, _ in told}) == 1
    assert sum(process.name() == "raylet" for process in ours(home)) == 1
    assert json.loads((home.state / "stack.json").read_text())["ray"]["address"] == told[0][0].split()[0]


def test_only_this_machine_and_only_its_owner(home: Workspace) -> None:
    listening = [c.laddr for p in ours(home) for c in p.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    assert listening and {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    folder, address = (stack.recorded(home)["ray"][name] for name in ("folder", "address"))
    assert Path(folder).parent.stat().st_mode & 0o077 == 0 and Path(folder, "token").stat().st_mode & 0o077 == 0
    code = "stack.token_file_of = lambda _: None\ntry: cluster.connect(ws)\nexcept Exception as error: print(error)"
    assert "wants a token that this process does not have" in quiet(drive(home, code, ray=address))


def test_what_listens_is_not_ray(home: Workspace, tmp_path: Path) -> None:
    code = "try: cluster.connect(ws)\nexcept Exception as error: print(error)"
    with socketserver.TCPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        out = quiet(drive(workspace.create(tmp_path), code, ray=f"127.0.0.1:{web.server_address[1]}"))
        web.shutdown()
    assert "is not Ray" in out and len(out.splitlines()) == 2


def test_status_tells_and_starts_nothing(home: Workspace, tmp_path: Path) -> None:
    code = """
import sys
found = cluster.status()
states = [part["state"] for part in found.parts]
print(states, len(found.workers), found.problems, "ray" in sys.modules, "mlflow" in sys.modules)
"""
    assert quiet(drive(home, code)).endswith(f"{len(os.sched_getaffinity(0))} [] True False")
    empty = workspace.create(tmp_path)
    assert quiet(drive(empty, code)) == "['not running', 'made when needed', 'not running'] 0 [] False False"
    assert not (empty.state / "stack.json").exists()


def test_a_killed_worker_is_replaced_and_a_killer_is_named(home: Workspace) -> None:
    code = """
import os, signal, time
from pathlib import Path
pool = cluster.connect(ws)
def once(mark, n):
    if n == 1 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return n
def always(): os.kill(os.getpid(), signal.SIGKILL)
tasks = [pool.submit(once, str(ws.path("mark")), n) for n in range(8)]
print([task.result(60) for task in tasks])
try: pool.submit(always).result(60)
except Exception as error: print(error.what)
print(pool.submit(max, 1, 2).result(60), len(pool.facts(30)) == pool.size)
"""
    assert quiet(drive(home, code)).splitlines() == [
        "[0, 1, 2, 3, 4, 5, 6, 7]",
        "always made its worker process die twice",
        "2 True",
    ]


def test_modules_beside_the_notebook_are_found_and_never_stale(home: Workspace) -> None:
    code = """
import sys
sys.path.insert(0, "")
import helper_of_mine
pool = cluster.connect(ws)
print({task.result() for task in [pool.submit(helper_of_mine.f) for _ in range(4)]})
"""
    for text in ("first", "second one"):
        (home.root / "helper_of_mine.py").write_text(f"def f():\n    return {text!r}\n")
        assert quiet(drive(home, code)) == f"{{{text!r}}}"


def test_work_of_a_killed_driver_is_given_up(home: Workspace) -> None:
    code = """
import os, time
pool = cluster.connect(ws)
def spin():
    while True: sum(range(1000))
tasks = [pool.submit(spin) for _ in range(3 * pool.size)]
time.sleep(1)
os.kill(os.getpid(), 9)
"""
    assert drive(home, code, check=False).returncode == -signal.SIGKILL
    assert quiet(drive(home, "print(cluster.connect(ws).submit(abs, -3).result(30))")) == "3"


def test_two_drivers_share_the_workers(home: Workspace) -> None:
    code = """
import time
pool = cluster.connect(ws)
def same(n):
    time.sleep(0.05)
    return n
print(sum(task.result(60) for task in [pool.submit(same, n) for n in range(20)]))
"""
    both = [begin(home, code) for _ in range(2)]
    assert [process.communicate(timeout=100) for process in both] == [("190\n", "")] * 2


def test_pages_of_mlflow(home: Workspace) -> None:
    shown = json.loads(quiet(drive(home, "print(cluster.up(ui=True).to_json())", timeout=200)))
    assert urllib.request.urlopen(shown["ui"], timeout=20).status == 200
    again = json.loads(quiet(drive(home, "print(cluster.up(ui=True).to_json())")))
    assert again["ui"] == shown["ui"] and not again["started"]


def test_a_broken_stack_is_noticed_and_mended(home: Workspace) -> None:
    before = stack.recorded(home)["ray"]
    family = ours(home)
    for marked in before["processes"]:
        psutil.Process(marked["pid"]).kill()
    code = "s = cluster.status(); print(s.parts[0]['state'], s.problems[0][0])"
    assert quiet(drive(home, code)).startswith("broken Ray has died: 0 of 3 processes are alive")
    assert quiet(drive(home, "print(cluster.connect(ws).submit(abs, -1).result(60))")) == "1"
    assert stack.recorded(home)["ray"]["address"] != before["address"] and not Path(before["folder"]).exists()
    psutil.wait_procs(family, timeout=20)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_kernel_outlives_its_cluster(home: Workspace) -> None:
    """Ray ends a driver whose cluster has gone; ours goes on, says so, and finds the next cluster."""
    code = """
import subprocess, sys, time
pool = cluster.connect(ws)
print(pool.submit(abs, -1).result(60))
task = pool.submit(time.sleep, 60)
subprocess.run([sys.executable, "-c", "from aiplat.core.cluster import down; down()"], check=True)
for attempt in (task.result, pool.refresh, lambda: pool.submit(abs, -1).result(60)):
    try: attempt(); print("?")
    except Exception as error: print(error.what)
print(cluster.connect(ws).submit(abs, -2).result(60))
"""
    gone = "the Ray cluster has gone away"
    assert quiet(drive(home, code, timeout=220)).splitlines() == ["1", gone, gone, gone, "2"]


def test_down_stops_everything_once(home: Workspace) -> None:
    family = ours(home)
    assert json.loads(quiet(drive(home, "print(cluster.down().to_json())")))["stopped"] == [
        "ray"
    ]  # the pages went with the down of the test before
    psutil.wait_procs(family, timeout=10)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert quiet(drive(home, "print(cluster.down())")) == "nothing was running that this workspace had started"


LATE = """
import sys
if sys.orig_argv[1:2] == ["-c"] and "stack import head" in sys.orig_argv[2]:
    import pathlib, time, types
    from ray._private import node, services
    mark = pathlib.Path(__file__).with_name("was late")
    if not mark.exists():
        mark.touch()
        def late(*_): raise RuntimeError("not yet")
        services.get_node = late
        node.time = types.SimpleNamespace(sleep=time.sleep, monotonic=lambda: 10 * time.monotonic(), time=time.time)
"""


def test_a_start_that_was_late_is_made_again_and_a_deleted_workspace_leaves_nothing_running(tmp_path: Path) -> None:
    """Ray gives its node 30 s; here a tenth of it, the first time."""
    ws = workspace.create(tmp_path / "short-lived")
    (tmp_path / "sitecustomize.py").write_text(LATE)
    drive(ws, f"import os\nos.environ['PYTHONPATH'] = {str(tmp_path)!r}\nstack.start_ray(ws)")
    assert (tmp_path / "was late").exists()
    family, folder = ours(ws), Path(stack.recorded(ws)["ray"]["folder"])
    here = [
        p for p in psutil.process_iter(["environ"]) if str(tmp_path) in (p.info["environ"] or {}).get("PYTHONPATH", "")
    ]
    assert here and set(here) <= set(family), "nothing is left of the late one"
    time.sleep(3)  # the guard has seen its record; without that it waits for longer
    shutil.rmtree(ws.root)
    psutil.wait_procs(family, timeout=60)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not folder.exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "ray.invalid:6379"])
def test_nobody_at_the_address(tmp_path: Path, address: str) -> None:
    ws = workspace.create(tmp_path)
    done = drive(ws, "try: cluster.connect(ws)\nexcept Exception as error: print(error)", ray=address)
    what, todo = quiet(done).splitlines()
    assert address.removeprefix("ray://") in what and "AIPLAT_RAY" in todo
    status = quiet(drive(ws, "print(cluster.status().problems)", ray=address))
    assert "cannot be reached" in status


def test_an_address_that_is_none(tmp_path: Path) -> None:
    ws = workspace.create(tmp_path, ray="locla")
    what, _ = quiet(drive(ws, "try: cluster.connect(ws)\nexcept Exception as error: print(error)")).splitlines()
    assert "settings.ini, line " in what and "ray = locla is not an address" in what


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A cluster of two nodes: its address, its client server's, and a folder that the second does not see."""
    hidden = tmp_path_factory.mktemp("hidden")
    with two_nodes(hidden) as (address, client):
        yield address, client, hidden


def test_two_nodes(tmp_path: Path, nodes: tuple[str, str, Path]) -> None:
    ws = workspace.create(tmp_path / "home")
    code = """
import time, numpy
end = time.monotonic() + 90
while (pool := cluster.connect(ws, wait=False)).size < 2 and time.monotonic() < end: time.sleep(0.5)
table = pool.share(numpy.arange(10), key="ten")
def work(t):
    time.sleep(0.2)
    return int(t.sum())
tasks = [pool.submit(work, table) for _ in range(6)]
print({t.result(90) for t in tasks}, len({t.node for t in tasks}), pool.size, cluster.up().started)
long = [pool.submit(time.sleep, 1) for _ in range(200)]
pool.cancel(long)
print(pool.submit(abs, -1).result(90))
print(cluster.down())
"""
    mismatch = """
import ray
ray.__version__ = '2.1.0'
try: cluster.connect(ws)
except Exception as error: print(error)
"""
    address, client, _ = nodes
    for how in (address, client):
        first, second, *rest = quiet(drive(ws, code, ray=how, timeout=400)).splitlines()
        assert (first, second) == ("{45} 2 2 False", "1")
        assert rest[0] == "nothing was running that this workspace had started"
        assert rest[1] == f"the Ray cluster at {how} was not started here and is left alone"
    told = quiet(drive(ws, mismatch, ray=address))
    assert "other versions" in told and len(told.splitlines()) == 2
    told = quiet(drive(ws, mismatch.replace("ray.__version__ = '2.1.0'", ""), ray=client.removeprefix("ray://")))
    assert "not its GCS" in told


@pytest.mark.timeout(600)
def test_pipelines_on_two_nodes(nodes: tuple[str, str, Path]) -> None:
    """By address and by Ray's client: the files of a step travel to the node that does not see them, its copy comes back."""
    home, seen = nodes[2] / "home", set()
    ws = workspace.create(home, user="ana")
    (home / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    body = "import aiplat, helper, os, socket, pathlib\naiplat.output('value', helper.double(n))\nimport time; time.sleep(2)\nopen('here.txt', 'w').write('x')\nprint(pathlib.Path.cwd())"
    notebook(ws, "step", "n: int = 1", body)
    for how in nodes[:2]:
        told = run_cli(
            *("pipeline", "run", "step.ipynb", "--matrix", "n=1..3", "--matrix", "seed=1", "--json"),
            cwd=home, env={"AIPLAT_RAY": how}, check=False, timeout=300,
        )  # fmt: skip
        assert told.returncode == 1 and "no parameter 'seed'" in json.loads(told.stdout)["error"]["what"]
        assert "result" not in json.loads(told.stdout), "nothing has started"
        told = run_cli(
            *("pipeline", "run", "step.ipynb", "--matrix", "n=1..3", "--json"),
            cwd=home, env={"AIPLAT_RAY": how}, timeout=300,
        )  # fmt: skip
        assert json.loads(told.stdout), told.stdout
        steps = read_steps(ws, read_run(ws, "last").id)
        assert [(step.state, step.outputs["value"]) for step in steps] == [("done", 2), ("done", 4), ("done", 6)]
        assert all(step.copy and (ws.root / step.copy).exists() for step in steps)
        for step in steps:
            text = (ws.root / step.copy).read_text()
            seen.add(str(home) in text)
    assert seen == {True, False} or os.geteuid() != 0, "both nodes have worked, one of them in a folder of its own"


def test_a_compiled_model_answers_on_all_nodes(nodes: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bundle travels to the node that does not see the workspace, and the answers are those of this machine alone."""
    home = nodes[2] / "scoring"
    monkeypatch.setenv("AIPLAT_HOME", str(home))  # which the next line sets for good
    model_in(home)
    credit(rows=200_000, seed=4).drop(columns="approved").to_parquet(home / "people.parquet")
    where = {}
    for name, ray in {"alone": "local", "together": nodes[0]}.items():
        line = ("predict", "credit/1", "people.parquet", "--out", f"{name}.parquet", "--json")
        where[name] = json.loads(run_cli(*line, cwd=home, env={"AIPLAT_RAY": ray}).stdout)["where"]
    assert where["alone"].startswith("compiled") and where["alone"].endswith("in threads of this process")
    assert where["together"].startswith("compiled") and where["together"].endswith("on 2 workers of 2 machines")
    alone, together = (pd.read_parquet(home / f"{name}.parquet") for name in where)
    pd.testing.assert_frame_equal(alone, together)
