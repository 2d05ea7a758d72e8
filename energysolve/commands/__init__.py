"""The commands of ``energysolve``, one module each."""
