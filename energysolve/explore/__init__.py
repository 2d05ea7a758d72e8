"""A page in the browser that shows the landscape of an energy and the descents of several optimizers on it.

`energysolve explore` opens it; see docs/explore.md. The page needs the extra ``explore``; what it shows is computed by
`Session`, which does not.
"""

from .session import Session
from .settings import Settings
from .subject import Subject, energy_subject, solver_subject

__all__ = ["Session", "Settings", "Subject", "energy_subject", "solver_subject"]
