"""Personal data deleted for good, and a record that it was done."""
