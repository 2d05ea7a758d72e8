"""Iteration with a learned halting probability: PonderNet (Banino, Balaguer and Blundell 2021, arXiv:2107.05407)."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_nonnegative, check_whole
from .base import Baseline, hidden_layers, mean_squares


class PonderNet(Baseline):
    """A step network with an output head and a halting head, as the paper's programmatic baseline (Table 13).

    Step ``n`` maps the problem and the previous answer, initially zero, to a new answer ``y_n`` and the probability
    ``lambda_n`` of halting there if the sample has not halted before. The answer is the only state, since Table 13
    mentions no other: steps refine an answer like those of the energy model, and the first layer has the same input.
    Nothing else is carried from one step to the next.

    *Training* takes ``N = train_steps`` steps. The probability of halting at step ``n`` is ``p_n = lambda_n (1 -
    lambda_1) ... (1 - lambda_{n-1})``, and the remainder is added to step ``N``. The loss of a sample is ``sum_n p_n
    L_n + beta KL(p || g)`` with the mean squared error ``L_n`` of ``y_n``, differentiated through all steps. The prior
    ``g`` is geometric with the probability ``prior`` of *halting* at each step, ``g_n`` proportional to ``prior (1 -
    prior)^(n-1)``, truncated after ``N`` steps and normalized: at the paper's 0.8 four of five samples halt after the
    first step, and the mean is 1.25 steps.

    *At test time* halting is random: a sample halts after step ``n`` with probability ``lambda_n`` and keeps its
    answer, at the latest at the maximum number of steps, which may exceed ``train_steps``. Samples that halted earlier
    have the status ``CONVERGED``.

    Args:
        x_dim: number of entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        width: units of each hidden layer.
        depth: number of hidden layers.
        train_steps: number of steps in training, and the default maximum at test time.
        beta: weight of the divergence from the prior, 0.01 in PonderNet.
        prior: halting probability at each step under the prior.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more, a negative ``beta`` or a ``prior`` outside
            (0, 1).

    Examples:
        >>> import torch
        >>> from energysolve.baselines import PonderNet
        >>> model = PonderNet(x_dim=8, y_shape=(4,), width=16)
        >>> solution = model.solve(torch.rand(5, 8), max_steps=50)
        >>> solution.y.shape, bool((solution.steps <= 50).all())  # each sample halts at random
        (torch.Size([5, 4]), True)
    """

    def __init__(
        self,
        x_dim: int,
        y_shape: Sequence[int] | int,
        *,
        width: int = 512,
        depth: int = 3,
        train_steps: int = 5,
        beta: float = 0.01,
        prior: float = 0.8,
    ):
        super().__init__(x_dim, y_shape, train_steps=train_steps)
        check_nonnegative("PonderNet", beta=beta)
        if not 0 < prior < 1:
            raise ValueError(f"PonderNet needs a prior in (0, 1), got {prior!r}.")
        self.width, self.depth, self.beta, self.prior = width, depth, beta, prior
        self.hidden = hidden_layers(x_dim + self.y_dim, width, depth)
        self.head = nn.Linear(width, self.y_dim)
        self.halt = nn.Linear(width, 1)

    def loss(self, x, target, generator=None):
        target = self._flat_target(x, target)
        steps = list(islice(self._steps(self._flat(x)), self.train_steps))
        log_p = halting_distribution(torch.stack([logit for _, logit in steps], 1))
        errors = torch.stack([mean_squares(y, target) for y, _ in steps], 1)
        p = log_p.exp()
        divergence = (p * (log_p - log_geometric(self.prior, self.train_steps, log_p))).sum(1)
        return ((p * errors).sum(1) + self.beta * divergence).mean()

    def answers(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        return (y for y, _, _ in self._halting(x, generator))

    @torch.no_grad()
    def solve(self, x, max_steps=None, *, generator=None):
        steps = self.default_steps if max_steps is None else max_steps
        check_whole("solve", least=1, max_steps=steps)
        flat = self._flat(x)
        halting = islice(self._halting(flat, generator), steps)
        y, taken, running = next(halting)
        while running.any() and (after := next(halting, None)):
            y, taken, running = after
        return self._solution(y, taken, steps)

    def _steps(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The answers of steps 1, 2, 3, ... regardless of halting, and the logits of the halting probabilities."""
        first, rest = self.hidden[0], self.hidden[1:]
        assert isinstance(first, nn.Linear)
        from_x = F.linear(x, first.weight[:, : self.x_dim], first.bias)  # the same at every step
        weight = first.weight[:, self.x_dim :]
        y = x.new_zeros(len(x), self.y_dim)
        while True:
            h = rest(from_x + F.linear(y, weight))
            y = self.head(h)
            yield y, self.halt(h).squeeze(-1)

    def _halting(self, x: Tensor, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """After each step: the answers, which a halted sample keeps, the steps taken, and which samples still run."""
        y = x.new_zeros(len(x), self.y_dim)
        taken = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        running = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for new, logit in self._steps(x):
            y = torch.where(running[:, None], new, y)
            taken = taken + running
            drawn = torch.rand(len(x), generator=generator, device=x.device)
            running = running & (drawn >= logit.sigmoid())
            yield y, taken, running


def log_geometric(prior: float, steps: int, like: Tensor) -> Float[Tensor, " steps"]:
    """Log-probabilities of the geometric distribution with this probability of halting, truncated and normalized."""
    exponents = torch.arange(steps, dtype=like.dtype, device=like.device)
    return F.log_softmax(exponents * math.log1p(-prior), 0)


def halting_distribution(logits: Float[Tensor, "batch steps"]) -> Float[Tensor, "batch steps"]:
    """Log-probabilities of halting at each step, from the logits of halting there given that no earlier step halted.

    The last step gets the remaining probability, so each row sums to one; its own logit is ignored.
    """
    running = F.logsigmoid(-logits[:, :-1]).cumsum(1)  # not to halt up to each step but the last
    reached = F.pad(running, (1, 0))
    return reached + F.pad(F.logsigmoid(logits[:, :-1]), (0, 1))
