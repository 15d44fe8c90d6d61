"""How a network is trained: the paper's schedule by default, every choice explicit. Knows no Keras."""

from __future__ import annotations

from dataclasses import dataclass

from scalelib.errors import ScalelibError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Schedule:
    """How a network is trained. The defaults are the paper's, except the standardised target.

    Parameters
    ----------
    epochs : int, default=5
        At most so many.
    patience : int, optional
        Stop after so many epochs without a smaller validation loss. Default: train all epochs.
    batch_size : int, default=32
    learning_rate : float, default=1e-4
        Of Adam.
    target_scaling : {"standard", "none"}, default="standard"
        ``"standard"``: mean 0 and deviation 1 over the training patches; ``"none"``: as it is.
    batchnorm : {"train", "frozen"}, default="train"
        ``"train"``: batch statistics while training, moving averages otherwise; ``"frozen"``: the
        loaded statistics, scales and shifts throughout.
    batchnorm_momentum : float, optional
        Of the moving averages, in [0, 1). Default: the network's own. MobileNetV2's 0.999 needs
        thousands of steps to follow; with fewer, networks from scratch are validated with statistics
        of their first steps.
    augment : bool, default=False
        Flip and turn training patches at random; none of it changes scale.
    precision : {"float32", "mixed_float16", "mixed_bfloat16"}, default="float32"
        Keras's dtype policy; the head stays in float32.
    workers : int, default=1
        Threads that prepare batches; one prepares them in turn with the training itself. More help where the
        network works on a GPU; on few cores they take from it.

    Raises
    ------
    ScalelibError
        If a value is out of range.

    Examples
    --------
    >>> Schedule(epochs=20).batch_size
    32
    """

    epochs: int = 5
    patience: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-4
    target_scaling: str = "standard"
    batchnorm: str = "train"
    batchnorm_momentum: float | None = None
    augment: bool = False
    precision: str = "float32"
    workers: int = 1

    def __post_init__(self) -> None:
        momentum = self.batchnorm_momentum
        wrong = {
            "epochs": self.epochs < 1,
            "patience": self.patience is not None and self.patience < 1,
            "batch_size": self.batch_size < 1,
            "learning_rate": not self.learning_rate > 0,
            "target_scaling": self.target_scaling not in {"standard", "none"},
            "batchnorm": self.batchnorm not in {"train", "frozen"},
            "batchnorm_momentum": momentum is not None and not 0 <= momentum < 1,
            "precision": self.precision not in PRECISIONS,
            "workers": self.workers < 1,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise ScalelibError(
                    f"Schedule: {name} is out of range.\nReceived: {name}={getattr(self, name)!r}.\n"
                    "See the docstring of scalelib.schedule.Schedule."
                )
