"""Forms of verbs in JupyterLab: train from one, watch it, stop it, open its result; notebooks as pipelines; reloads and restarts in between."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.homes import HELD, SLOW, Homes, Visit, until, write_notebook

TRAIN = "() => window.jupyterapp.commands.hasCommand('aiplat:verb-train')"
FORM, JOB = ".aip-form:visible", ".aip-job:visible"
# Of the fields in order: which one has the keyboard.
FIELD = "() => document.activeElement?.closest('[data-field]')?.dataset.field ?? null"


@pytest.fixture
def lab(visit: Visit) -> Callable[..., Any]:
    """Opens JupyterLab and waits until the palette knows the verbs."""

    def opened(path: str = "", **how: Any) -> Any:
        page = visit.lab(path, **how)
        page.wait_for_function(TRAIN, timeout=SLOW)
        first = ".jp-NotebookPanel:visible .jp-CodeCell" if path else ".jp-Launcher:visible"
        page.wait_for_selector(first, timeout=SLOW)  # whatever opens at the start takes the keyboard
        return page

    return opened


@pytest.fixture
def gates(seeded: Any) -> Iterator[Callable[[str], Path]]:
    """Files for which notebooks wait; opened at the end, so that nothing waits for ever."""
    made: list[Path] = []

    def gate(name: str) -> Path:
        made.append(seeded.root / f"{name}.go")
        return made[-1]

    yield gate
    for each in made:
        each.touch()


def slow_notebook(root: Path, name: str, gate: Path) -> None:
    """A notebook whose second cell of three waits for a file."""
    wait = (
        f"import pathlib, time\nprint('waiting')\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.05)"
    )
    cells = [
        ("rows: int = 3  # how many rows\nsegment: str = 'north'  # which branch\ndraft: bool = True", ("parameters",)),
        ("print(f'{rows} rows of {segment}')", ()),
        (wait, ()),
        ("print('over', draft)", ()),
    ]
    write_notebook(root / f"{name}.ipynb", cells)


def ask(visit: Visit, page: Any, verb: str, **fields: str) -> None:
    """Open a verb's form and fill it."""
    visit.command(page, f"aiplat:verb-{verb.replace(' ', '-')}")
    page.wait_for_selector(f"{FORM} button[type=submit]")
    for name, value in fields.items():
        page.fill(f"{FORM} >> [data-field={name}] input", value)


def submit(page: Any) -> None:
    page.click(f"{FORM} >> button[type=submit]")
    page.wait_for_selector(f"{JOB} .aip-state")


def wait_state(page: Any, state: str) -> None:
    page.wait_for_selector(f"{JOB} .aip-state-{state}", timeout=SLOW)


def wrong(visit: Visit, page: Any) -> list[str]:
    """What went wrong in the page, without what the browser says of a line that the server refused, as it should, and of a page that is left."""
    return [
        said
        for said in visit.wrong(page)
        if said != "dialog: " and not re.search(r"status of 4\d\d .*/api/verbs/[\w-]+/line", said)
    ]


KEPT = """async tab => { const name = location.pathname.split('/workspaces/')[1].split('/')[0];
  const kept = await (await fetch(`/lab/api/workspaces/${name}`)).json();
  return JSON.stringify(kept.data?.['layout-restorer:data'] ?? '').includes(tab); }"""


def reload(visit: Visit, page: Any, tab: str) -> None:
    """Reload once Lab has kept the layout with a tab, which it does some moments after the tab came."""
    until(page, KEPT, tab)
    page.reload()
    visit.ready(page)


def job_of(homes: Homes) -> dict[str, Any]:
    """The newest job."""
    newest = homes.ask("/aiplat/api/jobs?limit=1")["jobs"][0]
    return homes.ask(f"/aiplat/api/jobs/{newest['id']}")


