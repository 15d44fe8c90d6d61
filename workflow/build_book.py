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
    command = [
        sys.executable,
        "-m",
        "jupyter_book.cli.main",
        "build",
        str(ROOT),
        "-W",
        "-n",
        "--keep-going",
        "-q",
    ]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode == 0:
        print("The book: _build/html/index.html")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
