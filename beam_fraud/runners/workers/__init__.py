"""Python workers for remote runners."""
