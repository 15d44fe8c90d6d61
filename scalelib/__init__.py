"""Where does a CNN linearly encode object scale? Read all layers, regress, prune, transfer.

The public API. Names are imported when they are first used, so that ``import scalelib`` loads no Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalelib.activations import extract
    from scalelib.concept_sensitivity import sensitivity
    from scalelib.datasets import Dataset, load_dataset
    from scalelib.errors import DataError, NetworkError, ResultsError, ScalelibError, WeightsError
    from scalelib.learning import learning_curve
    from scalelib.networks import Network, describe, load_network
    from scalelib.permutation import permutation_test
    from scalelib.projection import effective_rank, random_projection
    from scalelib.provenance import Run, read_results
    from scalelib.pruning import prune
    from scalelib.rcv import RCV, fit_rcv
    from scalelib.regression import layerwise_r2
    from scalelib.statistics import compare_taps, summarize
    from scalelib.tap_choice import best_layer, choose_and_report

_HOME = {
    "extract": "activations",
    "Dataset": "datasets",
    "load_dataset": "datasets",
    "DataError": "errors",
    "NetworkError": "errors",
    "ResultsError": "errors",
    "ScalelibError": "errors",
    "WeightsError": "errors",
    "learning_curve": "learning",
    "Network": "networks",
    "describe": "networks",
    "load_network": "networks",
    "permutation_test": "permutation",
    "effective_rank": "projection",
    "random_projection": "projection",
    "Run": "provenance",
    "read_results": "provenance",
    "prune": "pruning",
    "RCV": "rcv",
    "fit_rcv": "rcv",
    "layerwise_r2": "regression",
    "sensitivity": "concept_sensitivity",
    "compare_taps": "statistics",
    "summarize": "statistics",
    "best_layer": "tap_choice",
    "choose_and_report": "tap_choice",
}

__version__ = "0.1.0"
__all__ = [
    "RCV",
    "DataError",
    "Dataset",
    "Network",
    "NetworkError",
    "ResultsError",
    "Run",
    "ScalelibError",
    "WeightsError",
    "best_layer",
    "choose_and_report",
    "compare_taps",
    "describe",
    "effective_rank",
    "extract",
    "fit_rcv",
    "layerwise_r2",
    "learning_curve",
    "load_dataset",
    "load_network",
    "permutation_test",
    "prune",
    "random_projection",
    "read_results",
    "sensitivity",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'scalelib' has no attribute {name!r}")
    value = getattr(import_module(f"scalelib.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
