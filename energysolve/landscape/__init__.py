"""The energy around answers."""
