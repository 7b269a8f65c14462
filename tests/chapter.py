"""Fold a chapter written as text into its notebook, run it, clean it and export it (`make chapter NB=core/errors`).

A tutorial (`skip_exec: true` in its front matter) uses a workspace: it runs in a scratch folder with the repository's settings.ini.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
ADULT = ROOT.parent / "shared" / "data" / "adult"


def fold(name: str) -> None:
    """Build ``nbs/NAME.ipynb`` from ``.text/NAME.py``; outputs come from a real run, cell ids stay where cells match."""
    import jupytext
    import nbformat
    from filelock import FileLock
    from nbclient import NotebookClient

    text, target = ROOT / ".text" / f"{name}.py", ROOT / "nbs" / f"{name}.ipynb"
    notebook = jupytext.read(text, fmt="py:percent")
    title = {}
    if target.exists():
        before = nbformat.read(target, 4)
        notebook = jupytext.combine.combine_inputs_with_outputs(notebook, before, fmt="py:percent")
        title = {"title": before.metadata["title"]} if "title" in before.metadata else {}
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, **title}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    with FileLock(ROOT / ".text" / ".lock"):  # nbdev keeps one index of all modules
        subprocess.run(["nbdev-export", "--path", str(target)], check=True, cwd=ROOT)
    with tempfile.TemporaryDirectory(prefix="aiplat-") as scratch:
        tutorial = "skip_exec: true" in (notebook.cells[0].source if notebook.cells else "")
        if tutorial:
            shutil.copy(ROOT / "settings.ini", scratch)
            if ADULT.exists():  # the tutorial on fairness shows its figures
                (Path(scratch) / "adult").symlink_to(ADULT)
            os.environ["AIPLAT_HOME"] = scratch
        place = {"metadata": {"path": scratch if tutorial else target.parent}}
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources=place, store_widget_state=False
        ).execute()
    nbformat.write(notebook, target)
    subprocess.run(["nbdev-clean", "--fname", str(target)], check=True, cwd=ROOT)


if __name__ == "__main__":
    for chapter in sys.argv[1:]:
        fold(chapter)