def test_every_verb_has_a_command_and_a_form(lab: Any, visit: Visit, homes: Homes) -> None:
    page = lab()
    verbs = [verb["name"] for verb in homes.ask("/aiplat/api/verbs")["verbs"]]
    commands = page.evaluate(
        "() => window.jupyterapp.commands.listCommands().filter(c => c.startsWith('aiplat:verb-'))"
    )
    assert {f"aiplat:verb-{verb.replace(' ', '-')}" for verb in verbs} <= set(commands)
    for verb in verbs:
        schema = homes.ask(f"/aiplat/api/verbs/{verb.replace(' ', '-')}")["schema"]
        visit.command(page, f"aiplat:verb-{verb.replace(' ', '-')}")
        page.wait_for_selector(f"{FORM} button[type=submit]")
        shown = page.eval_on_selector_all(f"{FORM} >> [data-field]", "rows => rows.map(row => row.dataset.field)")
        assert sorted(shown) == sorted(schema["properties"]), verb
        needed = schema.get("required", [])
        assert sorted(shown[: len(needed)]) == sorted(needed), verb
        visit.command(page, "application:close")
    assert not wrong(visit, page)


def test_train_by_keyboard_and_open_the_result(lab: Any, visit: Visit, homes: Homes) -> None:
    page = lab()
    keys = page.keyboard
    page.click("#jp-top-panel")  # the last time that the mouse is used
    keys.press("Control+Shift+C")
    page.wait_for_selector(".lm-CommandPalette-input:focus")
    keys.type("train: search for")
    page.wait_for_function(
        "() => document.querySelector('.lm-CommandPalette-item.lm-mod-active')?.textContent.startsWith('train:')"
    )
    keys.press("Enter")
    page.wait_for_function(f"() => ({FIELD})() === 'data'")
    keys.type("sample:credit")
    keys.press("Tab")
    assert page.evaluate(FIELD) == "target"
    keys.press("Enter")  # too early
    page.wait_for_selector(f"{FORM} >> [data-field=target] .aip-wrong:text('Target is needed')")
    keys.type("approved")
    wanted = {"trials": "many", "candidates": "linear", "name": "by hand"}
    for _ in range(20):
        keys.press("Tab")
        if (name := page.evaluate(FIELD)) in wanted:
            keys.type(wanted.pop(name))
        if not wanted:
            break
    keys.press("Enter")
    page.wait_for_selector(f"{FORM} >> [data-field=trials] .aip-wrong:text('many is not a number')")
    assert page.evaluate(FIELD) == "trials"
    visit.keep(page, "form-wrong")
    assert not visit.axe(page, ".aip-form")
    keys.press("Control+A")
    keys.type("2")
    page.wait_for_selector(f"{FORM} >> .aip-line:text('--trials 2')")
    assert "%aiplat train sample:credit --target approved" in page.inner_text(f"{FORM} >> .aip-line")
    assert not visit.axe(page, ".aip-form")
    keys.press("Enter")
    page.wait_for_selector(f"{JOB} .aip-state")
    wait_state(page, "done")
    page.wait_for_selector(f"{JOB} .aip-result:has-text('roc_auc')")
    assert not visit.axe(page, ".aip-job")
    visit.keep(page, "job-done")
    made = job_of(homes)
    assert made["verb"] == "train" and made["exit_code"] == 0 and made["made"]["run"]
    for _ in range(10):
        keys.press("Tab")
        if page.evaluate("() => document.activeElement.textContent") == "Open run":
            break
    keys.press("Enter")
    page.wait_for_selector(f".jp-MainAreaWidget:visible:not(:has({JOB.removesuffix(':visible')})) >> text=roc_auc")
    assert not wrong(visit, page)


def test_the_line_goes_into_the_notebook(lab: Any, visit: Visit, seeded: Any) -> None:
    write_notebook(seeded.root / "lines.ipynb", [("x = 1", ())])
    page = lab("lines.ipynb", script=HELD)
    ask(visit, page, "train", data="sample:credit", target="approved")
    page.wait_for_selector(f"{FORM} >> .aip-line:text('--target approved')")
    # what is inserted is what stands in the fields, though the line below is older
    page.evaluate("window.__hold = '/line'")
    page.fill(f"{FORM} >> [data-field=by] input", "sex, age group")
    page.click(f"{FORM} >> text=Insert %aiplat line")
    page.wait_for_function("() => window.__held > 0")
    page.evaluate("window.__hold = null")
    page.wait_for_selector(".jp-NotebookPanel:visible")
    source = "() => window.jupyterapp.shell.currentWidget?.content?.activeCell?.model?.sharedModel?.getSource?.()"
    line = "%load_ext aiplat\n%aiplat train sample:credit --target approved --by 'sex,age group'"
    page.wait_for_function(f"wanted => ({source})() === wanted", arg=line)
    ask(visit, page, "models")
    page.click(f"{FORM} >> text=Insert %aiplat line")
    page.wait_for_function(f"wanted => ({source})() === wanted", arg="%aiplat models")  # the magics are loaded above
    assert not wrong(visit, page)


