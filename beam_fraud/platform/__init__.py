"""The ground of all rooms: Beam's private parts, and the words of messages."""
