"""Tasks: sources of problems with known answers, and the error of solutions."""

from .base import Task
from .matrix import Completion, Inverse
from .vector import Addition

__all__ = ["Addition", "Completion", "Inverse", "Task"]
