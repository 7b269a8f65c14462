# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.operations.schedules.service import run as run

__all__ = ["run"]
