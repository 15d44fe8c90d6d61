"""Networks with random weights and scenes, each made once in a process: for tests that read them and change nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from scalelib.datasets import Dataset
from scalelib.networks import Network, load_network
from studies.rendered.scenes import render_scenes


@cache
def built(name: str, **options: Any) -> Network:
    return load_network(name, weights="random", **options)


@cache
def scenes() -> Dataset:
    """Scenes that neither training of the control networks nor their card's own measurement has seen."""
    return render_scenes(2000, random_state=31_337)
