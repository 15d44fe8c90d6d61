"""Where does a CNN linearly encode object scale? Read all layers, regress, prune, transfer.

The public API, which ``__init__.pyi`` names: imported when it is first used, so that ``import scalelib`` loads no Keras.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
