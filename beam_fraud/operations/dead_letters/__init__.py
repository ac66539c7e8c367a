"""Dead letters: stored, listed, exported and replayed."""
