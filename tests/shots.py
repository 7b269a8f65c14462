"""`make pictures`: the pictures of the README and the tutorials, as the browser tests saw them, small enough to be kept with the code."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.conftest import ROOT

HOME = ROOT / "nbs" / "images"
KEPT = {
    "tour-panel": "panel",
    "tour-form": "form",
    "tour-audit": "audit",
    "tour-gate": "gate",
    "tour-pipeline": "pipeline",
    "tour-portfolio": "portfolio",
    "tour-model": "model-phone",
    "tour-operations": "operations",
}
COLOURS = 128  # a page has few; those that cover much keep what they are, and a red mark stays red
MOST = 1_000_000  # bytes, together


def small(source: Path, target: Path) -> None:
    """Write a picture with a palette."""
    with Image.open(source) as picture:
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(target, optimize=True)


def main() -> int:
    """Run the tests that keep pictures, and keep those."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/browser/test_tour.py"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "SCREENSHOTS": folder}, check=False)
        missing = [name for name in KEPT if not (Path(folder) / f"{name}.png").exists()]
        if done.returncode or missing:
            print(f"✗ the pictures stay as they are: {', '.join(missing) or 'a test failed'}", file=sys.stderr)
            return 1
        for name, kept in KEPT.items():
            small(Path(folder) / f"{name}.png", HOME / f"{kept}.png")
    sizes = {path.name: path.stat().st_size for path in sorted(HOME.glob("*.png"))}
    print("\n".join(f"{size / 1000:7.0f} kB  {name}" for name, size in sizes.items()))
    if sum(sizes.values()) > MOST:
        print(f"✗ together {sum(sizes.values()) / 1000:.0f} kB, more than {MOST // 1000}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
