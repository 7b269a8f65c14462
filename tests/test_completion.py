"""Completion and help as front ends ask for them: of a real kernel, in a workspace with models, runs, pipelines and schedules."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiplat.frontends import choices, completion
from aiplat.frontends.verbs import VERBS
from tests.browser.homes import seed, write_notebook
from tests.conftest import run_cli


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace after two weeks of work, with files beside it."""
    ws = seed(tmp_path_factory.mktemp("shop"))
    (ws.root / "peer review.csv").write_text("name,hours per week,income\nx,1,2\n")
    (ws.root / "data").mkdir()
    (ws.root / "data" / "people.csv").write_text("age;sex\n1;x\n")
    (ws.root / "settings.ini").write_text((ws.root / "settings.ini").read_text() + "\n[profile:team]\nuser = ana\n")
    return ws


class Kernel:
    """A kernel, asked as JupyterLab, Notebook or VS Code would."""

    def __init__(self, folder: Path):
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder), startup_timeout=120)

    def run(self, code: str) -> str:
        """Run a cell; what it said, as text."""
        said: list[str] = []

        def hear(message: Any) -> None:
            content = message["content"]
            said.append(
                content.get("text")
                or str(content.get("data", {}).get("text/plain", ""))
                or "".join(content.get("traceback", []))
            )

        reply = self.client.execute_interactive(code, timeout=120, output_hook=hear)
        assert reply["content"]["status"] == "ok", said
        return "\n".join(filter(None, said))

    def complete(self, code: str, at: int | None = None) -> tuple[list[str], str, dict[str, str]]:
        """The matches, the text that they replace, and what each is about."""
        asked = self.client.complete(code, len(code) if at is None else at)
        content = self._answer(asked)
        about = {
            one["text"]: one["type"].replace("\N{NO-BREAK SPACE}", " ").replace(" · ", "·")
            for one in content["metadata"].get("_jupyter_types_experimental", [])
        }
        return content["matches"], code[content["cursor_start"] : content["cursor_end"]], about

    def inspect(self, code: str) -> str:
        """What Shift-Tab shows."""
        return str(self._answer(self.client.inspect(code, len(code)))["data"].get("text/plain", ""))

    def _answer(self, asked: str) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                reply = self.client.get_shell_msg(timeout=60)
            except queue.Empty:
                break
            if reply["parent_header"].get("msg_id") == asked:
                return reply["content"]
        raise AssertionError("the kernel did not answer")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(shop: Any) -> Iterator[Kernel]:
    made = Kernel(shop.root)
    made.run(
        "%load_ext aiplat\nimport pandas as pd\npeople = pd.DataFrame({'age': [31], 'hours per week': [40], 'income, net': [1]})\nn = 5"
    )
    yield made
    made.close()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("%aiplat tr", ["train", "traffic"]),
        ("y = %aiplat data s", ["snapshot"]),
        ("%aiplat help prom", ["promote"]),
        ("%%aiplat train pe", ["people", r"peer\ review.csv"]),
        ("%aiplat train people --tr", ["--trials"]),
        ("%aiplat mitigate last --method thr", ["threshold_optimizer"]),
        ("%aiplat mitigate last --method=thr", ["threshold_optimizer"]),
        ("%aiplat train people --by age,h", [r"hours\ per\ week"]),
        ("%aiplat train people --target 'hours p", ["hours per week'"]),
        ("%aiplat train people --drop inc", [r"income\\,\ net"]),
        ("%aiplat train 'peer review.csv' --target inc", ["income"]),
        ("%aiplat train data/people.csv --by s", ["sex"]),
        ("%aiplat train da", ["data/"]),
        ("%aiplat train data/p", ["data/people.csv"]),
        ("%aiplat train people --trials $n", ["$n"]),
        ("%aiplat train people --trials nothing", ["nothing"]),
        ("%aiplat train people --trials $p", ["$pd", "$people"]),
        ("%aiplat train people --metric roc_auc_", ["roc_auc_ovr"]),
        ("%aiplat audit last --by age_g", ["age_group"]),
        ("%aiplat audit credit@production --by age_g", ["age_group"]),
        ("%aiplat audit peop", ["people"]),
        ("%aiplat promote cred", ["credit@production", "credit", "credit/2", "credit/1"]),
        ("%aiplat promote credit/2 --to p", ["production"]),
        ("%aiplat rollback c", ["credit"]),
        ("%aiplat register last c", ["credit"]),
        ("%aiplat show la", ["last"]),
        ("%aiplat pipeline run week", ["weekly-audit"]),
        ("%aiplat pipeline run ni", ["night.ipynb"]),
        ("%aiplat pipeline run night.ipynb -p se", ["segment"]),
        ("%aiplat pipeline run night.ipynb -p draft ", ["true", "false"]),
        ("%aiplat pipeline run weekly-audit --from re", ["report"]),
        ("%aiplat pipeline runs --state fa", ["failed"]),
        ("%aiplat schedule pause week", ["weekly"]),
        ("%aiplat runs --profile t", ["team"]),
    ],
)  # fmt: skip
def test_what_may_stand_at_the_cursor(kernel: Kernel, line: str, wanted: list[str]) -> None:
    assert kernel.complete(line)[0] == wanted


