# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.operations.schedules.schedules import add as add
from aiplat.operations.schedules.listings import listed as list
from aiplat.operations.schedules.listings import upcoming as next
from aiplat.operations.schedules.listings import history as history
from aiplat.operations.schedules.schedules import trigger as trigger
from aiplat.operations.schedules.schedules import pause as pause
from aiplat.operations.schedules.schedules import resume as resume
from aiplat.operations.schedules.schedules import remove as remove
from aiplat.operations.schedules.exports import export as export

__all__ = ["add", "export", "history", "list", "next", "pause", "remove", "resume", "trigger"]
