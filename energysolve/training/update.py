"""One update of the parameters: the backward pass, and a step that is not taken where it would do harm."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..solver import COMPILE_OPTIONS
from .config import TrainingConfig


class NonfiniteLossError(RuntimeError):
    """The training loss or its gradient became NaN or infinite; the weights are those before the iteration."""

    @classmethod
    def at(cls, iteration: int, loss: float, checkpoint: Path | None = None) -> "NonfiniteLossError":
        """With a message that names the iteration and the last good checkpoint."""
        last = f"The last checkpoint is {checkpoint}. " if checkpoint else ""
        return cls(
            f"The training loss or its gradient became NaN or infinite in iteration {iteration} (loss {loss:.3g}); the "
            f"parameters are those before it. {last}A lower learning rate or inner step size usually helps; "
            "skip_nonfinite=True goes on without such batches."
        )


class Updater:
    """The parameters of a loss and what moves them.

    Args:
        loss: from the inputs of a batch to a tuple that begins with its mean error.
        config: the settings.
        accelerator: what it runs on.
    """

    def __init__(self, loss: nn.Module, config: TrainingConfig, accelerator: Accelerator):
        self._accelerator = accelerator
        self._config = config
        self._parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        self._calls = 0
        on_gpu = accelerator.device.type == "cuda"
        if config.compile:
            # Static shapes on a GPU are launched as CUDA graphs.
            loss.compile(fullgraph=True, dynamic=False, options={**COMPILE_OPTIONS, "triton.cudagraphs": on_gpu})
        make = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in self._parameters)
        optimizer = make(
            self._parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused
        )
        self.model, self._stepper = accelerator.prepare(loss, optimizer)
        self.optimizer = optimizer
        self._guarded_on_device = on_gpu and fused and accelerator.scaler is None

    def backward(self, *inputs: Any, last: bool) -> tuple[Any, ...]:
        """Add the gradient of a batch to those before it. Returns the detached loss, and what else the loss returns.

        Args:
            *inputs: of the loss, this process's part of the batch.
            last: whether a step follows, before which the processes must agree on the gradient.
        """
        with nullcontext() if last else self._accelerator.no_sync(self.model):
            loss, *rest = self._backward(inputs)
        return loss.detach(), *rest

    def step(self, loss: Tensor) -> Tensor:
        """Move the parameters, unless the loss or its gradient is not finite. Returns whether they were, 0-d bool.

        On a GPU the decision stays on the device.
        """
        good = loss.isfinite()
        if self._config.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._parameters, self._config.clip_norm)
        if self._accelerator.scaler is None:  # which else skips steps with infinite gradients itself
            # Sums are the cheapest look at every entry: infinities and NaN stay, or become NaN.
            sums = [p.grad.sum() for p in self._parameters if p.grad is not None]
            good = good & torch.stack(sums).isfinite().all()
        if self._guarded_on_device:
            self.optimizer.found_inf = (~good).float()  # pyright: ignore  (torch's gradient scaler does the same)
            self._stepper.step()
            del self.optimizer.found_inf  # pyright: ignore
        elif bool(good):
            self._stepper.step()
        self.optimizer.zero_grad(set_to_none=True)
        return good

    def _backward(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        self._calls += 1
        # The first batch, which has no replayed problems beside it yet, has a size of its own; and an energy that is
        # wrong is told of better by eager code.
        eagerly = self._config.compile and self._calls == 1
        with torch.compiler.set_stance("force_eager") if eagerly else nullcontext():
            if self._config.compile and self._accelerator.device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()
            loss, *rest = self.model(*inputs)
            self._accelerator.backward(loss / self._config.accumulate)
        return loss, *rest
