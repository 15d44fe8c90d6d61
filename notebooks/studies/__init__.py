"""One module a notebook: its analysis, its tables and its figures. Nothing but notebooks and tests imports them."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from joblib import parallel_config

from scalelib.datasets import register

# In a checkout the companion's machinery, scalebook, lies beside the notebooks; what is installed is scalelib alone.
sys.path.append(str(Path(__file__).resolve().parents[2]))
register("scenes", f"{__name__}.rendered.scenes:render_scenes")
register("rendered_slides", f"{__name__}.rendered.slide:load_rendered")
# Regressions take the threads that Snakemake gives a job; no bit depends on it.
parallel_config("threading", n_jobs=int(os.environ.get("OMP_NUM_THREADS", "1")))
# Which fonts a machine has is no output of a notebook; a warning of it would fail the book.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