def test_without_a_notebook_the_line_has_no_place(lab: Any, visit: Visit) -> None:
    page = lab()
    ask(visit, page, "models")
    page.click(f"{FORM} >> text=Insert %aiplat line")
    page.wait_for_selector(f"{FORM} >> .aip-problem-what:text('No notebook is open')")
    assert page.inner_text(f"{FORM} >> .aip-problem-todo") == "Open one, and insert the line again."


def test_what_goes_wrong_is_said_in_two_lines(lab: Any, visit: Visit) -> None:
    page = lab(theme="dark")
    # what the command line refuses is refused while one types
    ask(visit, page, "pipeline run", pipeline="night.ipynb", matrix="lr")
    ask(visit, page, "audit", ref="nothing", data="sample:credit", by="sex")
    submit(page)
    wait_state(page, "failed")
    shown = page.inner_text(f"{JOB} .aip-result") if page.query_selector(f"{JOB} .aip-result") else page.inner_text(JOB)
    assert "nothing" in shown and "→" in shown
    assert "Traceback" not in shown
    visit.keep(page, "job-failed-dark")
    assert not visit.axe(page, ".aip-job")
    # the form comes back with what was typed
    page.click(f"{JOB} >> text=Change and run again")
    page.wait_for_selector(f"{FORM} >> [data-field=ref] input")
    assert page.input_value(f"{FORM} >> [data-field=ref] input") == "nothing"
    visit.keep(page, "form-dark")
    assert not visit.axe(page, ".aip-form")
    assert not wrong(visit, page)


def test_a_search_outlives_reload_and_crash_and_is_stopped_in_its_tab(lab: Any, visit: Visit, homes: Homes) -> None:
    page = lab()
    ask(visit, page, "train", data="sample:credit", target="approved", trials="5000", budget="10m", candidates="linear")
    page.wait_for_selector(f"{FORM} >> .aip-line:text('5000')")
    submit(page)
    page.wait_for_selector(f"{JOB} .aip-progress :text('trials')", timeout=SLOW)
    visit.keep(page, "job-running")
    assert not visit.axe(page, ".aip-job")
    job = job_of(homes)["id"]

    reload(visit, page, f"aiplat-jobs:{job}")
    wait_state(page, "running")

    homes.stop(signal.SIGKILL)
    page.wait_for_selector(f"{JOB} .aip-problem-what", timeout=SLOW)
    visit.keep(page, "job-server-away")
    homes.start()
    page.wait_for_selector(f"{JOB} .aip-problem-what", state="detached", timeout=SLOW)
    wait_state(page, "running")
    page.wait_for_selector(f"{JOB} .aip-progress :text('trials')", timeout=SLOW)

    while page.query_selector(".jp-Dialog"):  # in which Lab itself says that its server was away
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)
    page.press(f"{JOB} >> button.aip-stop", "Enter")
    wait_state(page, "stopped")
    page.wait_for_selector(f"{JOB} .aip-result:has-text('roc_auc')", timeout=SLOW)  # what it had found is kept
    visit.keep(page, "job-stopped")
    stopped = job_of(homes)
    assert (stopped["id"], stopped["state"]) == (job, "stopped") and stopped["made"]["run"], stopped


def newest(homes: Homes, state: str) -> Any:
    """The newest run of a pipeline, once it is in a state: it ends after its last step, which is what a copy shows."""
    end = time.monotonic() + SLOW / 1000
    while (run := homes.ask("/aiplat/api/pipelines")["runs"][0])["state"] != state:
        assert time.monotonic() < end, run
        time.sleep(0.3)
    return run


