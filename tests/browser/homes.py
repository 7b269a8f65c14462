"""JupyterLab, Notebook 7 and Voila on one seeded workspace, as pip would have installed them, for tests that look at pages.

`homes` (one server per session) has the workspace, the token and `start`, `stop`, `restart`; `visit` (one per test) opens pages in it::

    def test_panel(visit):
        page = visit.lab("session.ipynb", theme="dark")
        page.wait_for_selector(".jp-Notebook", timeout=SLOW)
        assert not visit.axe(page, ".aip-panel") and not visit.wrong(page)
        visit.keep(page, "panel-dark")
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.conftest import ROOT
from tests.servers import free_port

SLOW = 120_000  # milliseconds: CI is loaded
AXE = ROOT / "extension" / "node_modules" / "axe-core" / "axe.min.js"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
# Said by others, with or without aiplat: Chromium about the network that is not there, Voila about extensions of Lab that ask for
# what only Lab has, Notebook 7.6 about its own start, and Lab about what it had just asked a kernel that somebody restarts.
NOISE = re.compile(
    r"net::ERR_PROXY_CONNECTION_FAILED|cdnjs\.cloudflare\.com|cdn\.jsdelivr\.net|fonts\.googleapis\.com|favicon"
    r"|Canceled future for (debug|create_subshell)_request message before replies were done"
    r"|RUNTIME-012.*labextensions/(jupyterlab-jupytext|@jupyter-notebook)/"
    r"|(reading 'schema'|'filebrowser:open-path' not registered|Cannot convert undefined or null to object).*/static/notebook/notebook_core",
    re.S,
)

SESSION = (
    ("%load_ext aiplat", ()),
    ("%aiplat models", ()),
    ("%aiplat runs", ()),
    ("%aiplat explore credit/1", ()),
    ("%aiplat gate credit/2 --to production", ()),
)
NIGHT = (
    (
        'rows: int = 300  # how many applications\nsegment: str = "north"  # which branch\ndraft: bool = True  # keep nothing',
        ("parameters",),
    ),
    ('print(f"{rows} applications of {segment}")', ()),
    ("import pathlib\nassert rows > 0, 'no applications'", ()),
)


def write_notebook(path: Path, cells: Any) -> Path:
    """A notebook of code cells: pairs of source and tags."""
    import nbformat

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    made = [nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {}) for source, tags in cells]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), path)
    return path


def seed(folder: Path) -> Any:
    """A workspace after two weeks of work: credit/1 in production, credit/2 refused for want of an approval, a run without a
    version, pipelines, schedules and their runs, `session.ipynb` with magics, `night.ipynb` with parameters."""
    from aiplat.core.errors import UserError
    from aiplat.release import registry
    from tests import models
    from tests.nights import fortnight

    before = Path.cwd()
    ws = models.governed(folder)
    os.chdir(folder)
    try:
        registry.promote(models.ready(ws, "credit", 1), to="production")
        logged = models.trained(ws, 2)
        models.evident(ws, logged.run)
        with contextlib.suppress(UserError):
            registry.promote(registry.register(logged.run.id, "credit").model, to="production")
        models.trained(ws, 3)
    finally:
        os.chdir(before)
        os.environ.pop("AIPLAT_USER", None)
    fortnight(ws, time.time())
    write_notebook(folder / "session.ipynb", SESSION)
    write_notebook(folder / "night.ipynb", NIGHT)
    return ws


class Homes:
    """One Jupyter server with Lab, Notebook 7 and Voila on a folder, with settings of its own; the extension is where a wheel would put it.

    Parameters
    ----------
    root
        The folder that it serves.
    place
        An empty folder for its settings.
    person
        The name of whoever shows the token; Jupyter's anonymous names when left out.
    environment
        More environment variables, for the server and its kernels.
    extended
        Whether aiplat's extension of Lab and of the server is installed.
    """

    def __init__(
        self,
        root: Path,
        place: Path,
        person: str = "",
        environment: dict[str, str] | None = None,
        extended: bool = True,
    ):
        self.root, self.place, self.person, self.extended = root, place, person, extended
        self.port, self.token = free_port(), secrets.token_hex(16)
        self.log = place / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIPLAT_", "JUPYTER_"))}
        if os.environ.get("AIPLAT_RAY"):
            clean["AIPLAT_RAY"] = os.environ["AIPLAT_RAY"]
        paths = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "run", "PATH": "share/jupyter"}
        paths |= {"CONFIG_PATH": "etc/jupyter", "LAB_SETTINGS_DIR": "lab", "LAB_WORKSPACES_DIR": "workspaces"}
        own = {f"JUPYTER{'' if key.startswith('LAB') else '_'}{key}": str(place / name) for key, name in paths.items()}
        own |= {"IPYTHONDIR": str(place / "ipython"), "PYTHONWARNINGS": "ignore", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        self.environment = clean | own | (environment or {})
        self._install()

    def _install(self) -> None:
        """Put the extension where pip would, and quiet what Lab asks of the Internet."""
        etc, share = self.place / "etc" / "jupyter", self.place / "share" / "jupyter" / "labextensions"
        for folder in (etc / "jupyter_server_config.d", etc / "labconfig", share, self.place / "config"):
            folder.mkdir(parents=True, exist_ok=True)
        built, wanted = ROOT / "aiplat" / "labextension", ROOT / "extension" / "jupyter-config" / "aiplat.json"
        if built.exists():  # a copy: Voila follows no link out of its folders
            shutil.copytree(built, share / "aiplat")
        server = wanted.read_text() if wanted.exists() else "{}"
        if not self.extended:
            server = server.replace("true", "false")
            (etc / "labconfig" / "page_config.json").write_text(json.dumps({"disabledExtensions": {"aiplat": True}}))
        (etc / "jupyter_server_config.d" / "aiplat.json").write_text(server)
        quiet: dict[str, Any] = {
            "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
            # Lab asks a kernel that takes longer than a second in vain, and a busy machine takes longer
            "@jupyterlab/completer-extension:manager": {"providerTimeout": SLOW},
        }
        (etc / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(quiet))
        if self.person:
            known = f"lambda self, handler: User(username={self.person!r}, name={self.person!r})"
            lines = [
                "from jupyter_server.auth.identity import PasswordIdentityProvider, User",
                f"Known = type('Known', (PasswordIdentityProvider,), {{'generate_anonymous_user': {known}}})",
                "c.ServerApp.identity_provider_class = Known",
            ]
            (self.place / "config" / "jupyter_server_config.py").write_text("\n".join(lines))

    @property
    def address(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> Homes:
        """Start the server, on the same port and with the same token as before, and wait for its answer."""
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
            *(f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"),
            *(
                f"--ServerApp.root_dir={self.root}",
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.collaborative=False",
            ),
            "--JupyterNotebookApp.expose_app_in_browser=True",
            "--KernelManager.transport=ipc",  # a port may be taken between its choice and the kernel's start
        ]
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                self.ask("/api/status")
                return self
            assert self._process.poll() is None and time.monotonic() < end, self.log.read_text()[-4000:]
            time.sleep(0.1)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the server and its kernels; ``SIGKILL`` for a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def restart(self, how: int = signal.SIGTERM) -> Homes:
        """Stop and start."""
        self.stop(how)
        return self.start()

    def ask(self, path: str, method: str = "GET", data: Any = None) -> Any:
        """The JSON answer of a route of the server, with the token; None for an empty one."""
        body = None if data is None else json.dumps(data).encode()
        head = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, body, head, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def theme(self, theme: str) -> None:
        """What Lab and Notebook 7 look like from the next load on."""
        route = "/lab/api/settings/@jupyterlab/apputils-extension:themes"
        self.ask(route, "PUT", {"raw": json.dumps({"theme": THEMES[theme], "adaptive-theme": False})})

    def begin(self, verb: str, *words: str, person: str = "") -> subprocess.Popen[str]:
        """The command line in the served folder: what somebody else does meanwhile."""
        pipe = subprocess.PIPE
        return warm.begin([*verb.split(), *words], self.root, self._of(person), stdout=pipe, stderr=pipe)

    def run(self, verb: str, *words: str, person: str = "") -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        return warm.run([*verb.split(), *words], self.root, self._of(person), 240)

    def _of(self, person: str) -> dict[str, str]:
        """The environment of somebody else's command line."""
        environment = self.environment | ({"AIPLAT_USER": person} if person else {})
        environment.pop("PYTHONWARNINGS")  # for kernels
        return environment


