"""The dashboard as people see it: served by Voila, offline, with real content, in light and dark, on desk and phone."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiplat.core import workspace
from aiplat.core.workspace import shipped
from aiplat.frontends import dashboards
from tests.browser.conftest import PICTURES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOSTILE = "<img src=x onerror=alert(1)>"


def _fill(ws: Any) -> None:
    """A model in production, one that was moved past the gate, and a group with a hostile name."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from aiplat.data.sample import credit
    from aiplat.release.registry import promote, register
    from aiplat.training.runs import log_run
    from aiplat.trust.audit import audit

    people = credit(rows=3000, seed=1).dropna().reset_index(drop=True)
    people["sex"] = people["sex"].replace("female", HOSTILE)
    train, test = people.iloc[:2000], people.iloc[2000:]
    text = [name for name in people if people[name].dtype.kind not in "biuf"]
    numbers = [name for name in people if name not in text and name != "approved"]
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), (StandardScaler(), numbers))
    model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(
        train.drop(columns="approved"), train["approved"]
    )
    about = {
        "task": "binary",
        "target": "approved",
        "features": [*text, *numbers],
        "positive": "1",
        "name": "first try",
    }
    logged = log_run(ws, "train", model, train=train, test=test, **about)
    register(logged.run.id, "credit")
    audit("credit/1", by=["sex", "age_group"])
    promote("credit/1", to="production")
    register(logged.run.id, "shadow")
    ws.client().set_registered_model_alias("shadow", "production", "1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("credit")
    rules = {"metrics": "roc_auc >= 0.6", "fairness": "demographic_parity_ratio >= 0.1 by sex", "max_age": "30d"}
    ws = workspace.create(home, user="ana", gates={"production": rules})
    before = Path.cwd()
    os.chdir(home)
    try:
        _fill(ws)
        yield dashboards.dashboard(background=True).address
    finally:
        dashboards.end(ws)
        os.chdir(before)


def _keep(page: Any, name: str, tmp_path: Path) -> Path:
    picture = Path(os.environ.get(PICTURES) or tmp_path) / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)
    return picture


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_portfolio(served: str, offline: Any, theme: str, tmp_path: Path) -> None:
    page = offline(f"{served}&theme={theme}")
    page.wait_for_selector(".aiplat-page .seat", timeout=90_000)
    text = page.inner_text(".aiplat-page")
    wanted = [
        "Portfolio",
        "credit · version 1",
        "promoted by ana",
        "too old in 30 d",
        "made by",
        "roc_auc >= 0.6",
        "Fairness",
        "selected",
        "first try",
    ]
    for said in [*wanted, HOSTILE, "the chain holds", "somebody moved the alias past the gate"]:
        assert said in text, said
    assert page.title().lower() == "portfolio" and page.locator("img[src=x]").count() == 0
    assert "import" not in page.inner_text("body"), "Voila leaves the code out"
    back = page.evaluate("getComputedStyle(document.querySelector('.aiplat-page section.seat')).backgroundColor")
    brightness = sum(int(part) for part in back.strip("rgba()").split(",")[:3])
    assert (brightness < 200) == (theme == "dark")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 1600})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        assert _keep(page, f"portfolio-{theme}-{width}", tmp_path).stat().st_size > 20_000


def test_a_warm_page_knows_its_query(served: str, offline: Any) -> None:
    """A kernel that was started before anybody came learns which model is asked for, and whose page it is."""
    page = offline(f"{served.replace('portfolio.ipynb', 'model.ipynb')}&model=shadow/1&person=rosa")
    page.wait_for_selector(".aiplat-model .proofs", timeout=120_000)
    assert "shadow · version 1" in page.inner_text("h2") and "you are ana" in page.inner_text(".top")
    assert "Using pre-heated kernel" in (Path.cwd() / ".aiplat" / "dashboard.log").read_text()
    page.click(".menu button:has-text('Operations')")
    page.wait_for_selector(".aiplat-operations", timeout=120_000)
    assert page.inner_text(".menu [aria-current]") == "Operations"


def test_empty_workspace_says_what_to_do_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Any) -> None:
    ws = workspace.create(tmp_path / "new")
    monkeypatch.chdir(ws.root)
    try:
        page = offline(dashboards.dashboard(background=True).address)
        page.wait_for_selector(".aiplat-page .start", timeout=90_000)
        assert "%aiplat train sample:credit --target approved" in page.inner_text(".aiplat-page")
        assert not (ws.state / "mlflow.db").exists(), "looking makes nothing"
        _keep(page, "portfolio-empty", tmp_path)
    finally:
        dashboards.end(ws)


DIES = """import os, runpy, sys
for each in os.listdir(DEATHS):
    os.unlink(os.path.join(DEATHS, each))
    sys.exit("a port was taken meanwhile")
runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
"""


def test_a_page_comes_also_when_its_kernel_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Any) -> None:
    """Whether it dies at its start, while it is warm and waits for somebody, or at its start while somebody waits for it."""
    ws, deaths, spec = workspace.create(tmp_path / "new"), tmp_path / "deaths", tmp_path / "share/kernels/python3"
    spec.mkdir(parents=True)
    deaths.mkdir()
    (spec / "start.py").write_text(f"DEATHS = {str(deaths)!r}\n{DIES}")
    start = [sys.executable, str(spec / "start.py"), "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.chdir(ws.root)
    for each in shipped("dashboards").glob("*.ipynb"):
        (deaths / each.stem).touch()
    try:
        page = dashboards.dashboard(background=True)

        def comes(theme: str) -> None:
            shown = offline(f"{page.address}&theme={theme}")
            shown.wait_for_selector(".aiplat-page .start", timeout=120_000)
            shown.close()

        def kernels() -> list[psutil.Process]:
            found = []
            for each in psutil.Process(page.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):  # of a page that was closed just now
                    if "start.py" in " ".join(each.cmdline()):
                        found.append(each)
            return found

        comes("light")
        assert not any(deaths.iterdir()), "all died"
        (deaths / "cold").touch()
        comes("dark")
        assert not any(deaths.iterdir())
        end = time.monotonic() + 60
        while len(kernels()) < 5:
            assert time.monotonic() < end, "one for each page, again"
            time.sleep(0.1)
        for each in kernels():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        comes("light")
    finally:
        dashboards.end(ws)


def test_nobody_enters_without_the_token(served: str) -> None:
    with urllib.request.urlopen(served.partition("?")[0], timeout=10) as answer:
        assert "/login" in answer.geturl()
    assert served.startswith("http://127.0.0.1:")
