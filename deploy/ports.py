"""Ports of this machine for trial servers."""

from __future__ import annotations

import argparse
import random
import socket


def free_port() -> int:
    """Return a free port of 127.0.0.1.

    Below the ports that systems give to outgoing connections: while a server is down, one of
    those, even its own client's, could take its place.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Return whether a server could listen at a port of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: a connection that was just closed doesn't keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def port(text: str) -> int:
    """Parse a port, for `argparse`.

    Raises:
      argparse.ArgumentTypeError: It is none.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text} is no port, which is from 1 to 65535")
    return int(text)


def count(text: str) -> int:
    """Parse a number of at least one, for `argparse`.

    Raises:
      argparse.ArgumentTypeError: It is less than one, or no number.
    """
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} must be a number from 1 on")
    return int(text)


def listens(endpoint: str) -> bool:
    """Return whether something accepts connections at "HOST:PORT"."""
    host, _, port = endpoint.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
