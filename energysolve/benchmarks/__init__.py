"""Benchmarks of speed and memory, each against a plain reference in the same run."""
