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
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(ROOT)]
    command += ["--warningiserror", "--nitpick", "--keep-going", "--all", "--quiet"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    index = ROOT / "_build" / "html" / "index.html"
    if code == 0 and index.is_file():
        print(f"The book: {index.relative_to(ROOT)}")
        return 0
    return code or 1


if __name__ == "__main__":
    sys.exit(main())
