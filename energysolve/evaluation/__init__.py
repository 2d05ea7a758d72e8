"""Evaluation of models: errors and numbers of steps on fresh problems."""
