"""``python -m scalelib`` is the ``scalelib`` command."""

import sys

from scalelib.cli import main

sys.exit(main())
