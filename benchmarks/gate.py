"""What a gate decision costs once the libraries are imported: with a ledger and a registry that have seen some use."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

ROUNDS = 20
OTHERS = 2_000  # pieces of evidence about other models
LIMIT = 150.0  # milliseconds


def gate_decision() -> dict:
    """`aiplat gate`: settings, registry and ledger read, seven rules decided. Median of the rounds, in milliseconds."""
    from aiplat.core import evidence, ledger
    from aiplat.release import registry
    from tests import models

    folder = Path(tempfile.mkdtemp(prefix="aiplat-bench-"))
    rules = models.RULES | {
        "metrics": "roc_auc >= 0.55, log_loss <= 5",
        "fairness": "demographic_parity_ratio >= 0.05 by sex",
    }
    ws = models.governed(folder, rules=rules)
    here = os.getcwd()
    os.chdir(folder)
    try:
        model = models.ready(ws, "credit")
        for number in range(OTHERS):
            about = {"subject": f"run:{number:08x}", "model_digest": f"{number:064x}", "data_digest": f"{number:064x}"}
            evidence.record(ws, "evaluation", **about, measured={"metrics": {"roc_auc": {"value": 0.9}}, "rows": 100})
        decision = registry.gate(model, to="production")
        assert decision.holds, str(decision)
        taken = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            registry.gate(model, to="production")
            taken.append(1000 * (time.perf_counter() - began))
        size = ledger.entries(ws, limit=1, newest_first=True)[0].seq
    finally:
        os.chdir(here)
        os.environ.pop("AIPLAT_USER", None)
    value = statistics.median(taken)
    return {
        "bench": "gate_decision",
        "value": round(value, 1),
        "target": f"<= {LIMIT:g} ms",
        "ok": value <= LIMIT,
        "detail": {
            "worst": round(max(taken), 1),
            "rules": len(decision.findings),
            "ledger entries": size,
            "rounds": ROUNDS,
        },
    }


if __name__ == "__main__":
    print(json.dumps(gate_decision()))
