"""`aiplat demo`: the story that it tells is the story that the ledger proves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiplat.core.workspace import workspace
from aiplat.release.verify import verify
from tests.conftest import DATA, run_cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ADULT = DATA / "adult" / "adult-train.csv"


def _demo(folder: Path, ray: str, *arguments: str) -> dict:
    done = run_cli("demo", *arguments, "--json", cwd=folder, env={"AIPLAT_RAY": ray}, timeout=600)
    return json.loads(done.stdout)


def _check(told: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [line["text"] for line in told["first"]]
    order = [
        next(i for i, text in enumerate(first) if word in text)
        for word in ("trained", "refused", "mitigated", "rosa approved", "promoted")
    ]
    assert order == sorted(order)
    assert any("promoted" in line["text"] for line in told["second"])
    monkeypatch.chdir(home)
    assert verify().exit_code == 0
    assert (home.parent.parent / told["places"]["executed notebook"]).is_file()
    assert (home.parent.parent / told["places"]["model card"]).is_file()
    assert workspace().root == home


def test_demo_on_the_sample(tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = _demo(tmp_path, ray_address)
    assert "synthetic" in told["about"]
    _check(told, tmp_path / ".demo" / "credit-by-sex", monkeypatch)


@pytest.mark.skipif(
    not ADULT.exists(), reason="the Adult data is not here: the demo on somebody's own file is not tested"
)
def test_demo_on_a_file(tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = _demo(tmp_path, ray_address, str(ADULT), "--target", "income", "--by", "sex,race")
    _check(told, tmp_path / ".demo" / "income-by-sex-race", monkeypatch)


def test_own_data_needs_a_target(tmp_path: Path) -> None:
    done = run_cli("demo", "mine.csv", cwd=tmp_path, check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 2
