"""What the command line runs: tasks and their shipped energies, training recipes, evaluation, reports and figures."""
