"""The ML platform that lives in the notebook.

Every verb is an attribute: ``aiplat.train(…)``, ``aiplat.audit(…)``, ``aiplat.pipeline.run(…)``. Importing aiplat
imports none of them; each is fetched when it is first asked for. ``%load_ext aiplat`` adds the magics.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Fetch a verb, or a group of verbs."""
    if name.startswith("_"):
        raise AttributeError(f"module 'aiplat' has no attribute {name!r}")
    from aiplat.frontends.verbs import attribute

    return attribute(name)


def __dir__() -> list[str]:
    """The verbs, for completion in an editor."""
    from aiplat.frontends.verbs import FUNCTIONS, VERBS

    return sorted({*globals(), *FUNCTIONS, *(verb.group or verb.word for verb in VERBS)})


def load_ipython_extension(ip: Any) -> None:
    """What ``%load_ext aiplat`` calls."""
    from aiplat.frontends.magics import load

    load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """What ``%unload_ext aiplat`` calls."""
    from aiplat.frontends.magics import unload

    unload(ip)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter's server finds its part of aiplat."""
    return [{"module": "aiplat.frontends.rest"}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where the built extension of JupyterLab is, for ``jupyter labextension develop``."""
    return [{"src": "labextension", "dest": "aiplat"}]
