"""Random number generators, one for each purpose."""

import hashlib

import torch


def stream(purpose: str, seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose: the same seed never gives one purpose the problems that another has seen."""
    digest = hashlib.sha256(f"energysolve {purpose} {seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
