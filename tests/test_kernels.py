"""Kernels from the nursery: clean processes, hostile notebooks, and nothing left behind when anything is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from aiplat.operations.kernels.orders import Answer, Order, Progress
from aiplat.operations.kernels.performing import perform
from aiplat.operations.kernels.publishing import LIMIT

MANY = 200_000 if os.environ.get("AIPLAT_CAMPAIGN") else 15_000
KILLS = 60 if os.environ.get("AIPLAT_CAMPAIGN") else 3


def order(folder: Path, *cells: str, tags: dict[int, str] | None = None, **more: Any) -> Order:
    """An order to execute some cells in a folder."""
    made = [new_code_cell(cell) for cell in cells]
    for number, tag in (tags or {}).items():
        made[number].metadata["tags"] = [tag]
    content = json.dumps(new_notebook(cells=made))
    plain = Order("0" * 32, "step", 1, "step.ipynb", content, "python3", str(folder), copy=str(folder / "copy.ipynb"), log=str(folder / "kernel.log"))  # fmt: skip
    return replace(plain, **more)


def texts(folder: Path) -> list[str]:
    """What each code cell of the executed copy shows, as one text."""
    cells = [cell for cell in nbformat.read(folder / "copy.ipynb", 4).cells if cell.cell_type == "code"]
    return [
        "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs) for cell in cells
    ]


def waited(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The condition's value, as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def gone(*pids: int) -> bool:
    """Whether all these processes have ended."""

    def ended(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(map(ended, pids))


# --- each run in a clean process

DIRTY = """
import builtins, json, math, os, random, sys, warnings
import numpy, pandas
left = 1
math.pi = 3
pandas.DataFrame.shape = "patched"
os.environ["LEFT"] = "1"
sys.path.insert(0, "/left")
builtins.left_too = 1
random.seed(1), numpy.random.seed(1)
import telnetlib_of_mine
open("seen.txt", "w").write(telnetlib_of_mine.WHO)
os.umask(0o077), os.chdir("/")
"""
LOOK = """
import json, math, os, random, sys
import numpy, pandas
print(json.dumps({
    "pi": math.pi, "shape": pandas.DataFrame({"a": [1]}).shape, "left": "left" in globals() or hasattr(__builtins__, "left_too"),
    "environ": os.environ.get("LEFT"), "path": "/left" in sys.path, "module": "telnetlib_of_mine" in sys.modules,
    "draws": [random.random(), numpy.random.random()], "umask": os.umask(0o022), "cwd": os.getcwd(), "argv": sys.argv[1:2],
    "here": "" in sys.path, "main": __name__, "history": len(In),
}))
"""


def test_a_run_sees_nothing_of_another(tmp_path: Path) -> None:
    (tmp_path / "telnetlib_of_mine.py").write_text("WHO = 'mine'")
    assert perform(order(tmp_path, DIRTY)).outcome == "done" and (tmp_path / "seen.txt").read_text() == "mine"
    seen = []
    for _ in range(2):
        answer = perform(order(tmp_path, LOOK))
        assert answer.outcome == "done", answer
        seen.append(json.loads(texts(tmp_path)[0]))
    draws = [each.pop("draws") for each in seen]
    assert draws[0][0] != draws[1][0] and draws[0][1] != draws[1][1], "two runs drew the same random numbers"
    assert seen[0] == seen[1]
    assert seen[0] == {
        "pi": 3.141592653589793, "shape": [1, 1], "left": False, "environ": None, "path": False, "module": False,
        "umask": 0o022, "cwd": str(tmp_path), "argv": ["-f"], "here": True, "main": "__main__", "history": 2,
    }  # fmt: skip


def test_a_forked_kernel_is_like_one_that_was_started(tmp_path: Path) -> None:
    """Values that differ between a forked kernel and one that Jupyter starts."""
    look = """
import json, multiprocessing, os, random, sys, tempfile
import matplotlib, matplotlib.pyplot as plt
from multiprocessing import process
plt.plot([1, 2]); plt.show()
facts = dict(path=sys.path, cwd=os.getcwd(), temp=tempfile.gettempdir(), backend=matplotlib.get_backend(), origin=process.ORIGINAL_DIR,
    session=os.getsid(0) == os.getpid(), who=os.environ.get("WHO"), zone=__import__("time").tzname, name=__import__("__main__").__name__,
    displayed=type(sys.stdout).__name__, line=matplotlib.rcParams["lines.linewidth"])
