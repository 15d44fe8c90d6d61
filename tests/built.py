"""Networks with random weights, each built once in a process: for tests that read them and change nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from scalelib.networks import Network, load_network


@cache
def built(name: str, **options: Any) -> Network:
    return load_network(name, weights="random", **options)
