"""Every tutorial runs from top to bottom, as a pipeline step would run it."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest

from aiplat.core import workspace
from tests.conftest import run_cli

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted(path.stem for path in (ROOT / "nbs" / "tutorials").glob("*.ipynb") if path.stem != "quickstart")
SHORT = {"fairness": ["-p", "adult", "none", "-p", "trials", "1"]}  # the quickstart is what `demo` runs


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs(tmp_path: Path, ray_address: str, name: str) -> None:
    shutil.copy(ROOT / "settings.ini", tmp_path)
    shutil.copy(ROOT / "nbs" / "tutorials" / f"{name}.ipynb", tmp_path)
    assert workspace.workspace(tmp_path).root == tmp_path
    run_cli("pipeline", "run", f"{name}.ipynb", *SHORT.get(name, []), "--out", "ran.ipynb", cwd=tmp_path, timeout=580)
    ran = nbformat.read(tmp_path / "ran.ipynb", 4)
    assert all(cell.get("outputs") or cell.execution_count for cell in ran.cells if cell.cell_type == "code")