def test_only_what_fits_is_replaced_and_every_word_says_what_it_is(kernel: Kernel) -> None:
    words, replaced, about = kernel.complete("%aiplat train people --by age,h")
    assert replaced == "h" and about == {words[0]: "column·people"}
    runs, _, about = kernel.complete("%aiplat show ")
    assert runs[0] == "last" and any(text == "run·by hand 3" for text in about.values())
    assert kernel.complete("%aiplat promote credit/")[2]["credit/1"] == "version·production"


def test_other_lines_are_not_ours(kernel: Kernel) -> None:
    assert "--by" not in kernel.complete("print('--b")[0] and "train" not in kernel.complete("tr")[0]
    assert kernel.complete("x = 1\n%aiplat trai")[0] == ["train"]
    assert kernel.complete("if True:\n    %aiplat trai")[0] == ["train"]
    assert kernel.complete("%aiplat train people \\\n   --tri")[0] == ["--trials"]
    middle = "%aiplat trai people --target age\nprint(n)"
    assert kernel.complete(middle, len("%aiplat trai"))[0] == ["train"]
    assert "train" not in kernel.complete("%aiplat runs # tra")[0]
    assert kernel.complete("peop")[0] == ["people"], "IPython's own completion is untouched"


def test_a_completed_line_runs(kernel: Kernel) -> None:
    """What is completed is what the verb reads."""
    line = "%aiplat data describe " + kernel.complete("%aiplat data describe pee")[0][0]
    assert "hours per week" in kernel.run(line)


def test_help_is_readable(kernel: Kernel) -> None:
    for text in (kernel.inspect("%aiplat"), kernel.run("%aiplat"), kernel.run("%aiplat --help")):
        assert "pipeline resume" in text and "Search for the best model" in text
    page = kernel.run("%aiplat train --help")
    assert "aiplat train DATA --target" in page and "--trials N" in page and "\x1b" not in page


def test_completing_imports_nothing_heavy_and_makes_nothing(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "settings.ini").write_text("[aiplat]\n")
    fresh = Kernel(tmp_path)
    try:
        fresh.run("%load_ext aiplat")
        for line in (
            "%aiplat show ",
            "%aiplat promote x",
            "%aiplat schedule pause ",
            "%aiplat pipeline show ",
            "%aiplat audit last --by ",
        ):
            fresh.complete(line)
        assert (
            fresh.run("import sys; print([name for name in ('mlflow', 'ray') if name in sys.modules])").strip() == "[]"
        )
        assert not list((tmp_path).rglob("*.db")), "looking makes nothing"
    finally:
        fresh.close()


