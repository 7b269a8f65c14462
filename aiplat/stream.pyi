# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.release.stream import run as run
from aiplat.release.stream import status as status

__all__ = ["run", "status"]
