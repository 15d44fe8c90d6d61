"""Execute one notebook with a profile's parameters: ``python workflow/run_notebook.py NAME --profile P``.

The executed copy goes to ``book/executed/<profile>/``; the notebook itself writes its tables and
card to ``results/<profile>/<name>/``. With ``--store`` the outputs also go back into
``notebooks/``, which is how the stored outputs that nbval compares are made. ``--override`` takes a
YAML file with parameters that differ from the profile's, for a trial; ``--label`` then says under
which name its results stand, so that a trial never passes for the profile.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from scalebook.profiles import check_parameters, load_profile
from scalelib.errors import ResultsError, ScalelibError, require

ROOT = Path(__file__).resolve().parent.parent


def run(
    name: str,
    profile: str,
    *,
    store: bool = False,
    override: Mapping[str, Any] | None = None,
    label: str | None = None,
) -> Path:
    """Execute a notebook and return the path of the executed copy; an earlier copy stays where a cell fails.

    Parameters that differ from the profile's (`override`) need a name of their own (`label`) for copy and results.
    """
    settings = load_profile(ROOT / "profiles" / f"{profile}.yaml").notebooks
    _require(name in settings, f"profile {profile!r} runs {', '.join(settings)}", f"{name!r}")
    named = not override or label not in (None, profile)
    _require(named, "parameters that differ from a profile's need a --label of their own", f"{override}")
    source = ROOT / "notebooks" / f"{name}.ipynb"
    # All of them, so that one cell shows what the run was made with.
    parameters = check_parameters(source, {**settings[name], **(override or {}), "profile": label or profile})
    target = ROOT / "book" / "executed" / (label or profile) / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.ipynb")
    try:
        papermill.execute_notebook(
            str(source), str(partial), parameters=parameters, cwd=str(source.parent), kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
        )  # fmt: skip
    except PapermillExecutionError as error:
        raise ResultsError(
            f"run_notebook: {name} failed in code cell [{error.exec_count}] with profile {profile!r}.\n"
            f"Received: {error.ename}: {error.evalue}\nThe cell:\n{error.source}\n"
            f"Everything up to it stands in {partial.relative_to(ROOT)}."
        ) from error
    _clean(partial)
    partial.replace(target)
    if store:
        _store(target, source)
    return target


def _require(ok: bool, rule: str, received: str) -> None:
    require(ok, "run_notebook", rule, received, error=ResultsError)


def _clean(path: Path) -> None:
    """Drop what differs between machines and runs, and fold what a reader of the book need not see."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for noise in ("papermill", "execution"):
            cell.metadata.pop(noise, None)
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = ["parameters", "remove-cell"]
        elif "injected-parameters" in tags:
            cell.metadata |= {
                "tags": [*tags, "hide-input"],
                "mystnb": {"code_prompt_show": "Code: parameters of this run"},
            }
        for output in cell.get("outputs", []):
            for mime, content in output.get("data", {}).items():
                if mime.endswith("image/png"):
                    output["data"][mime] = _smaller(content)
    nbformat.write(notebook, path)


def _smaller(png: str) -> str:
    """The same figure with a palette of 256 colours: half the size, and no file over 2 MB."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    packed = io.BytesIO()
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return min(base64.b64encode(packed.getvalue()).decode(), png, key=len)


def _store(executed: Path, source: Path) -> None:
    """Copy outputs of an executed copy back into the notebook, cell by cell."""
    kept = nbformat.read(source, as_version=4)
    ran = nbformat.read(executed, as_version=4).cells
    pairs = zip(
        (cell for cell in kept.cells if cell.cell_type == "code"),
        (c for c in ran if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])),
        strict=True,
    )
    # Counted anew, without the cell that papermill injects; nbval skips no cell that has a count.
    for count, (mine, theirs) in enumerate(pairs, start=1):
        mine.outputs, mine.execution_count = theirs.outputs, count
        for output in mine.outputs:
            if "execution_count" in output:
                output["execution_count"] = count
    source.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="notebook without ending, such as 04_layerwise_r2")
    parser.add_argument("--profile", default="control", help="a file in profiles/ (default: control)")
    parser.add_argument("--store", action="store_true", help="also store the outputs in notebooks/")
    parser.add_argument(
        "--override", type=Path, help="YAML file with parameters that differ from the profile's"
    )
    parser.add_argument("--label", help="name under which the results of a trial stand, such as smoke")
    options = vars(parser.parse_args())
    if options["override"]:
        options["override"] = yaml.safe_load(options["override"].read_text(encoding="utf-8"))
    started = time.monotonic()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    try:
        path = run(options.pop("name"), options.pop("profile"), **options)
    except ScalelibError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path.relative_to(ROOT)} executed in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
