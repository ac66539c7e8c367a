"""People of the analysts' pages: users, roles, passwords, sessions and the limit of log-ins."""
