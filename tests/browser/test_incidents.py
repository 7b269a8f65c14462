"""What fails in the night, said in Lab and Notebook 7 while nobody looks at the panel: once, with the cell and the way on, and that it works again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.browser.conftest import PICTURES
from tests.browser.homes import SLOW, Homes, Visit, write_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TOAST = ".jp-Notification-Toast-{}"
# A desktop that keeps what is shown on it, behind a browser that has said yes, while another program is in front.
DESKTOP = """window.__desktop = []; document.hasFocus = () => false;
window.Notification = class { static permission = 'granted'; constructor(title, { body }) { window.__desktop.push(title + ' | ' + body) } };"""
# The browser's worst order: who is refused a lock hears of it long before who is given it.
SLOW_LOCKS = """const request = navigator.locks.request.bind(navigator.locks);
navigator.locks.request = (name, options, held) => request(name, options, async lock => {
  if (lock && options.ifAvailable) await new Promise(end => setTimeout(end, 1500));
  return held(lock);
});"""
# The other order: it comes second, is refused, and hears of that when the other window has spoken already.
LATE = """() => { const asked = navigator.locks.request;
navigator.locks.request = async (name, options, held) => {
  await new Promise(end => setTimeout(end, 700));
  return asked(name, options, async lock => {
    if (!lock) await new Promise(end => setTimeout(end, 3000));
    return held(lock);
  });
}; }"""
# A window whose storage does not have yet what another one has told.
BEHIND = """() => { const read = Storage.prototype.getItem;
Storage.prototype.getItem = function (key) {
  const found = read.call(this, key);
  return found && key.startsWith('aiplat:incidents') ? JSON.stringify({ ...JSON.parse(found), told: {} }) : found;
}; }"""
# Keeps the good news of a window, which close by themselves.
KEEP = """() => { window.__good = [];
const look = () => document.querySelectorAll('.jp-Notification-Toast-success .jp-toast-message').forEach(said => {
  if (said.textContent && !window.__good.includes(said.textContent)) window.__good.push(said.textContent);
});
new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true }); }"""
MARKUP = "<img src=x onerror='window.__ran=1'>"


@pytest.fixture(scope="module")
def home(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """A workspace whose pipeline fails at its second cell as long as there is no file `rows.csv`."""
    ws = models.governed(tmp_path_factory.mktemp("incidents") / "credit-risk")
    cells = [
        ("rows: int = 3", ("parameters",)),
        (f"from pathlib import Path\nassert Path('{ws.root}/rows.csv').exists(), \"no rows {MARKUP}\"", ()),
    ]
    write_notebook(ws.root / "ingest.ipynb", cells)
    (ws.root / "pipelines").mkdir()
    (ws.root / "pipelines" / "nightly.toml").write_text('[steps.ingest]\nnotebook = "../ingest.ipynb"\n')
    served = Homes(ws.root, tmp_path_factory.mktemp("jupyter"), environment={"AIPLAT_USER": "ana"})
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture
def look(home: Homes, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    opened = Visit(browser, home, Path(os.environ.get(PICTURES) or tmp_path))
    yield opened
    opened.close()


def count(page: Any, kind: str) -> int:
    return page.locator(TOAST.format(kind)).count()


def heard(page: Any) -> None:
    """Wait until this window has the incident in its list of notifications, said aloud or not."""
    page.wait_for_function(
        "() => document.querySelector('.jp-Notification-Status')?.textContent.trim() === '1'", timeout=SLOW
    )


def who_says(page: Any, other: Any, kind: str) -> Any:
    """The window that shows such a notification, when one does."""
    end = time.monotonic() + SLOW / 1000
    while not (count(page, kind) or count(other, kind)):
        assert time.monotonic() < end, f"neither window shows a notification: {kind}"
        page.wait_for_timeout(50)
    return page if count(page, kind) else other


def awake(look: Visit, page: Any) -> None:
    """Wait until the window tells what goes wrong from now on."""
    look.ready(page)
    key = "() => Object.keys(localStorage).some(key => key.startsWith('aiplat:incidents'))"
    page.wait_for_function(key, timeout=SLOW)


def test_a_failure_is_told_once_with_the_way_on_and_then_that_it_is_over(look: Visit, home: Homes) -> None:
    page = look.lab()
    page.context.add_init_script(SLOW_LOCKS)
    page.reload(wait_until="load")
    awake(look, page)
    other = page.context.new_page()  # a second window of the same browser
    other.goto(f"{home.address}/lab/workspaces/second", wait_until="load", timeout=SLOW)
    awake(look, other)

    failed = home.run("pipeline run", "nightly")
    assert failed.returncode != 0, failed.stdout
    heard(page), heard(other)
    spoke = who_says(page, other, "error")
    silent = other if spoke is page else page
    toast = spoke.locator(TOAST.format("error"))
    toast.wait_for(timeout=SLOW)
    assert count(spoke, "error") == 1 and count(silent, "error") == 0
    said = toast.locator(".jp-toast-message").inner_text().splitlines()
    assert said[0] == "nightly failed in step ingest" and said[1].startswith("Cell 2: AssertionError: no rows <img"), (
        said
    )
    assert spoke.evaluate("window.__ran") is None
    assert not look.axe(spoke, TOAST.format("error"))
    look.keep(spoke, "incident-lab")

    toast.get_by_role("button", name="Open Run").click()
    spoke.locator(".aip-Detail", has_text="no rows").wait_for(timeout=SLOW)
    silent.locator(".jp-Notification-Status").click()
    silent.get_by_role("button", name="Resume").click()
    field = silent.locator("[data-field=run] input, input[name=run]").first
    field.wait_for(timeout=SLOW)
    run = field.input_value()
    assert len(run) == 32, run
    look.keep(silent, "incident-resume")

    (home.root / "rows.csv").touch()
    spoke.evaluate(LATE), silent.evaluate(BEHIND)
    spoke.evaluate(KEEP), silent.evaluate(KEEP)
    mending = home.begin(
        "pipeline resume", run[:12]
    )  # the good news closes by itself, perhaps before the command has ended
    good = who_says(page, other, "success")
    good.locator(TOAST.format("success"), has_text="nightly works again").wait_for(timeout=SLOW)
    for window in (page, other):  # each hears of it for itself; then it has nothing to say of what was wrong
        window.locator(TOAST.format("error")).wait_for(state="hidden", timeout=SLOW)
    assert len(page.evaluate("window.__good") + other.evaluate("window.__good")) == 1
    said = mending.communicate(timeout=240)
    assert mending.returncode == 0, said
    assert not look.wrong(page)


def test_a_window_of_notebook_7_tells_it_too_and_what_was_wrong_before_is_no_news(look: Visit, home: Homes) -> None:
    (home.root / "rows.csv").unlink(missing_ok=True)
    home.run("pipeline run", "nightly")
    home.ask("/lab/api/settings/aiplat:plugin", "PUT", {"raw": json.dumps({"desktop": True})})
    page = look.notebook("ingest.ipynb")
    page.context.add_init_script(DESKTOP)
    page.reload(wait_until="load")
    awake(look, page)
    home.run("pipeline run", str(home.root / "ingest.ipynb"))
    toast = page.locator(TOAST.format("error"))
    toast.wait_for(timeout=SLOW)
    assert "ingest failed" in toast.inner_text() and toast.count() == 1, toast.all_inner_texts()
    toast.get_by_role("button", name="Copy Command").wait_for(timeout=SLOW)
    look.keep(page, "incident-notebook")
    told = page.evaluate("window.__desktop")
    assert len(told) == 1 and told[0].startswith("ingest failed in step ingest | Cell 2: AssertionError: no rows"), told
    (home.root / "rows.csv").touch()
    mending = home.begin("pipeline run", str(home.root / "ingest.ipynb"))
    page.locator(TOAST.format("success"), has_text="ingest works again").wait_for(timeout=SLOW)
    toast.wait_for(state="hidden", timeout=SLOW)
    said = mending.communicate(timeout=240)
    assert mending.returncode == 0, said
    assert not look.wrong(page)
