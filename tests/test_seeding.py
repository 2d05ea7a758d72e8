"""Streams of random numbers."""

import torch

from energysolve.seeding import stream


def test_streams_of_different_purposes_differ():
    draws = {
        torch.rand(1, generator=stream(purpose, seed), dtype=torch.float64).item()
        for purpose in ("train addition", "solve addition", "evaluate addition")
        for seed in range(3)
    }
    assert len(draws) == 9
