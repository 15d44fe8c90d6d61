__version__: str

from .activations import extract as extract
from .concepts import RCV as RCV
from .concepts import fit_rcv as fit_rcv
from .concepts import sensitivity as sensitivity
from .datasets import Dataset as Dataset
from .datasets import load_dataset as load_dataset
from .errors import (
    DataError as DataError,
)
from .errors import (
    NetworkError as NetworkError,
)
from .errors import (
    ResultsError as ResultsError,
)
from .errors import (
    ScalelibError as ScalelibError,
)
from .errors import (
    WeightsError as WeightsError,
)
from .networks import Network as Network
from .networks import describe as describe
from .networks import load_network as load_network
from .permutation import permutation_test as permutation_test
from .pruning import best_layer as best_layer
from .pruning import choose_and_report as choose_and_report
from .pruning import prune as prune
from .regression import (
    effective_rank as effective_rank,
)
from .regression import (
    layerwise_r2 as layerwise_r2,
)
from .regression import (
    learning_curve as learning_curve,
)
from .regression import (
    random_projection as random_projection,
)
from .results import Run as Run
from .results import read_results as read_results
from .statistics import compare_taps as compare_taps
from .statistics import summarize as summarize
