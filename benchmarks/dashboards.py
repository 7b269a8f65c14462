"""How long a page takes from the click to its content: with warm kernels, and side by side without."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

PAGES = ("portfolio.ipynb", "model.ipynb", "operations.ipynb", "production.ipynb", "fairness.ipynb")
MOST = 5.0  # seconds that somebody waits who opens a page
ROUNDS = 3


def _workspace(folder: Path) -> Any:
    """A model in production, with an audit, an approval and a history."""
    from aiplat.release import registry
    from tests.models import acting, evident, governed, trained

    ws = governed(folder)
    os.chdir(ws.root)
    for seed in (1, 2):
        logged = trained(ws, seed)
        evident(ws, logged.run)
        registry.register(logged.run.id, "credit")
    acting(ws, "rosa")
    registry.approve("credit/1", to="production", reason="looked at the audit")
    registry.promote("credit/1", to="production")
    return acting(ws, "ana")


class Reader:
    """A browser without pictures: it keeps its cookie, and reads the page to the end."""

    def __init__(self, address: str):
        self.base, _, self.token = address.partition("?")
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def seconds(self, page: str) -> float:
        """From the request to the last byte: Voila ends a page when its last cell has run."""
        started = time.perf_counter()
        with self.opener.open(f"{self.base.replace('portfolio.ipynb', page)}?{self.token}", timeout=180) as answer:
            text = answer.read().decode()
        took = time.perf_counter() - started
        if "aiplat-page" not in text and "application/vnd.jupyter.widget-view" not in text:
            raise RuntimeError(f"{page} has no content")
        return took


def _resting(seconds: float = 3.0) -> None:
    """Wait until the processes of this machine have stopped importing: a warm page is measured warm."""
    import psutil

    quiet = 0.0
    end = time.monotonic() + 20
    while quiet < seconds and time.monotonic() < end:
        quiet = quiet + 0.5 if psutil.cpu_percent(0.5) < 30 else 0.0


def dashboard_ready() -> dict:
    """The slowest page with warm kernels; the median of a few visits, beside the same without them."""
    from aiplat.frontends import dashboards

    before, took = Path.cwd(), {"warm": dict[str, float](), "cold": dict[str, float]()}
    with tempfile.TemporaryDirectory(prefix="aiplat-") as folder:
        ws = _workspace(Path(folder))
        try:
            for kind in ("warm", "cold"):
                address = dashboards.dashboard(background=True, cold=kind == "cold").address
                reader = Reader(address)
                for page in PAGES:
                    seen = []
                    for _ in range(ROUNDS):
                        if kind == "warm":
                            _resting()
                        seen.append(reader.seconds(page))
                    took[kind][page] = statistics.median(seen)
                dashboards.end(ws)
        finally:
            dashboards.end(ws)
            os.environ.pop("AIPLAT_USER", None)
            os.chdir(before)
    worst = max(took["warm"].values())
    ratio = worst / max(took["cold"].values())
    detail = {
        kind: {page.removesuffix(".ipynb"): round(value, 2) for page, value in pages.items()}
        for kind, pages in took.items()
    }
    detail |= {"warm to cold": round(ratio, 2), "rounds": ROUNDS}
    return {
        "bench": "dashboard_ready",
        "value": round(worst, 2),
        "target": "<= 5 s",
        "ok": worst <= MOST,
        "detail": detail,
    }


if __name__ == "__main__":
    print(json.dumps(dashboard_ready()))
