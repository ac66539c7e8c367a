"""Ways to notify people, one module each."""
