"""Write the tables of rooms in ARCHITECTURE.md from the modules' first lines: python -m tests.rooms"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "frontends": "how people and programs reach the verbs",
    "operations": "keeping models right over time",
    "release": "from candidate to production and back",
    "training": "making models; may ask `trust` how a candidate does",
    "trust": "how good, how fair, and why: judging any model on any data",
    "data": "where data comes from and what it must look like",
    "core": "where am I, who am I, what happened",
}
BEGIN, END = "<!-- rooms -->", "<!-- /rooms -->"


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]


def tables() -> str:
    """A heading and a table per package, those inside a package after it."""
    out = []
    for package, what in PACKAGES.items():
        inside = sorted(
            p for p in (ROOT / "aiplat" / package).rglob("*") if p.is_dir() and (p / "__init__.py").exists()
        )
        for folder in [ROOT / "aiplat" / package, *inside]:
            name = str(folder.relative_to(ROOT / "aiplat"))
            told = what if name == package else summary(folder / "__init__.py")
            out.append(
                f"{'###' if name == package else '####'} `{name}/`: {told}\n\n| room | what it knows |\n| --- | --- |"
            )
            out += [
                f"| `{path.stem}` | {summary(path)} |"
                for path in sorted(folder.glob("*.py"))
                if path.stem != "__init__"
            ]
            out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    page = ROOT / "ARCHITECTURE.md"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    page.write_text(f"{before}\n\n{tables()}\n{after}")
