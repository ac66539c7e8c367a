"""Whether a server is there."""

import socket


def listens(endpoint: str) -> bool:
    """Whether something accepts connections at "HOST:PORT"."""
    host, _, port = endpoint.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
