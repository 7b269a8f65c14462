"""Where data comes from and what it must look like.

``aiplat.data.describe``, ``check``, ``contract`` and ``snapshot`` are verbs; the front door fetches them.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Fetch one of the verbs of data."""
    if name.startswith("_"):
        raise AttributeError(f"module 'aiplat.data' has no attribute {name!r}")
    import aiplat

    return aiplat.__getattr__(f"data {name}")
