"""How the energies of each task are built, trained and solved."""
