"""Data frames, Arrow tables and files to models, scores and figures, in memory."""
