"""Where transactions come from: one file per kind of source."""
