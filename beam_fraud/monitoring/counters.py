"""Names of counters in summaries, the graph and the status of a stream."""

from collections.abc import Callable

#: Type: adds to a counter.
Count = Callable[[str, int], None]

ROWS_IN = "rows_in"
ROWS_SCORED = "rows_scored"
#: Rows of a table of features.
ROWS_OUT = "rows_out"
ROWS_FLAGGED = "rows_flagged"
#: Unflagged rows that people see as well.
ROWS_AUDITED = "rows_audited"
#: Flagged rows spilled to disk because the sink failed.
ROWS_UNDELIVERED = "rows_undelivered"
ROWS_DEAD = "rows_dead"
ROWS_DUPLICATE = "rows_duplicate"
#: Records that are no transactions: rows that were deleted (or messages without a value), and rows
#: that were changed after their insertion. Shown where there are any.
ROWS_TOMBSTONE = "rows_tombstone"
ROWS_CORRECTION = "rows_correction"
#: Transactions of a stream dated after their arrival; they are scored.
ROWS_AHEAD = "rows_ahead"
#: Labels in a stream.
LABELS_IN = "labels_in"
#: Invalid labels; not counted as dead rows.
LABELS_DEAD = "labels_dead"
#: Messages of a topic of labels without a value.
LABELS_TOMBSTONE = "labels_tombstone"
#: Rows of `--history` that fill windows, and invalid or repeated ones.
HISTORY_ROWS = "history_rows"
HISTORY_ROWS_LEFT_OUT = "history_rows_left_out"
#: Earliest event time of rows and of their history, seconds of the epoch; no counts.
EARLIEST_ROW = "earliest_row"
EARLIEST_HISTORY_ROW = "earliest_history_row"
#: Earliest and latest event time of valid rows, seconds of the epoch; no counts.
FIRST_EVENT = "first_event"
LAST_EVENT = "last_event"
#: Accounts of the rows, and those that the history has too; only with windows of accounts.
ACCOUNTS = "accounts"
ACCOUNTS_KNOWN = "accounts_known"
#: Prefix of counters of dead letters by reason.
DEAD_PREFIX = "dead_"
#: Prefix of the number of rows that were read by an assumption.
DOUBT_PREFIX = "doubt_"
#: Prefix of counters of rows by rule.
RULE_PREFIX = "rule:"
#: The same of rules in shadow.
SHADOW_RULE_PREFIX = "shadow_rule:"


def rule_counter(name: str, *, shadow: bool) -> str:
    """Return the counter of the rows that a rule fires on."""
    return (SHADOW_RULE_PREFIX if shadow else RULE_PREFIX) + name


#: Muted rules, once per window and shard; repeated work counts again.
RULES_MUTED = "rules_muted"
#: Champions and rule sets that a running stream refused, once in each worker process.
PROMOTIONS_REFUSED = "promotions_refused"
