"""How fast and how large the pipeline is, beside what one would write without it."""
