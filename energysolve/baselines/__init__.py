"""Methods to which the paper compares the energy model (Section 4.1), for vectors and matrices."""

from .base import Baseline
from .feedforward import Feedforward
from .files import load, save
from .iterative import IterativeFeedforward
from .ponder import PonderNet
from .recurrent import Recurrent
from .unrolled import UnrolledFeedforward

__all__ = [
    "Baseline",
    "Feedforward",
    "IterativeFeedforward",
    "PonderNet",
    "Recurrent",
    "UnrolledFeedforward",
    "load",
    "save",
]
