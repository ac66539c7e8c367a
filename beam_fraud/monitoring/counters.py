"""Names of what a run counts, as summaries, the graph and what watches a stream have them."""

ROWS_IN = "rows_in"
ROWS_SCORED = "rows_scored"
#: Rows of a table of features.
ROWS_OUT = "rows_out"
ROWS_FLAGGED = "rows_flagged"
#: Flagged rows that the sink did not take, and that wait on disk.
ROWS_UNDELIVERED = "rows_undelivered"
ROWS_DEAD = "rows_dead"
ROWS_DUPLICATE = "rows_duplicate"
#: Transactions of a stream that are dated after their arrival; they are scored.
ROWS_AHEAD = "rows_ahead"
#: Labels of earlier transactions that came with a stream.
LABELS_IN = "labels_in"
#: Those of them that could not be read; they are no dead rows.
LABELS_DEAD = "labels_dead"
#: Rows of `--history` that fill windows, and those that were no transactions or repeated.
HISTORY_ROWS = "history_rows"
HISTORY_ROWS_LEFT_OUT = "history_rows_left_out"
#: The earliest event time, in seconds of the epoch, of rows and of their history; no counts.
EARLIEST_ROW = "earliest_row"
EARLIEST_HISTORY_ROW = "earliest_history_row"
#: Followed by the reason of the dead letters that it counts.
DEAD_PREFIX = "dead_"
#: Followed by the name of the rule whose rows it counts.
RULE_PREFIX = "rule:"
#: Rules that a stream stopped, once a window and shard; work done again is counted again.
RULES_MUTED = "rules_muted"
