"""What Beam's runners can do, and calls that one of them cannot carry out."""
