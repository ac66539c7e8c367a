"""Train, score and evaluate in memory: data frames, Arrow tables and files."""
