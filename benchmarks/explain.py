"""What an explanation costs, in CPU seconds of one process, beside shap's own in the same run."""

from __future__ import annotations

import time
import warnings

ROWS, LIMIT, RATIO = 1_000, 1.0, 3.0


def _fitted(name: str):
    from aiplat.data.sources import read
    from aiplat.training.candidates import build
    from aiplat.training.columns import usable_columns
    from aiplat.training.spaces import candidates

    frame = read("sample:credit")
    y = frame.pop("approved").to_numpy()
    model = build(name, usable_columns(frame), candidates("binary")[name].first, task="binary")
    return model.fit(frame[:8000], y[:8000]), frame[:8000], frame[8000 : 8000 + ROWS]


def explain_1000_rows() -> dict:
    """Exact contributions of 1,000 rows, for each default candidate but the forest; the slowest."""
    from aiplat.trust.explaining.explainers import exact_values

    warnings.filterwarnings("ignore")
    taken = {}
    for name in ("linear", "lightgbm", "xgboost", "hist_gradient_boosting"):
        model, train, rows = _fitted(name)
        exact_values(model, rows[:5], place=1, background=train)
        began = time.process_time()
        exact_values(model, rows, place=1, background=train)
        taken[name] = round(time.process_time() - began, 3)
    value = max(taken.values())
    target = f"<= {LIMIT} s CPU"
    return {"bench": "explain_1000_rows", "value": value, "target": target, "ok": value <= LIMIT, "detail": taken}


def explain_forest_vs_shap() -> dict:
    """A forest of a hundred deep trees: shap's CPU per row against ours, the same values from both."""
    import numpy as np
    import shap

    from aiplat.trust.explaining.explainers import exact_values

    warnings.filterwarnings("ignore")
    model, train, rows = _fitted("random_forest")
    encoded = model[:-1].transform(rows[:40])
    theirs = shap.TreeExplainer(model[-1])
    theirs.shap_values(encoded[:1], check_additivity=False)
    began = time.process_time()
    values = theirs.shap_values(encoded, check_additivity=False)[..., 1]
    slow = (time.process_time() - began) / len(encoded)
    began = time.process_time()
    found = exact_values(model, rows, place=1, background=train)
    fast = (time.process_time() - began) / len(rows)
    names = list(model[0].get_feature_names_out())
    apart = float(np.abs(found.values[:40] - values[:, [names.index(name) for name in found.columns]]).max())
    ratio = slow / fast
    return {
        "bench": "explain_forest_vs_shap",
        "value": round(ratio, 1),
        "target": f">= {RATIO}",
        "ok": ratio >= RATIO and apart < 1e-9,
        "detail": {
            "shap_ms_per_row": round(1000 * slow, 1),
            "ms_per_row": round(1000 * fast, 1),
            "largest_difference": apart,
        },
    }
