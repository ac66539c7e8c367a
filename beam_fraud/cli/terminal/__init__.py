"""Output, logs, progress, interruption and failure of a command."""
