"""Training an energy by differentiating through its minimization."""

from .replay import ReplayBuffer
from .trainer import Progress, Trainer

__all__ = ["Progress", "ReplayBuffer", "Trainer"]
