"""Certificates of an authority of their own, for servers on this machine."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """A server's side, and the file by which a client trusts it."""

    context: ssl.SSLContext
    ca_file: Path


def certificates(directory: Path, *hosts: str) -> Certificates:
    """A certificate for `hosts` (by default those of this machine), signed by a new authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(hosts or ("127.0.0.1", "localhost"))).configure_cert(context)
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return Certificates(context, ca_file)
