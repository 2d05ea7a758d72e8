"""The internals of one solve; private to the solver."""
