"""How good a model is now: expected from its scores, then measured as labels come."""
