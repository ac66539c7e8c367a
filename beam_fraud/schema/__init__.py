"""What a transaction is: roles, types, velocity definitions and the Arrow schemas of the stages."""
