"""Where does a CNN linearly encode object scale? Read all layers, regress, prune, transfer.

The public API. Names are imported when they are first used, so that ``import scalelib`` loads no Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalelib.activations import extract
    from scalelib.concepts import RCV, fit_rcv, sensitivity
    from scalelib.datasets import Dataset, load_dataset
    from scalelib.errors import DataError, NetworkError, ResultsError, ScalelibError, WeightsError
    from scalelib.networks import Network, describe, load_network
    from scalelib.permutation import permutation_test
    from scalelib.pruning import best_layer, choose_and_report, prune
    from scalelib.regression import effective_rank, layerwise_r2, learning_curve, random_projection
    from scalelib.results import Run, read_results
    from scalelib.statistics import compare_taps, summarize

__version__ = "0.1.0"
_NAMES = {
    "activations": ["extract"],
    "concepts": ["RCV", "fit_rcv", "sensitivity"],
    "datasets": ["Dataset", "load_dataset"],
    "errors": ["DataError", "NetworkError", "ResultsError", "ScalelibError", "WeightsError"],
    "networks": ["Network", "describe", "load_network"],
    "permutation": ["permutation_test"],
    "pruning": ["best_layer", "choose_and_report", "prune"],
    "regression": ["effective_rank", "layerwise_r2", "learning_curve", "random_projection"],
    "results": ["Run", "read_results"],
    "statistics": ["compare_taps", "summarize"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'scalelib' has no attribute {name!r}")
    value = getattr(import_module(f"scalelib.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
