"""What tests of several files make: networks with random weights and scenes, once in a process, for tests that change
nothing in them; and trainings that are not compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partialmethod
from typing import Any

import pytest

from scalelib.datasets import Dataset
from scalelib.graph import keras
from scalelib.networks import Network, load_network
from studies.rendered.scenes import render_scenes


@cache
def built(name: str, **options: Any) -> Network:
    return load_network(name, weights="random", **options)


@cache
def scenes() -> Dataset:
    """Scenes that neither training of the control networks nor their card's own measurement has seen."""
    return render_scenes(2000, random_state=31_337)


@contextmanager
def eager() -> Iterator[None]:
    """Models train step by step: with small ones and few steps, tracing would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "compile", partialmethod(keras.Model.compile, run_eagerly=True))
        yield
