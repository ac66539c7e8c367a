"""How much of the traffic a rule may fire on before something must be wrong with it."""

#: The share of rows beyond which a stream mutes a rule, and everything else warns of it.
RULE_LIMIT = 0.2
#: Rows of a window from which a share is believed.
FEWEST_ROWS = 100