json.dump(facts, open(os.environ["FACTS"], "w"))
"""
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    environ = {"WHO": "ana", "PYTHONPATH": str(tmp_path / "lib"), "TMPDIR": str(tmp_path), "TZ": "Asia/Tokyo"}
    (tmp_path / "lib").mkdir()
    facts = []
    for name in ("forked", "plain"):
        if name == "plain":  # a folder that claims a name which the nursery knows
            (tmp_path / "lib" / "pandas.py").write_text("")
        answer = perform(order(tmp_path, look, environ={**environ, "FACTS": str(tmp_path / name)}))
        assert answer.outcome == "done", answer
        facts.append(json.loads((tmp_path / name).read_text()))
        figures = [out for cell in nbformat.read(tmp_path / "copy.ipynb", 4).cells for out in cell.outputs if "image/png" in out.get("data", {})]  # fmt: skip
        assert len(figures) == 1, "a figure is shown, and once"
    assert facts[0] == facts[1]
    assert facts[0]["zone"] == ["JST", "JST"] and facts[0]["line"] == 7 and facts[0]["who"] == "ana"


def test_a_folder_may_claim_a_name_that_the_nursery_knows(tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("WHO = 'mine'")
    assert perform(order(tmp_path, "import pandas\nprint(pandas.WHO)")).outcome == "done"
    assert texts(tmp_path) == ["mine\n"]


def test_numerics_get_their_threads(tmp_path: Path) -> None:
    look = "import os, threadpoolctl, numpy, sklearn.ensemble\nprint({each['num_threads'] for each in threadpoolctl.threadpool_info()}, os.environ['OMP_NUM_THREADS'])"
    for cpus in (1, 2):
        perform(order(tmp_path, look, cpus=float(cpus)))
        assert texts(tmp_path) == [f"{{{cpus}}} {cpus}\n"]


def test_what_is_left_open_is_written_and_what_is_registered_runs(tmp_path: Path) -> None:
    code = """
