"""nbval's comparison of the outputs stored in notebooks with copies that the workflow executed; no kernel runs.

``pytest -p tests.executed_copies --executed=FOLDER notebooks/*.ipynb``: `make book` and this check share one execution.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--executed", type=Path, help="folder of executed copies to compare with stored outputs")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> IPyNbFile | None:
    if parent.config.option.executed and file_path.suffix == ".ipynb":
        return _Notebook.from_parent(parent, path=file_path)
    return None


class _Cell(IPyNbCell):
    def runtest(self) -> None:
        if self.executed.source != self.cell.source:
            self.raise_cell_error("The executed copy has another cell here", self.executed.source)
        outputs = (coalesce_streams(cell.outputs) for cell in (self.executed, self.cell))
        if self.options["check"] and not self.compare_outputs(*outputs):
            self.raise_cell_error("Cell outputs differ", "\n".join(self.comparison_traceback))


class _Notebook(IPyNbFile):
    def setup(self) -> None:
        """Start no kernel."""

    def collect(self) -> Iterator[_Cell]:
        copy = nbformat.read(self.config.option.executed / self.path.name, as_version=4)
        ran = [cell for cell in copy.cells if cell.cell_type == "code"]
        ran = [cell for cell in ran if "injected-parameters" not in cell.metadata.get("tags", [])]
        for cell, executed in zip(super().collect(), ran, strict=True):
            own = _Cell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )
            own.executed = executed
            yield own
