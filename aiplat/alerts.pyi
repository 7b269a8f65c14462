# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.operations.oncall import list_alerts as list
from aiplat.operations.oncall import send_test as test
from aiplat.operations.oncall import close as close

__all__ = ["close", "list", "test"]
