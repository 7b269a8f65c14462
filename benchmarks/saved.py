"""What a saved notebook weighs after a whole session: cells are sent and outputs kept as JupyterLab does it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIMIT = 300_000
SESSION = (
    "%load_ext aiplat",
    "%aiplat data describe sample:credit",
    "%aiplat train sample:credit --target approved --trials 24",
    "%aiplat evaluate last",
    "%aiplat audit last --by sex,age_group",
    "%aiplat explore last --by sex,age_group",
    "%aiplat explain last --by sex",
    "%aiplat mitigate last --by sex",
    "%aiplat compare last credit/1",
    "%aiplat gate credit/2 --to production",
    "%aiplat promote credit/2 --to production",
    "%aiplat models",
)
BETWEEN = {
    7: "%aiplat register last credit",
    8: "%aiplat register last credit\n%aiplat audit last --by sex",
}


def _cells() -> list[str]:
    """The session's cells in order, with the registrations between them."""
    return [cell for number, code in enumerate(SESSION) for cell in (*filter(None, [BETWEEN.get(number)]), code)]


def _saved(folder: Path, widget_state: bool) -> dict[str, Any]:
    """Run the session in a folder as JupyterLab would, and give the notebook as it is saved."""
    import nbformat
    from jupyter_client.asynchronous.client import AsyncKernelClient
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class FrontEnd(AsyncKernelClient):
        """Names the cell that each request comes from: by that the kernel knows that somebody is looking."""

        def execute(self, code: str, silent: bool = False, store_history: bool = True, **_: Any) -> str:
            content = {"code": code, "silent": silent, "store_history": store_history, "user_expressions": {}}
            content |= {"allow_stdin": False, "stop_on_error": True}
            message = self.session.msg("execute_request", content, metadata={"cellId": "a"})
            self.shell_channel.send(message)
            return str(message["header"]["msg_id"])

    class Manager(AsyncKernelManager):
        client_class = f"{FrontEnd.__module__}.FrontEnd"
        client_factory = FrontEnd

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in _cells()])
    resources = {"metadata": {"path": str(folder)}}
    manager = Manager(kernel_name="python3")
    client = NotebookClient(
        made, km=manager, timeout=900, resources=resources, store_widget_state=widget_state, allow_errors=True
    )
    asyncio.run(client.async_execute())
    return dict(made)


def _weight(saved: dict[str, Any]) -> int:
    """Bytes of the file beyond its code and text."""
    import nbformat

    code = sum(len(cell["source"].encode()) for cell in saved["cells"])
    return len(nbformat.writes(nbformat.from_dict(saved)).encode()) - code


def saved_session() -> dict:
    """A train-audit-promote session in one notebook, saved: bytes beyond code and text."""
    with tempfile.TemporaryDirectory(prefix="aiplat-saved-") as name:
        folder = Path(name)
        rules = "metrics = roc_auc >= 0.6\nfairness = demographic_parity_ratio >= 0.5 by sex"
        (folder / "settings.ini").write_text(f"[aiplat]\nuser = ana\n[gate:production]\n{rules}\n")
        before = Path.cwd()
        try:
            os.chdir(folder)
            saved = _saved(folder, widget_state=True)
        finally:
            os.chdir(before)
            subprocess.run([sys.executable, "-m", "aiplat", "down"], cwd=folder, capture_output=True, timeout=120)
    said = {cell["source"][:40]: round(len(json.dumps(cell["outputs"])) / 1000, 1) for cell in saved["cells"]}
    wrong = [o["evalue"] for cell in saved["cells"] for o in cell["outputs"] if o["output_type"] == "error"]
    states = saved["metadata"].pop("widgets", {})
    size = _weight(saved)
    live = sum(
        "application/vnd.jupyter.widget-view+json" in o.get("data", {})
        for cell in saved["cells"]
        for o in cell["outputs"]
    )
    detail: dict[str, Any] = {
        "kB by cell": {name: kilobytes for name, kilobytes in said.items() if kilobytes >= 1},
        "live forms": live,
    }
    detail |= {"with the widgets' state": f"{(size + len(json.dumps(states))) / 1000:.0f} kB"} | (
        {"errors": wrong} if wrong else {}
    )
    ok = size <= LIMIT and live >= 3 and not wrong
    return {"bench": "saved_session", "value": round(size / 1000, 1), "target": "<= 300 kB", "ok": ok, "detail": detail}
