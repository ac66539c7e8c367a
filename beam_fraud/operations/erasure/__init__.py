"""Personal data deleted from every place."""
