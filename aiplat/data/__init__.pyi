# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.data.sources import describe as describe
from aiplat.data.contracts import contract as contract
from aiplat.data.contracts import check as check
from aiplat.data.snapshots import snapshot as snapshot

__all__ = ["check", "contract", "describe", "snapshot"]
