"""A challenger from an archive and the labels that have come since."""
