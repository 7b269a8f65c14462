"""Live results without a browser: what is displayed where, what the page is told, what it may ask for, and a stop that arrives in another thread."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aiplat.core import ledger, show
from aiplat.core.show import Result, Text
from aiplat.frontends.widgets import alive, kit
from aiplat.frontends.widgets.gateboard import GateBoard, entry
from aiplat.frontends.widgets.leaderboard import ROWS, LiveBoard, told
from aiplat.release import registry
from aiplat.training import leaderboard
from aiplat.training.driving import Interrupt
from aiplat.training.leaderboard import Board, Row
from tests import models

HERE = Path(alive.__file__).parent
HOSTILE = "<img src=x onerror=alert(1)>\u202eevil"


# ---------------------------------------------------------------- the hook


class Plain(Result):
    def blocks(self) -> list[Any]:
        return [Text("still")]


@pytest.fixture
def formatter() -> Iterator[Any]:
    from IPython.core.formatters import DisplayFormatter

    yield DisplayFormatter()
    alive.off()


def test_without_the_hook_results_show_their_still_forms(formatter: Any) -> None:
    assert show.enliven is None
    assert set(formatter.format(Plain())[0]) == {"text/html", "text/plain"}


def test_with_the_hook_a_result_without_a_live_form_stays_still(
    formatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive.on()
    monkeypatch.setattr(alive, "watched", lambda: True)
    assert set(formatter.format(Plain())[0]) == {"text/html", "text/plain"}


def test_a_live_result_is_a_marked_still_form_and_a_widget(formatter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    shown: list[tuple[Any, bool]] = []
    monkeypatch.setattr(IPython.display, "display", lambda what, raw=False: shown.append((what, raw)))
    monkeypatch.setattr(alive, "watched", lambda: True)
    monkeypatch.setattr(alive, "LIVING", {"Plain": f"{__name__}:hello"})
    alive.on()
    assert formatter.format(Plain()) == ({}, {}), "nothing else is shown"
    (bundle, raw), (widget, _) = shown
    assert raw and f'data-aiplat-still="{widget.still}"' in bundle["text/html"] and widget.still
    assert ">still<" in bundle["text/html"] and bundle["text/plain"] == "still"
    assert widget._repr_mimebundle_()[0]["text/plain"] == "", "a saved notebook says it once"


def hello(result: Result) -> kit.Alive:
    class Hello(kit.Alive):
        _esm = "export default { render() {} }"

    return Hello()


def test_every_row_of_the_table_leads_somewhere() -> None:
    for name, place in alive.LIVING.items():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function)), name


def test_the_magics_hang_the_hooks_in_and_take_them_away() -> None:
    code = (
        "from IPython.testing.globalipapp import start_ipython; ip = start_ipython()\n"
        "from aiplat.core import show; from aiplat.training import leaderboard\n"
        "ip.run_line_magic('load_ext', 'aiplat'); assert show.enliven and leaderboard.live\n"
        "import sys; assert 'anywidget' not in sys.modules and 'ipywidgets' not in sys.modules\n"
        "ip.run_line_magic('unload_ext', 'aiplat'); assert show.enliven is None and leaderboard.live is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_executed_notebook_keeps_still_forms_and_no_widget(tmp_path: Path) -> None:
    """nbclient, as papermill and nbconvert use it, is a kernel with nobody who looks; an editor names the cell that it sends."""
    import nbformat
    from nbclient import NotebookClient

    made = models.governed(tmp_path)
    assert made.root == tmp_path
    source = (
        "%load_ext aiplat\nfrom aiplat.training.leaderboard import view\nfrom aiplat.frontends.widgets import alive\n"
        "print(alive.watched(), type(view(lambda: None)).__name__)"
    )
    looked = "ip = get_ipython(); parent = ip.kernel.get_parent('shell'); parent['metadata']['cellId'] = 'c1'\nprint(alive.watched(), type(view(lambda: None)).__name__)"
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell(looked)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell.outputs[0]["text"].strip() for cell in notebook.cells] == ["False Notebook", "True LiveBoard"]


# ---------------------------------------------------------------- files that the browser gets


@pytest.mark.parametrize("name", ["kit.js", "leaderboard.js", "gateboard.js"])
def test_scripts_set_text_as_text_and_ask_nobody(name: str) -> None:
    script = (HERE / name).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", script)


@pytest.mark.parametrize("name", ["look.css", "leaderboard.css", "gateboard.css"])
def test_every_colour_of_the_theme_has_a_fallback(name: str) -> None:
    sheet = (HERE / name).read_text(encoding="utf-8")
    assert not re.search(r"var\(--jp-[\w-]+\)", sheet) and "@import" not in sheet and "url(" not in sheet


# ---------------------------------------------------------------- the leaderboard


def board(*rows: Row, **more: Any) -> Board:
    return Board("roc_auc", list(rows), len(rows), 20, **more)


def test_the_page_gets_the_best_rows_as_plain_data() -> None:
    rows = [
        Row("linear", 0.9, 0.01, 1.0, HOSTILE, "good"),
        *(Row(f"m{i}", 0.5) for i in range(ROWS + 4)),
        Row("x", float("nan")),
    ]
    data = told(board(*rows, elapsed=2.0), led := [])
    assert (
        len(data["rows"]) == ROWS and data["more"] == 6 and led == [[2.0, 0.9]] and data["rows"][0]["note"] == HOSTILE
    )
    json.dumps(data, allow_nan=False)


def test_a_search_without_a_whole_trial_has_no_leader() -> None:
    led: list[list[float]] = []
    told(board(Row("linear", 0.8, kind="dim"), Row("baseline", 0.5)), led)
    assert led == []


def test_a_press_is_heard_while_the_kernel_works() -> None:
    with Interrupt() as interrupt:
        live = LiveBoard(interrupt.ask, interval=0.0)
        heard: list[Any] = []
        live._widget.send = heard.append
        press = threading.Thread(target=lambda: live._widget._handle_custom_msg({"kind": "stop"}, []))
        press.start()
        press.join()
        assert interrupt.asked and heard == [{"kind": "heard"}]
        live._widget.close()


BUSY = """
import threading, time
from aiplat.frontends.widgets.leaderboard import Leaderboard
from IPython.display import display
pressed = threading.Event()
board = Leaderboard(pressed.set, board={})
turns = 0
while not pressed.is_set() and turns < 3000:  # a search shows its board from the main thread, over and over
    board.board = {"elapsed": turns}
    turns += 1
    time.sleep(0.02)
