"""The schema of transactions: roles, types, velocity definitions and Arrow schemas."""