import atexit, threading, time
left = open("left.txt", "w"); left.write("open")
atexit.register(lambda: open("atexit.txt", "w").write("ran"))
threading.Thread(target=lambda: (time.sleep(0.3), open("thread.txt", "w").write("ended"))).start()
"""
    assert perform(order(tmp_path, code)).outcome == "done"
    assert [(tmp_path / f"{name}.txt").read_text() for name in ("left", "atexit", "thread")] == ["open", "ran", "ended"]


# --- hostile notebooks


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("import os; os._exit(7)", "kernel", "exited with code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "kernel", "it was killed, by a person or a program"),
        ("import ctypes; ctypes.string_at(0)", "kernel", "by SIGSEGV"),
        ("while True: pass", "timeout", "the longest that a cell may take"),
        ("import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))\ntime.sleep(1000)", "timeout", "may take"),
        ("hoard = []\nwhile True: hoard.append(bytearray(5_000_000))", "memory", "and the step may use 500 MB"),
        ("input()", "cell", "StdinNotImplementedError"),
        ("%nosuch", "cell", "UsageError"),
        ("raise ValueError('x' * 50_000_000)", "cell", "ValueError: xxx"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E()", "cell", "failed"),
        ("import sys; sys.exit(4)", "cell", "SystemExit: 4"),
        ("import sys; sys.stdout = None; 1 / 0", "cell", "failed"),
        ("import os\nos.close(1); os.close(2)\nos.kill(os.getpid(), 9)", "kernel", "lost its kernel"),
    ],
)  # fmt: skip
def test_cells_that_fail(tmp_path: Path, code: str, kind: str, said: str) -> None:
    # also the first cell's, on a machine that may stand still for a while
    cell_timeout = 5.0 if kind == "timeout" else 60.0
    answer = perform(order(tmp_path, "x = 1", code, "2", cell_timeout=cell_timeout, memory=500_000_000))
    assert (answer.outcome, answer.kind, answer.cell) == ("failed", kind, 2), answer
    assert said in answer.what and [cell.state for cell in answer.cells] == ["done", "failed", "skipped"]
    assert gone(answer.pid)
    nbformat.validate(nbformat.read(tmp_path / "copy.ipynb", 4))


def test_the_time_of_all_cells_together(tmp_path: Path) -> None:
    answer = perform(order(tmp_path, *["import time; time.sleep(1.8)"] * 20, timeout=6.0))
    assert answer.kind == "timeout" and "time of this run" in answer.what and 2 <= (answer.cell or 0) <= 5


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"nbformat": 3}', '{"nbformat": 4, "cells": [1]}', '{"nbformat": 4, "cells": [{}]}']
)
def test_what_is_no_notebook(tmp_path: Path, content: str) -> None:
    answer = perform(replace(order(tmp_path, "1"), content=content))
    assert (answer.outcome, answer.kind) == ("failed", "start") and "is not a notebook" in answer.what and answer.todo


def test_what_a_machine_may_lack(tmp_path: Path) -> None:
    assert "there is no folder" in perform(replace(order(tmp_path, "1"), folder="/nowhere")).what
    assert "'nosuch', which is not installed" in perform(order(tmp_path, "1", kernel="nosuch")).what


def test_kernels_of_other_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is started by a script of its own, and one that does not come up."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    for name, argv in {
        "wrapped": ["/bin/sh", "-c", f"FROM=script exec {sys.executable} -m ipykernel_launcher -f {{connection_file}}"],
        "broken": [sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"],
    }.items():
        (tmp_path / "kernels" / name).mkdir(parents=True)
        spec = {"argv": argv, "display_name": name, "language": "python"}
        (tmp_path / "kernels" / name / "kernel.json").write_text(json.dumps(spec))
    assert perform(order(tmp_path, "import os; print(os.environ['FROM'])", kernel="wrapped")).outcome == "done"
    assert texts(tmp_path) == ["script\n"]
    answer = perform(order(tmp_path, "1", kernel="broken"))
    assert answer.kind == "start" and "it ended with code 3" in answer.what and "no such thing" in answer.log
    assert perform(order(tmp_path, "import os; os._exit(7)", kernel="wrapped")).kind == "kernel"


@pytest.mark.parametrize(
    "code",
    [
        "print('x' * 200_000_000)",
        "import sys\nfor _ in range(200): sys.stdout.write('y' * 1_000_000)",
        "from IPython.display import HTML\nHTML('z' * 200_000_000)",
        "import subprocess\nsubprocess.run(['head', '-c', '200000000', '/dev/zero'])",
    ],
)
def test_an_output_of_200_mb(tmp_path: Path, code: str) -> None:
    before = psutil.Process().memory_info().rss
    answer = perform(order(tmp_path, code, "'and on'"))
    after = psutil.Process().memory_info().rss
    assert answer.outcome == "done", answer
    first, second = texts(tmp_path)
    log = tmp_path / "kernel.log"
    assert not log.exists() or log.stat().st_size < 12_000_000
    if "subprocess" in code:  # what a program writes is read beside the cells, and may be shown by the next one
        assert len(first + second) < LIMIT * 2.2 and "left out" in first + second and second.endswith("'and on'")
        return
    assert "further output was left out" in first[-200:] and second == "'and on'"
    assert LIMIT * 0.9 < len(first) < LIMIT * 1.1 or "HTML" in code
    assert after - before < 250_000_000, "the executor took the output into its memory"


def test_very_many_small_outputs(tmp_path: Path) -> None:
    code = f"for i in range({MANY}): display(i)"
    answer = perform(order(tmp_path, code, "for i in range(2000): print(i, flush=True)"))
    assert answer.outcome == "done"
    shown = nbformat.read(tmp_path / "copy.ipynb", 4).cells
    assert len(shown[0].outputs) == 10_001 and "10,000 outputs" in shown[0].outputs[-1].text
    (stream,) = shown[1].outputs
    assert stream.text.split() == list(map(str, range(2000))), "an output was lost, or came twice"


def test_outputs_of_all_kinds(tmp_path: Path) -> None:
    cells = [
        "from IPython.display import *\nh = display('one', display_id=True); h.update('two')",
        "print('gone'); clear_output(); print('here')",
        "import sys\nprint('out'); print('err', file=sys.stderr); sys.stdout.flush(); 3",
        "import threading, time\nt = threading.Thread(target=lambda: (time.sleep(0.2), print('late'))); t.start()",
        "t.join()",
        "import warnings; warnings.warn('careful')",
        "!echo shell",
    ]
    assert perform(order(tmp_path, *cells)).outcome == "done"
    shown = nbformat.read(tmp_path / "copy.ipynb", 4)
    assert texts(tmp_path)[:3] == ["'two'", "here\n", "out\nerr\n3"]
    assert "late" in texts(tmp_path)[3] + texts(tmp_path)[4] and texts(tmp_path)[6].split() == ["shell"]
    assert [cell.execution_count for cell in shown.cells] == [1, 2, 3, 4, 5, 6, 7]
    assert shown.metadata.language_info.name == "python" and shown.metadata.papermill.exception is None


def test_widgets_keep_their_state(tmp_path: Path) -> None:
    pytest.importorskip("ipywidgets")
    code = "import ipywidgets as w\nbar = w.IntProgress(value=3)\nout = w.Output()\nwith out: print('inside')\ndisplay(bar)"
    assert perform(order(tmp_path, code, "bar.value = 9")).outcome == "done"
    states = (
        nbformat.read(tmp_path / "copy.ipynb", 4).metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    )
    assert 9 in [each.state.get("value") for each in states.values()]
    assert "inside" in json.dumps(states)


def test_cells_that_may_fail_and_an_early_end(tmp_path: Path) -> None:
    cells = ("1 / 0", "print('on')", "skipped", "import sys; sys.exit(0)", "never")
    answer = perform(order(tmp_path, *cells, tags={0: "raises-exception", 2: "skip-execution"}))
    assert answer.outcome == "done"
    assert [cell.state for cell in answer.cells] == ["allowed", "done", "skipped", "allowed", "skipped"]


# --- progress, stop, and what comes back


def test_progress_stop_and_the_copy_while_it_goes(tmp_path: Path) -> None:
    told: list[Progress] = []
    stop, answers = threading.Event(), list[Answer]()
    wish = order(tmp_path, "first = 1", "print('seen'); open('begun', 'w').close()\nimport time; time.sleep(1000)", "3")
    worker = threading.Thread(target=lambda: answers.append(perform(wish, told.append, stop)))
    worker.start()
    waited((tmp_path / "begun").exists)
    waited(lambda: texts(tmp_path)[1] == "seen\n")
    assert [(each.cell, each.cells) for each in told] == [(1, 3), (2, 3)] and told[1].line.startswith("print('seen')")
    stop.set()
    worker.join(60)
    (answer,) = answers
    assert (answer.outcome, answer.kind, answer.cell) == ("cancelled", "", 2) and gone(answer.pid)


def test_a_machine_without_the_drivers_disk_sends_the_bytes(tmp_path: Path) -> None:
    answer = perform(
        order(tmp_path, "import os; os.write(1, b'to the log')", copy="/nowhere/a.ipynb", log="/nowhere/log")
    )
    assert answer.executed and json.loads(answer.executed)["cells"] and "to the log" in answer.log
    assert answer.cpu_seconds > 0 and answer.peak_memory > 10_000_000


def test_outputs_come_back(tmp_path: Path) -> None:
    answer = perform(
        order(tmp_path, "import aiplat\naiplat.output('auc', 0.75)\naiplat.output('names', ['a'])", "1 / 0")
    )
    assert answer.outputs == {"auc": 0.75, "names": ["a"]} and answer.outcome == "failed"


# --- kill -9, and nothing is left

FAMILY = """
import json, os, subprocess, sys, time
orphan = "import os, subprocess; os.setsid(); print(subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=-3, stderr=-3).pid)"
pids = [os.getpid(), subprocess.Popen(["sleep", "1000"]).pid, subprocess.Popen(["sleep", "1000"], start_new_session=True).pid]
pids.append(int(subprocess.run([sys.executable, "-c", orphan], stdout=-1, text=True).stdout))
if not (child := os.fork()):
    os.setsid()
    if os.fork():
        os._exit(0)
    open("grandchild", "w").write(str(os.getpid())); time.sleep(1000)
