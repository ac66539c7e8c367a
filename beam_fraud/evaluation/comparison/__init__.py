"""What a model or rule set would have changed: figures, and a page to decide by."""
