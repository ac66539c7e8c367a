"""Look for better settings of a kind of model, on validation rows alone."""