class Visit:
    """Pages of a home in one browser, with everything collected that goes wrong in them."""

    def __init__(self, browser: Any, homes: Homes, pictures: Path):
        self.browser, self.homes, self.pictures = browser, homes, pictures
        self._contexts: list[Any] = []
        self._wrong: dict[Any, list[str]] = {}

    def page(
        self, path: str, width: int = 1400, height: int = 900, homes: Homes | None = None, script: str = ""
    ) -> Any:
        """A page of the server at a path that may have a query; every request that would leave this machine fails. A script runs
        before the page's own."""
        at = homes or self.homes
        context = self.browser.new_context(viewport={"width": width, "height": height})
        if script:
            context.add_init_script(script)
        context.set_default_timeout(SLOW)
        self._contexts.append(context)
        page, wrong = context.new_page(), list[str]()
        self._wrong[page] = wrong
        page.on("pageerror", lambda error: wrong.append(f"{error} {getattr(error, 'stack', '') or ''}"))
        page.on("console", lambda said: wrong.append(_told(said)) if said.type == "error" else None)
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.accept()))
        sign = "&" if "?" in path else "?"
        page.goto(f"{at.address}{path}{sign}token={at.token}", wait_until="load", timeout=SLOW)
        return page

    def lab(self, path: str = "", theme: str = "light", **how: Any) -> Any:
        """JupyterLab in a window layout of its own, ready, with a file open when one is named."""
        self.homes.theme(theme)
        tree = f"/tree/{urllib.parse.quote(path)}" if path else ""
        page = self.page(f"/lab/workspaces/t{next(_COUNT)}{tree}", **how)
        self.ready(page)
        return page

    def notebook(self, path: str = "", theme: str = "light", **how: Any) -> Any:
        """Notebook 7: a notebook, or the tree of files."""
        self.homes.theme(theme)
        page = self.page(f"/notebooks/{urllib.parse.quote(path)}" if path else "/tree", **how)
        self.ready(page)
        return page

    def voila(self, path: str, theme: str = "light", **how: Any) -> Any:
        """A notebook as a page of Voila's."""
        return self.page(f"/voila/render/{urllib.parse.quote(path)}?theme={theme}", **how)

    def fresh(self, path: str) -> str:
        """The name of a copy of a notebook of the served folder, which nobody has run: of a widget whose kernel is another one,
        Lab's manager of widgets says on the console that it is not there."""
        source = self.homes.root / path
        copy = source.with_stem(f"{source.stem}-{next(_COUNT)}")
        shutil.copy(source, copy)
        return str(copy.relative_to(self.homes.root))

    def ready(self, page: Any) -> None:
        """Wait until Lab or Notebook 7 has restored its windows, after opening and after a reload."""
        page.wait_for_function("() => window.jupyterapp", timeout=SLOW)
        page.evaluate("() => window.jupyterapp.restored.then(() => true)")
        page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')", timeout=SLOW)

    def dress(self, page: Any, theme: str) -> None:
        """Change the theme of Lab or Notebook 7 in an open page, as people do."""
        self.command(page, "apputils:change-theme", {"theme": THEMES[theme]})
        page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=str(theme == "light").lower(), timeout=SLOW
        )

    def command(self, page: Any, name: str, arguments: Any = None) -> Any:
        """Run a command of Lab or Notebook 7 and wait for its end; what it returns stays in the browser."""
        return page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args ?? {}).then(() => null)", [name, arguments]
        )

    def run_all(self, page: Any, timeout: int = SLOW) -> None:
        """Run every cell of the open notebook and wait until the last one has its number."""
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=timeout)
        page.wait_for_function(IDLE, timeout=timeout)
        self.command(page, "notebook:run-all-cells")
        page.wait_for_function(DONE, timeout=timeout)

    def axe(self, page: Any, within: str = "body", impacts: tuple[str, ...] = ("serious", "critical")) -> list[str]:
        """What axe-core finds inside all parts of the page that a selector means: rule, what is wrong, where."""
        if not page.evaluate("typeof window.axe === 'object'"):
            page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate(
            """within => axe.run({ include: [...document.querySelectorAll(within)].filter(e => e.offsetParent || e === document.body) },
              { resultTypes: ['violations'] }).then(r => r.violations)""",
            within,
        )
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:200]} | {' '.join(node['failureSummary'].split())[:300]}"
            for each in found if each["impact"] in impacts for node in each["nodes"][:5]
        ]  # fmt: skip

    def wrong(self, page: Any) -> list[str]:
        """What the page said on its console as an error, or threw, without others' noise about the missing network."""
        return [said for said in self._wrong[page] if not NOISE.search(said)]

    def keep(self, page: Any, name: str, full_page: bool = False) -> Path:
        """A picture of the page, in the folder of pictures."""
        picture = self.pictures / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture, full_page=full_page)
        return picture

    def shown(self) -> list[str]:
        """The text of every open page, and what the server tells of jobs and runs: to be read beside a failure."""
        said = []
        for page in [page for context in self._contexts for page in context.pages]:
            with contextlib.suppress(Exception):  # a page that does not answer has nothing to show
                text = "\n".join(line for line in page.inner_text("body", timeout=5000).splitlines() if line.strip())
                said.append(f"{page.url}\n{text[:4000]}\n" + "\n".join(self._wrong[page])[:2000])
        for route in ("jobs", "pipelines"):
            with contextlib.suppress(Exception):
                said.append(f"{route}: {json.dumps(self.homes.ask(f'/aiplat/api/{route}'))[:4000]}")
        return said

    def close(self) -> None:
        """Close all pages, and end the kernels that they began."""
        for context in self._contexts:
            with contextlib.suppress(Exception):
                context.close()
        with contextlib.suppress(OSError, AttributeError):  # a server that was stopped has none
            for session in self.homes.ask("/api/sessions"):
                self.homes.ask(f"/api/sessions/{session['id']}", "DELETE")


