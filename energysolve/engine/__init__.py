"""One solve, from the inside; nothing outside the library imports it."""
