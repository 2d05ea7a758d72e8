"""Random number generators, one for each purpose."""

import hashlib

import torch


def stream(purpose: str, seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a purpose, as in ``stream("train addition", seed=0)``: no two purposes draw the same numbers."""
    digest = hashlib.sha256(f"energysolve {purpose} {seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
