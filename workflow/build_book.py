"""Build the book from executed notebooks: ``python workflow/build_book.py``. Warnings are errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Build into a clean folder; incremental builds go stale across glued pages."""
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    build = Path(sys.executable).with_name("jupyter-book")
    options = ["--warningiserror", "--nitpick", "--keep-going", "--all", "--quiet"]
    done = subprocess.run([build, "build", ROOT, *options], cwd=ROOT, check=False)
    index = ROOT / "_build" / "html" / "index.html"
    if done.returncode or not index.is_file():
        return done.returncode or 1
    print(f"The book: {index.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
