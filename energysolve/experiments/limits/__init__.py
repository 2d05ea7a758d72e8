"""Floors and limits."""
