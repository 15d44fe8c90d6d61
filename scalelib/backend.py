"""The one place where Keras is imported: quietly, and with TensorFlow as the default backend.

TensorFlow 2.21 writes oneDNN and CPU-feature lines to file descriptor 2 while it is imported,
whatever ``TF_CPP_MIN_LOG_LEVEL`` says; they would end up in every stored notebook.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keras"]


@contextmanager
def _captured_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; let it out again if the block fails."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no descriptor 2 in this process: nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with _captured_stderr():
    import keras

# Images of many sizes trace one graph per size, on purpose; TensorFlow would warn of it in every notebook.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