def until(page: Any, script: str, arg: Any = None) -> None:
    """Wait until what a function promises is true: to `wait_for_function` of Playwright a promise is true as it stands."""
    end = time.monotonic() + SLOW / 1000
    while not page.evaluate(script, arg):
        assert time.monotonic() < end, f"never true: {script}"
        time.sleep(0.3)


_COUNT = itertools.count(1)
IDLE = """() => { const panel = window.jupyterapp.shell.currentWidget; const kernel = panel?.sessionContext?.session?.kernel;
  return kernel?.status === 'idle'; }"""
# An answer that comes late: while `__hold` is part of an address, what the server has answered there reaches the page only afterwards.
HELD = """{ window.__hold = null; window.__held = 0;
const fetched = window.fetch;
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  if (window.__hold && String(asked[0].url ?? asked[0]).includes(window.__hold)) {
    window.__held += 1;
    while (window.__hold) await new Promise(end => setTimeout(end, 20));
  }
  return answer;
}; }"""
DONE = """() => { const cells = window.jupyterapp.shell.currentWidget?.content?.widgets ?? [];
  const code = cells.filter(c => c.model.type === 'code' && c.model.sharedModel.getSource().trim());
  return code.length > 0 && code.every(c => c.model.executionCount) &&
    window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'; }"""


def _told(said: Any) -> str:
    where = said.location or {}
    return f"{said.text} ({where.get('url', '')}:{where.get('lineNumber', '')})"


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The workspace that `homes` serves."""
    return seed(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def homes(seeded: Any, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    """One server for the session; started anew by whoever stopped it."""
    served = Homes(seeded.root, tmp_path_factory.mktemp("jupyter"))
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture
def visit(homes: Homes, browser: Any, tmp_path: Path) -> Iterator[Visit]:
    """Pages of the session's server."""
    opened = Visit(browser, homes, Path(os.environ.get("SCREENSHOTS") or tmp_path))
    yield opened
    opened.close()
    with contextlib.suppress(OSError):  # a test that failed may have left it without a server
        for job in homes.ask("/aiplat/api/jobs")["jobs"]:
            if job["state"] == "running":  # a search that nobody stops would take the CPUs of all tests that follow
                homes.ask(f"/aiplat/api/jobs/{job['id']}", "DELETE")