def test_unload_leaves_nothing() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from aiplat.core import show

    shell = InteractiveShell.instance()

    def state() -> Any:
        magics = shell.magics_manager
        names = [set(magics.magics[kind]) for kind in ("line", "cell")] + [
            set(magics.registry) - {"ExtensionMagics"},
            set(shell.user_ns),
        ]
        return (
            names,
            list(shell.Completer.custom_matchers),
            dict(os.environ),
            show.enliven,
            list(shell.events.callbacks["pre_run_cell"]),
        )

    before = state()
    for _ in range(2):
        shell.run_line_magic("load_ext", "aiplat")
        assert "aiplat" in shell.magics_manager.magics["cell"] and shell.Completer.custom_matchers
        shell.run_line_magic("aiplat", "--version --debug")
        assert os.environ["AIPLAT_DEBUG"] == "1"
        shell.run_line_magic("unload_ext", "aiplat")
        assert state() == before
    InteractiveShell.clear_instance()


# ---- the same answers as the slow way


def test_the_quick_way_reads_what_the_slow_way_reads(shop: Any) -> None:
    quick, slow = choices.tracked(shop), choices._tracked_there(shop)
    assert quick == choices.Tracked(
        *[[tuple(row) if isinstance(row, tuple) else row for row in getattr(slow, name)] for name in vars(slow)]
    )
    assert choices.stored(shop) == choices._stored_there(shop)
    assert quick.runs and quick.aliases == [("credit", "production", 1)] and choices.stored(shop).incidents
    assert [choice.word for choice in choices.known("incident", shop)] == [
        id_[:8] for id_, _ in choices.stored(shop).incidents
    ]


def test_columns_of_a_run_are_those_it_was_trained_on(shop: Any) -> None:
    from aiplat.core.refs import find_run

    run = find_run(shop, "credit/1")
    for ref in ("credit/1", "models:/credit/1", "credit@production", run.id, run.id[:8]):
        assert choices.columns(ref, shop) == [*run.features, run.target], ref


def test_a_server_that_does_not_answer_costs_a_second_at_most_once(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    asked, go = [], threading.Event()

    def slow(ws: Any) -> choices.Tracked:
        asked.append(ws)
        assert go.wait(60)
        return choices.Tracked(names=["credit"])

    monkeypatch.setattr(choices, "_tracked_there", slow)
    monkeypatch.setattr(choices, "_patience", choices.Patience(wait=0.01))
    monkeypatch.setattr(type(shop), "tracking_uri", property(lambda self: "http://127.0.0.1:9"))
    assert [choice.word for choice in choices.known("name", shop)] == []
    assert [choice.word for choice in choices.known("name", shop)] == [] and len(asked) == 1, (
        "asked once, not once per key"
    )
    go.set()
    for thread in choices._patience._asked.values():
        thread.join(60)
    assert [choice.word for choice in choices.known("name", shop)] == ["credit"] and len(asked) == 1


# ---- any line

PIECES = st.sampled_from(
    [
        *(verb.name for verb in VERBS),
        "--by",
        "--to",
        "-p",
        "--",
        "'",
        '"',
        "\\",
        ",",
        "=",
        "$",
        "#",
        "people",
        "last",
        "~/",
        "../",
        "\0",
        " ",
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(PIECES | st.text(max_size=8), max_size=7), glue=st.sampled_from([" ", ""]))
def test_completing_any_line_fits_or_offers_nothing(
    shop: Any, monkeypatch: pytest.MonkeyPatch, parts: list[str], glue: str
) -> None:
    monkeypatch.chdir(shop.root)
    text = f"%aiplat {glue.join(parts)}"
    found = completion.completions(text, {"people": __import__("pandas").DataFrame({"a b": [1]})})
    words, fragment = found or ([], "")
    assert text.endswith(fragment) and all(choice.word.startswith(fragment) for choice in words)


@given(
    name=st.text(st.characters() | st.sampled_from("$,\\ '")).filter(lambda name: name.isprintable() and name.strip())
)
def test_a_completed_name_is_read_back(name: str) -> None:
    from aiplat.frontends.faces import split_list, variable
    from aiplat.frontends.magics import words_of

    (word,) = words_of(completion.quoted(name))
    assert split_list(variable(word, {})[1]) == [name]
    (word,) = words_of(completion.quoted(name, many=False))
    assert variable(word, {}) == (False, name)


def test_the_shell_line_is_not_disturbed(shop: Any) -> None:
    assert "credit/1" in run_cli("models", cwd=shop.root).stdout
    assert write_notebook(shop.root / "again.ipynb", [("1", ())]).exists()
