"""Floors and limits: the errors of trivial answers, and lower bounds on the error of any method."""
