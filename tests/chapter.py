"""Fold a chapter written as text into its notebook, run it, clean it and export it (`make chapter NB=core/errors`)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def fold(name: str) -> None:
    """Build ``nbs/NAME.ipynb`` from ``.text/NAME.py``; outputs come from a real run, cell ids stay where cells match."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    text, target = ROOT / ".text" / f"{name}.py", ROOT / "nbs" / f"{name}.ipynb"
    notebook = jupytext.read(text, fmt="py:percent")
    if target.exists():
        notebook = jupytext.combine.combine_inputs_with_outputs(notebook, nbformat.read(target, 4), fmt="py:percent")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    subprocess.run(["nbdev-export", "--path", str(target)], check=True, cwd=ROOT)
    front = notebook.cells[0].source if notebook.cells else ""
    if "skip_exec: true" not in front:
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": target.parent}})
        client.execute()
        nbformat.write(notebook, target)
    subprocess.run(["nbdev-clean", "--fname", str(target)], check=True, cwd=ROOT)


if __name__ == "__main__":
    for chapter in sys.argv[1:]:
        fold(chapter)