print("stopped" if pressed.is_set() else "not heard")
"""


def test_a_busy_kernel_hears_the_press_in_its_subshell() -> None:
    """As JupyterLab sends it: a comm message whose header names a subshell, while the main shell executes."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    try:
        client.execute(BUSY)
        comm = shown = ""
        while not shown:  # the board is shown from the busy thread
            said = client.get_iopub_msg(timeout=120)
            assert said["msg_type"] != "error", said["content"]
            data = said["content"].get("data", {})
            if said["msg_type"] == "comm_open" and data["state"].get("_model_name") == "AnyModel":
                comm = said["content"]["comm_id"]
            shown = comm if said["msg_type"] == "comm_msg" and said["content"]["comm_id"] == comm else ""
        asked = client.session.msg("create_subshell_request", {})
        client.control_channel.send(asked)
        subshell = client.control_channel.get_msg(timeout=60)["content"]["subshell_id"]
        press = client.session.msg(
            "comm_msg", {"comm_id": comm, "data": {"method": "custom", "content": {"kind": "stop"}}}
        )
        press["header"]["subshell_id"] = subshell
        client.shell_channel.send(press)
        told_: set[str] = set()
        while "heard" not in told_ or len(told_) < 2:  # two threads of the kernel tell: either may be first
            said = client.get_iopub_msg(timeout=120)
            if said["msg_type"] == "stream":
                told_.add(said["content"]["text"].strip())
            elif said["msg_type"] == "comm_msg" and said["content"]["data"].get("method") == "custom":
                told_.add(said["content"]["data"]["content"]["kind"])
        assert told_ == {"heard", "stopped"}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_the_view_of_a_search_ends_as_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import IPython.display

    told_: list[Any] = []

    class Place:
        def update(self, what: Any, raw: bool) -> None:
            told_.append(what)

    monkeypatch.setattr(IPython.display, "display", lambda what, **more: told_.append(what) or Place())
    live = LiveBoard(lambda: None, interval=0.0)
    for done in range(3):
        live.show(board(Row("linear", 0.9, 0.01, 1.0, "", "good"), elapsed=float(done)))
    live.close(board(Row("linear", 0.9, 0.01, 1.0, "", "good"), elapsed=9.0, left=30.0, ending=True))
    still, widget, last, empty = told_
    assert "<table" in still["text/html"] and "application/vnd.jupyter.widget-view+json" in widget
    assert "<table" not in last["text/html"] and empty == {"text/plain": ""} and "left" not in last["text/plain"]
    assert live._widget.comm is None