def test_a_notebook_runs_as_a_pipeline(lab: Any, visit: Visit, homes: Homes, seeded: Any, gates: Any) -> None:
    gate = gates("evening")
    slow_notebook(seeded.root, "evening", gate)
    page = lab("evening.ipynb")
    page.click(".jp-NotebookPanel:visible >> text=Run as pipeline")
    page.wait_for_selector(f"{FORM} >> [data-field=rows] input")
    fields = page.eval_on_selector_all(f"{FORM} >> [data-field]", "rows => rows.map(row => row.dataset.field)")
    assert fields == ["rows", "segment", "draft"]
    assert page.get_attribute(f"{FORM} >> [data-field=rows] input", "placeholder") == "3"
    assert page.is_checked(f"{FORM} >> [data-field=draft] input")

    page.fill(f"{FORM} >> [data-field=rows] input", "3.5")
    page.click(f"{FORM} >> button[type=submit]")
    page.wait_for_selector(f"{FORM} >> .aip-wrong:text('3.5 is not a whole number')")
    page.fill(f"{FORM} >> [data-field=rows] input", "7")
    page.fill(f"{FORM} >> [data-field=segment] input", "south & <b>west</b>")
    page.uncheck(f"{FORM} >> [data-field=draft] input")
    visit.keep(page, "pipeline-form")
    assert not visit.axe(page, ".aip-form")
    page.click(f"{FORM} >> button[type=submit]")

    copy = ".jp-NotebookPanel:visible:has(.aip-copy-header)"
    page.wait_for_selector(f"{copy} >> text=7 rows of south & <b>west</b>", timeout=SLOW)
    page.wait_for_selector(f"{copy} >> .aip-copy-text:has-text('cell 4 of 5')", timeout=SLOW)
    page.wait_for_selector(f"{copy} >> .jp-OutputArea-output:has-text('waiting')", timeout=SLOW)
    page.wait_for_selector(".aip-job .aip-progress:has-text('cell 4 of 5')", state="attached", timeout=SLOW)
    assert not gate.exists() and page.query_selector(f"{copy} >> .jp-OutputArea-output:has-text('over')") is None
    assert page.query_selector(".jp-NotebookPanel:visible:not(:has(.aip-copy-header))")  # beside, not instead
    visit.keep(page, "pipeline-running")
    assert not visit.axe(page, ".aip-copy-header")

    reload(visit, page, "aiplat-copies:aiplat-run:")
    page.wait_for_selector(f"{copy} >> .jp-OutputArea-output:has-text('waiting')", timeout=SLOW)
    page.wait_for_selector(f"{copy} >> .aip-state-running", timeout=SLOW)
    assert "aiplat-run" not in page.url  # Lab would look for it in the file browser at the next reload
    gate.touch()
    page.wait_for_selector(f"{copy} >> .jp-OutputArea-output:has-text('over False')", timeout=SLOW)
    page.wait_for_selector(f"{copy} >> .aip-state-done", timeout=SLOW)
    assert page.query_selector(".jp-Dialog") is None, page.inner_text(".jp-Dialog")
    visit.keep(page, "pipeline-done")
    kernels = homes.ask("/api/sessions")
    assert all("aiplat-run" not in session["path"] for session in kernels)  # a record needs no kernel
    assert newest(homes, "done")["pipeline"] == "evening"
    assert not wrong(visit, page)


def test_the_copy_opens_when_the_last_news_came_during_a_question(
    lab: Any, visit: Visit, homes: Homes, seeded: Any, gates: Any
) -> None:
    slow_notebook(seeded.root, "slow", gates("slow"))
    page = lab("slow.ipynb")

    def held(route: Any) -> None:
        """Answer with what was true before the first cell, once nothing more will be told."""
        before = route.fetch().json()
        before["steps"][0].update(state="running", cell=None)
        run, end = route.request.url.rsplit("/", 1)[-1], time.monotonic() + 60
        while (now := homes.ask(f"/aiplat/api/pipelines/runs/{run}")["steps"][0]).get("cell") != 3:
            assert time.monotonic() < end, now
            time.sleep(0.1)
        page.wait_for_timeout(1000)  # until the page was told
        route.fulfill(json=before)

    page.route(re.compile(r"/aiplat/api/pipelines/runs/[\w-]+$"), held, times=3)
    page.click(".jp-NotebookPanel:visible >> text=Run as pipeline")
    page.click(f"{FORM} >> button[type=submit]")
    copy = ".jp-NotebookPanel:visible:has(.aip-copy-header)"
    page.wait_for_selector(f"{copy} >> .aip-copy-text:has-text('cell 3 of 4')", timeout=SLOW)
    page.wait_for_selector(f"{copy} >> .jp-OutputArea-output:has-text('waiting')", timeout=SLOW)
    page.unroute_all(behavior="ignoreErrors")


