"""Tune the settings of a kind of model on validation rows alone."""
