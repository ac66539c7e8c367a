"""Rules beside the model: named conditions over columns and features."""
