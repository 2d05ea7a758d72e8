"""Training of energies, by differentiating through their minimization, and of models that define their own loss."""

from .accelerators import make_accelerator
from .callbacks import Callback, Progress, Validated
from .checkpoints import CheckpointError, Checkpoints
from .config import TrainingConfig
from .equilibrium import EquilibriumSteps
from .minima import MinimumLoss
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
    "EquilibriumSteps",
    "MinimumLoss",
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
