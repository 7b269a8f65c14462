"""What Jupyter's server answers under `aiplat/api`: forms, jobs, lists, details, and one stream of what changes."""

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter's server finds the extension."""
    return [{"module": "aiplat.frontends.rest"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """What Jupyter's server calls when it starts."""
    from aiplat.frontends.rest.server import load

    load(server)
