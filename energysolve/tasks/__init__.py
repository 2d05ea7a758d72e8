"""Tasks: sources of problems with known answers, and the error of solutions."""

from .base import Task
from .graph import Components, EdgeCopy, GraphTask, ShortestPath
from .matrix import Completion, Inverse
from .vector import Addition

__all__ = ["Addition", "Completion", "Components", "EdgeCopy", "GraphTask", "Inverse", "ShortestPath", "Task"]