def test_stop_a_pipeline_above_its_copy(lab: Any, visit: Visit, homes: Homes, seeded: Any, gates: Any) -> None:
    slow_notebook(seeded.root, "dawn", gates("dawn"))
    page = lab("dawn.ipynb", theme="dark")
    page.click(".jp-NotebookPanel:visible >> text=Run as pipeline")
    page.click(f"{FORM} >> button[type=submit]")
    copy = ".jp-NotebookPanel:visible:has(.aip-copy-header)"
    page.wait_for_selector(f"{copy} >> .jp-OutputArea-output:has-text('waiting')", timeout=SLOW)
    visit.keep(page, "pipeline-running-dark")
    page.click(f"{copy} >> .aip-copy-header >> text=Stop")
    page.wait_for_selector(f"{copy} >> .aip-state-cancelled", timeout=SLOW)
    assert newest(homes, "cancelled")["pipeline"] == "dawn"


def test_the_job_of_a_pipeline_says_which_step(lab: Any, visit: Visit, homes: Homes, seeded: Any, gates: Any) -> None:
    folder = seeded.root / "pipelines"
    write_notebook(folder / "dusk.ipynb", [("print('first')", ())])
    slow_notebook(folder, "midnight", gates("midnight"))
    steps = '[steps.dusk]\nnotebook = "dusk.ipynb"\n[steps.midnight]\nnotebook = "midnight.ipynb"\nneeds = ["dusk"]\n'
    (folder / "late.toml").write_text(steps)
    page = lab()
    ask(visit, page, "pipeline run", pipeline="late")
    submit(page)
    page.wait_for_selector(f"{JOB} .aip-progress:has-text('step 2 of 2 · cell 3 of 4')", timeout=SLOW)
    visit.keep(page, "job-steps")
    assert not visit.axe(page, ".aip-job")
    page.press(f"{JOB} >> button.aip-stop", "Enter")
    wait_state(page, "stopped")
    assert page.evaluate("() => document.activeElement.matches('.aip-tab')"), "the keyboard is not lost with the button"
    assert homes.ask("/aiplat/api/pipelines")["runs"][0]["state"] == "cancelled"
    page.click(f"{JOB} >> text=Open steps")  # also of a run that was stopped
    page.wait_for_selector(".aip-Detail:visible:has-text('midnight.ipynb')", timeout=SLOW)
    assert not wrong(visit, page)


def test_a_narrow_window_and_hostile_names(lab: Any, visit: Visit, homes: Homes) -> None:
    page = lab(width=390, height=844)
    visit.command(page, "application:toggle-left-area")
    hostile = "<img src=x onerror=alert(1)>" + "long" * 400
    ask(visit, page, "train", data="sample:credit", target=hostile)
    page.wait_for_selector(f"{FORM} >> .aip-line:text('onerror')")
    box = "() => { const e = [...document.querySelectorAll('.aip-form')].pop(); return e.scrollWidth - e.clientWidth; }"
    assert page.evaluate(box) <= 0
    visit.keep(page, "form-narrow")
    submit(page)
    wait_state(page, "failed")
    visit.keep(page, "job-narrow")
    assert page.query_selector("img[src='x']") is None
    assert page.evaluate(box.replace("aip-form", "aip-job")) <= 0
    assert not visit.axe(page, ".aip-job")
    assert not [said for said in wrong(visit, page) if "dialog" in said]


def test_notebook_7_shows_forms_at_its_side(visit: Visit, seeded: Any) -> None:
    write_notebook(seeded.root / "seven.ipynb", [("rows: int = 3", ("parameters",)), ("print(rows)", ())])
    page = visit.notebook("seven.ipynb")
    page.wait_for_function(TRAIN, timeout=SLOW)
    page.wait_for_selector(".jp-NotebookPanel:visible .jp-CodeCell", timeout=SLOW)
    visit.command(page, "aiplat:run-as-pipeline")
    page.wait_for_selector(f"{FORM} >> [data-field=rows] input")
    page.fill(f"{FORM} >> [data-field=rows] input", "4")
    page.wait_for_selector(f"{FORM} >> .aip-line:text('-p rows 4')")
    visit.keep(page, "notebook7-form")
    assert re.search(r"aiplat", json.dumps(page.title())) is None  # the page is still the notebook's
    assert not wrong(visit, page)