os.waitpid(child, 0)
while not os.path.exists("grandchild") or not open("grandchild").read(): time.sleep(0.01)
pids.append(int(open("grandchild").read()))
json.dump(pids, open("pids.json.new", "w")); os.rename("pids.json.new", "pids.json")
"""


def family(folder: Path) -> list[int]:
    """The kernel and the four processes that it started, once they are there."""
    waited((folder / "pids.json").exists)
    found = json.loads((folder / "pids.json").read_text())
    assert len(found) == 5 and not gone(*found)
    return list(found)


def test_what_a_cell_has_started_ends_with_the_kernel(tmp_path: Path) -> None:
    answer = perform(order(tmp_path, FAMILY))
    assert answer.outcome == "done" and gone(*json.loads((tmp_path / "pids.json").read_text()))


@pytest.mark.parametrize("victim", ["kernel", "guard"])
def test_a_killed_kernel_takes_everything_along(tmp_path: Path, victim: str) -> None:
    answers: list[Answer] = []
    wish = order(tmp_path, FAMILY + "time.sleep(1000)")
    worker = threading.Thread(target=lambda: answers.append(perform(wish)))
    worker.start()
    pids = family(tmp_path)
    os.kill(pids[0] if victim == "kernel" else psutil.Process(pids[0]).ppid(), signal.SIGKILL)
    worker.join(60)
    assert answers[0].kind == "kernel" and "killed" in answers[0].what
    waited(lambda: gone(*pids))


PERFORMER = """
import sys, time
from pathlib import Path
from tests.test_kernels import order, FAMILY, perform
perform(order(Path(sys.argv[1]), FAMILY + "time.sleep(1000)"))
"""


@pytest.mark.parametrize("turn", range(KILLS))
def test_a_killed_executor_leaves_nothing(tmp_path: Path, turn: int) -> None:
    executor = subprocess.Popen([sys.executable, "-c", PERFORMER, str(tmp_path)], cwd=Path(__file__).parent.parent)
    pids = family(tmp_path)
    guard = psutil.Process(pids[0]).ppid()
    executor.kill()
    executor.wait()
    waited(lambda: gone(guard, *pids))


def test_a_killed_nursery_is_replaced_and_its_kernels_go_on(tmp_path: Path) -> None:
    answers: list[Answer] = []
    wish = order(
        tmp_path, FAMILY, "open('go', 'a').close()\nwhile not os.path.exists('on'): time.sleep(0.01)\nprint('on')"
    )
    worker = threading.Thread(target=lambda: answers.append(perform(wish)))
    worker.start()
    pids = family(tmp_path)
    nursery = psutil.Process(psutil.Process(pids[0]).ppid()).ppid()
    assert "kernels.nursery" in " ".join(psutil.Process(nursery).cmdline())
    os.kill(nursery, signal.SIGKILL)
    waited(lambda: gone(nursery))
    other = tmp_path / "other"
    other.mkdir()
    assert perform(order(other, "'new'")).outcome == "done"
    (tmp_path / "on").touch()
    worker.join(60)
    assert answers[0].outcome == "done" and texts(tmp_path)[1] == "on\n"
    waited(lambda: gone(*pids))


def test_the_nursery_has_one_thread_and_nothing_of_anybodys(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("WHO = 1")
    look = "import mine, os, psutil\nprint(psutil.Process(os.getppid()).ppid())"  # the guard's parent: others have nurseries too
    assert perform(order(tmp_path, look, environ={"DB_PASSWORD": "open sesame"})).outcome == "done"
    nursery = psutil.Process(int(texts(tmp_path)[0]))
    assert "kernels.nursery" in " ".join(nursery.cmdline())
    assert nursery.num_threads() == 1 and "DB_PASSWORD" not in nursery.environ()
    assert not any(str(tmp_path) in part for part in nursery.cmdline())


def test_many_at_once(tmp_path: Path) -> None:
    answers: list[Answer] = []

    def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        answers.append(perform(order(folder, f"print({number} ** 2)")))
        assert texts(folder) == [f"{number**2}\n"]

    workers = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [answer.outcome for answer in answers] == ["done"] * 8
    assert len({answer.pid for answer in answers}) == 8
