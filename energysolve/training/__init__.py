"""Training: an energy by differentiating through its minimization, or another model by a loss of its own."""

from .accelerators import make_accelerator
from .callbacks import Callback, Progress, Validated
from .checkpoints import CheckpointError, Checkpoints
from .config import TrainingConfig
from .replay import ReplayBuffer
from .schedules import Constant, Cosine, OneCycle, Schedule
from .supervised import Replayable, SupervisedTrainer
from .trainer import Trainer
from .update import NonfiniteLossError
from .validation import Validation

__all__ = [
    "Callback",
    "CheckpointError",
    "Checkpoints",
    "Constant",
    "Cosine",
    "NonfiniteLossError",
    "OneCycle",
    "Progress",
    "ReplayBuffer",
    "Replayable",
    "Schedule",
    "SupervisedTrainer",
    "Trainer",
    "TrainingConfig",
    "Validated",
    "Validation",
    "make_accelerator",
]
