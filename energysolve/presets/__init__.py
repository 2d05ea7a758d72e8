"""Domains: how the energy of each task is built, trained and solved, and the errors that the paper reports."""

from .domain import Domain, FileJob, FileOption
from .methods import METHODS
from .preset import Preset, finished
from .registry import DOMAINS, at_size, domain_for, domain_named, domain_of, register
from .tables import complete_table

__all__ = [
    "DOMAINS",
    "METHODS",
    "Domain",
    "FileJob",
    "FileOption",
    "Preset",
    "at_size",
    "complete_table",
    "domain_for",
    "domain_named",
    "domain_of",
    "finished",
    "register",
]
