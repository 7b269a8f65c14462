# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.release.serving.tokens import add as add
from aiplat.release.serving.tokens import listed as list
from aiplat.release.serving.tokens import revoke as revoke

__all__ = ["add", "list", "revoke"]
