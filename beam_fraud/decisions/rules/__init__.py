"""Rules: conditions over the columns of a batch."""
