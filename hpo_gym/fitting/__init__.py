"""How the embedded bundle is made: sample an original, screen its tasks, fit, measure, pack."""
