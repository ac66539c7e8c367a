"""What all rooms stand on: Beam's private parts, and the words of messages."""
