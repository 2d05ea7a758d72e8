"""Files of problems and of answers, larger than memory."""
