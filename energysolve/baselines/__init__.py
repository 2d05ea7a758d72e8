"""Methods to which the paper compares the energy model (Section 4.1), for vectors, matrices, graphs and images."""

from .base import Baseline
from .feedforward import Feedforward
from .files import load, save
from .graph import (
    GraphBaseline,
    GraphFeedforward,
    GraphIterativeFeedforward,
    GraphPonderNet,
    GraphRecurrent,
    GraphUnrolledFeedforward,
)
from .image import DnCNN
from .iterative import IterativeFeedforward
from .ponder import PonderNet
from .recurrent import Recurrent
from .unrolled import UnrolledFeedforward

__all__ = [
    "Baseline",
    "DnCNN",
    "Feedforward",
    "GraphBaseline",
    "GraphFeedforward",
    "GraphIterativeFeedforward",
    "GraphPonderNet",
    "GraphRecurrent",
    "GraphUnrolledFeedforward",
    "IterativeFeedforward",
    "PonderNet",
    "Recurrent",
    "UnrolledFeedforward",
    "load",
    "save",
]
