"""What earlier commits have written to disk, and tests that open it and go on with it."""
