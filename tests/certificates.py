"""Certificates of a test authority, for servers on this machine."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files of a server's certificate and of the authority that clients trust."""

    context: ssl.SSLContext
    ca_file: Path


def certificates(directory: Path, *hosts: str) -> Certificates:
    """Make a certificate for `hosts` (default: this machine), signed by a new authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(hosts or ("127.0.0.1", "localhost"))).configure_cert(context)
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return Certificates(context, ca_file)
