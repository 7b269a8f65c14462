# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.operations.pipelines.draft import init as init
from aiplat.operations.pipelines.checks import check as check
from aiplat.operations.pipelines.graphs import graph as graph
from aiplat.operations.pipeline import run as run
from aiplat.operations.pipeline import resume as resume
from aiplat.operations.pipeline import cancel as cancel
from aiplat.operations.pipeline import runs as runs
from aiplat.operations.pipeline import show as show

__all__ = ["cancel", "check", "graph", "init", "resume", "run", "runs", "show"]
