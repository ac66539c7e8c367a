"""The review: cases that people decide, and what follows from it."""
