"""Samples of different sizes as tensors."""