def test_the_view_is_asked_for_only_where_there_is_a_way_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(leaderboard, "live", asked.append)
    leaderboard.view(lambda: None), leaderboard.view()
    assert asked == [], "no kernel, no widget"


# ---------------------------------------------------------------- the gate board


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A version that lacks nothing but an approval; each test asks the gate anew."""
    folder, before = tmp_path_factory.mktemp("home"), Path.cwd()
    os.chdir(folder)
    ws = models.governed(folder)
    models.evident(ws, (logged := models.trained(ws)).run)
    registry.register(logged.run.id, "credit")
    yield ws
    os.chdir(before)
    os.environ.pop("AIPLAT_USER", None)


def boarded(ws: Any, person: str) -> GateBoard:
    models.acting(ws, person)
    return GateBoard(registry.gate("credit/1", to="production"))


def keys(widget: GateBoard) -> dict[str, str]:
    """What may be done: verb to key."""
    return {deed["verb"]: deed["key"] for deed in widget.board["may"] if not deed["why"]}


def test_the_board_offers_what_the_person_may_do(home: Any) -> None:
    ana = boarded(home, "ana")
    assert not {"approve", "refuse"} & set(keys(ana)) and all(
        deed["why"] for deed in ana.board["may"] if deed["verb"] == "approve"
    )
    before = len(ledger.entries(home))
    forged = boarded(home, "rosa").board["may"][0]["key"]
    models.acting(home, "ana")
    said = ana.answer({"kind": "do", "key": forged, "reason": "as rosa would"})
    assert not said["ok"] and len(ledger.entries(home)) == before, "a button that is not hers does nothing"


def test_a_word_is_given_refused_and_taken_back_on_the_board(home: Any) -> None:
    rosa = boarded(home, "rosa")
    assert rosa.answer({"kind": "do", "key": keys(rosa)["approve"], "reason": "looked"})["ok"] and rosa.board["holds"]
    ali = boarded(home, "ali")
    said = ali.answer({"kind": "do", "key": keys(ali)["refuse"], "reason": HOSTILE})
    assert said["ok"], said
    assert (
        not ali.board["holds"]
        and ali.board["rows"][-1]["verdict"] == "refused"
        and "evil" in ali.board["rows"][-1]["found"]
    )
    assert not rosa.answer({"kind": "do", "key": "promote:credit/1:production", "reason": "now"})["ok"]
    models.acting(home, "ali")
    back = next(key for verb, key in keys(ali).items() if verb.startswith("withdraw"))
    assert ali.answer({"kind": "do", "key": back, "reason": "looked again"})["ok"] and ali.board["holds"]
    models.acting(home, "rosa")
    rosa.answer({"kind": "look"})
    said = rosa.answer({"kind": "do", "key": keys(rosa)["promote"], "reason": "in time for Monday"})
    assert said["ok"] and rosa.board["holder"] == "credit/1", said


def test_a_record_is_shown_as_it_is_and_cut_when_long(home: Any) -> None:
    rosa = boarded(home, "rosa")
    for row in rosa.board["rows"]:
        for seq in row["seqs"]:
            said = rosa.answer({"kind": "entry", "seq": seq})
            assert said["kind"] == "entry" and len(said["text"]) <= 6000 and dict(said["facts"])["by"]
    assert entry(home, 1)["seq"] == 1


@pytest.mark.parametrize(
    "said",
    [
        {"kind": "entry", "seq": 10**9},
        {"kind": "entry", "seq": "x"},
        {"kind": "do"},
        {"kind": "do", "key": "rm:-rf:/", "reason": "x"},
    ],
)
def test_nonsense_is_answered_in_two_lines(home: Any, said: dict[str, Any]) -> None:
    before = len(ledger.entries(home))
    answer = boarded(home, "rosa").answer(said)
    assert answer["ok"] is False and answer["what"] and answer["todo"] and len(ledger.entries(home)) == before
