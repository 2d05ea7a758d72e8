"""Small trained energies that come with the library, and the files that hold a trained solver."""

from .files import find, names, read_config, read_weights, save
from .registry import register_energy

__all__ = ["find", "names", "read_config", "read_weights", "register_energy", "save"]
