"""Run a `.bbnn` file: numpy in, numpy out, no torch.

>>> from bayesbinn.runtime import load  # doctest: +SKIP
>>> probs = load("net.bbnn").predict(x)  # doctest: +SKIP
"""

from .about import About as About
from .container import FormatError as FormatError
from .network import Network as Network
from .network import Prediction as Prediction
from .network import RegressionPrediction as RegressionPrediction
from .network import load as load
