"""Tasks: where problems come from and how answers are judged."""

from .base import Task
from .vector import Addition

__all__ = ["Addition", "Task"]
