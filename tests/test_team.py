"""The same commands on a laptop and in a team's set-up, with nothing but settings changed.

The team's set-up is real: a Ray cluster of two nodes (two `ray start`s on this machine), an MLflow server process on PostgreSQL, the ledger in PostgreSQL, and the data
in PostgreSQL too.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

from aiplat.core import workspace
from tests.conftest import run_cli
from tests.servers import mlflow_server, postgres, postgres_programs, two_nodes

# two minutes when nothing else runs; beside all other tests, more than ten
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
GATE = {
    "production": {
        "metrics": "roc_auc >= 0.6",
        "fairness": "demographic_parity_ratio >= 0.80 by sex",
        "approvals": "1 by risk",
    }
}


def journey(home: Path, data: str, environment: dict[str, str]) -> dict:
    """From data to production; what every step printed as JSON."""

    def run(*args: str, user: str = "ana", exits: int = 0) -> dict:
        done = run_cli(*args, "--json", cwd=home, check=False, env={**environment, "AIPLAT_USER": user}, timeout=900)
        assert done.returncode == exits, f"aiplat {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else {}

    workspace.create(home, gates=GATE, roles={"risk": "rosa"})
    run("train", data, "--target", "approved", "--trials", "4", "--seed", "0")
    run("audit", "last", "--by", "sex")
    run("register", "last", "credit")
    run("promote", "credit", "--to", "production", exits=3)
    run("mitigate", "last", "--by", "sex")
    run("audit", "last", "--by", "sex")
    run("register", "last", "credit")
    run("approve", "credit", "--to", "production", "--reason", "fine", exits=3)  # ana trained it
    run("approve", "credit", "--to", "production", "--reason", "within policy", user="rosa")
    run("promote", "credit", "--to", "production")
    run("predict", "credit@production", data, "--out", str(home / "scored.parquet"))
    return {
        "verify": run("verify"),
        "models": run("models"),
        "runs": run("runs"),
        "ledger": run("ledger", "--limit", "100"),
    }


def test_on_a_laptop(tmp_path: Path, ray_address: str) -> None:
    told = journey(tmp_path, "sample:credit?rows=3000&seed=3", {"AIPLAT_RAY": ray_address})
    _check(told)


@pytest.mark.skipif(
    not postgres_programs(), reason="PostgreSQL's server is not installed: the team's set-up is not tested here"
)
def test_in_a_team(tmp_path: Path) -> None:
    import sqlalchemy as sa

    from aiplat.data.sources import read

    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    with postgres(tmp_path / "pg") as server, contextlib.ExitStack() as stack:
        tracking = stack.enter_context(mlflow_server(server.create("mlflow"), artifacts))
        ray, _ = stack.enter_context(two_nodes())
        source = server.create("warehouse")
        engine = sa.create_engine(source.replace("postgresql://", "postgresql+psycopg://"))
        read("sample:credit?rows=3000&seed=3").to_sql("applications", engine, index=False)
        engine.dispose()
        environment = {"AIPLAT_TRACKING": tracking, "AIPLAT_STORE": server.create("ledger"), "AIPLAT_RAY": ray}
        told = journey(tmp_path / "home", f"{source}?query=SELECT * FROM applications", environment)
        _check(told)
        kept = subprocess.run(["grep", "-rl", "s3cret-pw", str(tmp_path / "home")], capture_output=True, text=True)
        assert not kept.stdout, f"the database's password was written down: {kept.stdout}"
        assert "s3cret-pw" not in json.dumps(told), "the database's password is shown"
        status = run_cli("status", "--json", cwd=tmp_path / "home", env=environment)
        assert "s3cret-pw" not in status.stdout


def _check(told: dict) -> None:
    assert not told["verify"].get("breaks"), told["verify"]
    actions = [(entry["action"], entry["phase"], entry["actor"]) for entry in told["ledger"]["entries"]]
    for expected in [("train", "done", "ana"), ("mitigate", "done", "ana"), ("promote", "failed", "ana"), ("promote", "done", "ana"), ("evidence", "record", "rosa")]:  # fmt: skip
        assert expected in actions
    assert "production" in json.dumps(told["models"])
