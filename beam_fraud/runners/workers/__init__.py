"""Python workers for runners that run elsewhere."""
