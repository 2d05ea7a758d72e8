"""One update of the parameters: the backward pass, and a guarded step of the optimizer."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..differentiation import explained
from ..solver import COMPILE_OPTIONS
from .buffers import kept_buffers, restore_buffers
from .config import TrainingConfig


class NonfiniteLossError(RuntimeError):
    """The training loss or its gradient became NaN or infinite; the model is as it was before the iteration.

    Examples:
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import NonfiniteLossError, make_accelerator
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(1e30))  # far too long steps
        >>> try:
        ...     Trainer(solver, Addition(3), accelerator=make_accelerator(cpu=True)).fit(10)
        ... except NonfiniteLossError as error:
        ...     print(error)
        The training loss or its gradient became NaN or infinite in iteration 1 ...
    """

    @classmethod
    def at(cls, iteration: int, loss: float, checkpoint: Path | None = None) -> "NonfiniteLossError":
        """The error of an iteration; its message names the last checkpoint."""
        last = f"The last checkpoint is {checkpoint}. " if checkpoint else ""
        return cls(
            f"The training loss or its gradient became NaN or infinite in iteration {iteration} (loss {loss:.3g}); the "
            f"model is as it was before. {last}A lower learning rate or inner step size usually helps; "
            "skip_nonfinite=True skips such batches."
        )


class Updater:
    """Backward passes through a loss, and updates of its parameters.

    The ``loss`` maps the inputs of a batch to a tuple whose first entry is the loss. The accelerator prepares it and
    the optimizer for its device, processes and precision.
    """

    def __init__(self, loss: nn.Module, config: TrainingConfig, accelerator: Accelerator):
        self._accelerator = accelerator
        self._config = config
        self._parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        self._calls = 0
        self._buffers: dict[str, Tensor] | None = None  # before the iteration
        self._stopped: Tensor | None = None
        on_gpu = accelerator.device.type == "cuda"
        if config.compile:
            # CUDA graphs need static shapes.
            loss.compile(fullgraph=True, dynamic=False, options={**COMPILE_OPTIONS, "triton.cudagraphs": on_gpu})
        make = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in self._parameters)
        optimizer = make(
            self._parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused
        )
        self.model, self._stepper = accelerator.prepare(loss, optimizer)
        self.optimizer = optimizer
        self._guarded_on_device = on_gpu and fused and accelerator.scaler is None

    @property
    def waits(self) -> bool:
        """Whether the host knows the result of `step`, rather than the device alone."""
        return not self._guarded_on_device

    def begin(self) -> None:
        """Start a run: forget that an earlier one stopped."""
        self._stopped = None

    def backward(self, *inputs: Any, last: bool) -> tuple[Any, ...]:
        """Accumulate the gradient of the local shard of a batch. Returns the outputs, with the loss detached.

        ``last`` means that a step follows; only then do the processes average their gradients.
        """
        self._calls += 1
        if self._buffers is None:
            self._buffers = kept_buffers(self.model)
        # The first batch is smaller, since the replay buffer is still empty: compiling it would be wasted. Eager code
        # also gives clearer errors for an invalid energy.
        eager = self._config.compile and self._calls == 1
        with (
            nullcontext() if last else self._accelerator.no_sync(self.model),
            torch.compiler.set_stance("force_eager") if eager else nullcontext(),
            explained(),
        ):
            if self._config.compile and self._accelerator.device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()
            loss, *rest = self.model(*inputs)
            _check_loss(loss)
            self._accelerator.backward(loss / self._config.accumulate)
        return loss.detach(), *rest

    def step(self, loss: Tensor) -> Tensor:
        """Update the parameters if the loss and its gradient are finite, and return whether they were, of shape ().

        If they are not, the buffers return to their values before the iteration. On a GPU the host does not wait for
        the result; unless such batches are skipped, nothing changes any more until the host has heard of it.
        """
        good = loss.isfinite()
        if self._config.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._parameters, self._config.clip_norm)
        if self._accelerator.scaler is None:  # a gradient scaler skips nonfinite gradients itself
            # The cheapest check of every entry: the sum is not finite if an entry is not.
            sums = [p.grad.sum() for p in self._parameters if p.grad is not None]
            if not sums:
                raise ValueError(
                    "No parameter received a gradient: the answers do not depend on any. Use the parameters in the "
                    "energy's terms with y, without .detach() or torch.no_grad()."
                )
            good = good & torch.stack(sums).isfinite().all()
        if not self._config.skip_nonfinite:
            good = good if self._stopped is None else good & ~self._stopped
            self._stopped = ~good
        restore_buffers(self.model, self._buffers or {}, good)
        self._buffers = None
        if self._guarded_on_device:
            self.optimizer.found_inf = (~good).float()  # pyright: ignore  (as torch's gradient scaler does)
            self._stepper.step()
            del self.optimizer.found_inf  # pyright: ignore
        elif bool(good):
            self._stepper.step()
        self.optimizer.zero_grad(set_to_none=True)
        return good


def _check_loss(loss: Tensor) -> None:
    if loss.ndim or not loss.is_floating_point():
        raise ValueError(f"The loss must be one number, got {loss.dtype} of shape {tuple(loss.shape)}.")
    if not loss.requires_grad:
        raise ValueError(
            "The loss does not depend on the parameters, so there is nothing to learn from. Compute the task's error "
            "from solution.y, and the energy from its parameters, by differentiable torch operations: no .detach(), no "
            ".item(), no numpy; and train with a differentiation such as Truncated(1), not Detached()."
        )
