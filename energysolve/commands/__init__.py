"""The commands of ``energysolve``, a module each."""
