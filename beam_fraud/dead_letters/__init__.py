"""Dead letters after the run that made them: shown, exported, repaired, put through again."""
