"""Tasks: sources of problems with known answers, and the error of solutions."""

from .base import Task
from .graph import Components, EdgeCopy, GraphTask, ShortestPath
from .image import Denoising
from .matrix import Completion, Inverse
from .vector import Addition

__all__ = [
    "Addition",
    "Completion",
    "Components",
    "Denoising",
    "EdgeCopy",
    "GraphTask",
    "Inverse",
    "ShortestPath",
    "Task",
]
