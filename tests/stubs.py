"""Write the type stubs of the verbs (`python -m tests.stubs`); a test compares them with the table."""

from pathlib import Path

from aiplat.frontends.verbs import groups, stub

PACKAGE = Path(__file__).parent.parent / "aiplat"
STUBS = {PACKAGE / "__init__.pyi": ""} | {
    PACKAGE / name / "__init__.pyi" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.pyi": name for name in groups()
}

if __name__ == "__main__":
    for path, group in STUBS.items():
        path.write_text(stub(group))
