"""Tasks: where problems come from and how answers are judged."""

from .base import Task
from .matrix import Completion, Inverse
from .vector import Addition

__all__ = ["Addition", "Completion", "Inverse", "Task"]
