"""What the surroundings of a pipeline must be like, looked at before one is submitted."""
