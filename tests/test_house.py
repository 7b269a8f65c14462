"""The rules of the house: the one rule about imports, files that must agree with each other, notebooks that read well."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGES = ["core", "data", "trust", "training", "release", "operations", "frontends"]
MODULES = sorted(
    p for p in (ROOT / "aiplat").rglob("*.py") if p.name not in ("__init__.py", "__main__.py", "_modidx.py")
)
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
CHAPTERS = [p for p in NOTEBOOKS if "#| default_exp" in p.read_text()]
HEAVY = {"ray", "mlflow", "sklearn", "pandas", "scipy", "pyarrow", "sqlalchemy", "optuna", "fairlearn", "papermill", "pandera", "duckdb", "skops"}  # fmt: skip


def _imports(path: Path) -> set[str]:
    """Dotted names of the aiplat modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(path.relative_to(ROOT).parts[: -node.level]) if node.level else []
            name = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found.add(name)
            found.update(f"{name}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] == "aiplat"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_down_the_house(path: Path) -> None:
    rank = PACKAGES.index(path.relative_to(ROOT / "aiplat").parts[0])
    above = {
        name
        for name in _imports(path)
        if len(p := name.split(".")) > 1 and p[1] in PACKAGES and PACKAGES.index(p[1]) > rank
    }
    assert not above, f"{path.relative_to(ROOT)} imports from a room above it: {sorted(above)}"


def test_no_room_needs_itself() -> None:
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}
    needs = {name: {n for n in _imports(path) if n in files and n != name} for name, path in files.items()}
    done: set[str] = set()
    while ready := {name for name in needs if name not in done and needs[name] <= done}:
        done |= ready
    assert set(needs) == done, f"these import each other: {sorted(set(needs) - done)}"


# These rooms define estimators, whose base classes are scikit-learn's. They are imported inside functions by everybody else.
ESTIMATORS = {"aiplat.training.candidates", "aiplat.training.thresholds", "aiplat.training.mixtures"}


def test_rooms_of_estimators_are_imported_where_they_are_used() -> None:
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.level]
        base = list(path.relative_to(ROOT).parts)
        needs = {".".join([*base[: -node.level], *(node.module or "").split(".")]) for node in top}
        assert name in ESTIMATORS or not needs & ESTIMATORS, f"{name} imports {needs & ESTIMATORS} when it is imported"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    if ".".join(path.relative_to(ROOT).with_suffix("").parts) in ESTIMATORS:
        return
    top = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
    ]
    names = {
        (n.module if isinstance(n, ast.ImportFrom) else n.names[0].name or "").split(".")[0]
        for n in top
        if getattr(n, "module", "x")
    }
    assert not names & HEAVY


def test_every_module_has_its_notebook() -> None:
    exported = {
        re.search(r"#\| default_exp (\S+)", "".join(c["source"]))[1]
        for p in CHAPTERS
        for c in json.loads(p.read_text())["cells"]
        if "#| default_exp" in "".join(c["source"])
    }  # type: ignore[index]
    assert exported == {".".join(p.relative_to(ROOT / "aiplat").with_suffix("").parts) for p in MODULES}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_chapter_explains_and_shows(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    code = [t for cell, t in zip(cells, text, strict=True) if cell["cell_type"] == "code"]
    exported = [t for t in code if re.match(r"#\|\s*export", t)]
    shown = [t for t in code if t not in exported and "default_exp" not in t]
    words = sum(len(t.split()) for cell, t in zip(cells, text, strict=True) if cell["cell_type"] == "markdown")
    too_long = [t.splitlines()[1] for t in exported if t.count("\n") > (130 if re.search(r"^class ", t, re.M) else 90)]
    assert not too_long, "an exported cell is too long to be read at once"
    assert words >= 20 * len(exported), f"{len(exported)} exported cells and only {words} words"
    assert len(shown) >= len(exported) / 2.5 and any("assert" in t for t in shown)
    assert any(cell.get("outputs") for cell in cells), "the outputs are missing: make chapter"


def test_links_between_chapters_lead_somewhere() -> None:
    for path in (ROOT / "nbs").rglob("*.ipynb"):
        home = ROOT if path.stem == "index" else path.parent  # the index is also the README
        for cell in json.loads(path.read_text())["cells"]:
            for link in (
                re.findall(r"\]\(([^)\s]+)\)", "".join(cell["source"])) if cell["cell_type"] == "markdown" else ()
            ):
                there = link.startswith(("http", "#", "mailto:")) or (home / link.partition("#")[0]).exists()
                assert there, f"{path.relative_to(ROOT)} links to {link}, which is not there"


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_lock_file_satisfies_the_dependencies() -> None:
    project = _pyproject()["project"]
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert not [line for line in lines if "://" in line or line.startswith("-")], "the lock file holds an address"
    locked: dict[str, list[Requirement]] = {}
    for line in lines:
        requirement = Requirement(line)
        locked.setdefault(requirement.name.lower().replace("_", "-"), []).append(requirement)
    wanted = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    for requirement in map(Requirement, wanted):
        pins = locked.get(requirement.name.lower().replace("_", "-"), [])
        assert pins, f"{requirement} is not in requirements.lock: make lock"
        for pin in pins:
            assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), (
                f"{pin} does not satisfy {requirement}"
            )


def test_environment_yml_installs_the_lock_file() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = _pyproject()["project"]
    assert environment["name"] == project["name"]
    assert f"python{project['requires-python']}" in environment["dependencies"]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["--requirement requirements.lock", "--no-deps --editable ."]


def test_top_level_is_as_designed() -> None:
    present = {p.name for p in ROOT.iterdir()}
    wanted = {"nbs", "aiplat", "tests", "benchmarks", "settings.ini", "pyproject.toml", "environment.yml", "Makefile", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"}  # fmt: skip
    assert wanted <= present


def test_settings_file_of_the_repository_is_valid() -> None:
    from aiplat.core.settings import load_settings

    assert load_settings(ROOT, environ={}).gates["production"]


def test_architecture_lists_every_room() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for path in MODULES:
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        assert f"| `{path.stem}` | {summary} |" in page, (
            f"ARCHITECTURE.md does not say what {path.relative_to(ROOT)} knows: {summary}"
        )
