"""``python -m energysolve.experiments.limits``."""

from .bounds import main

main()
