"""The signature of a webhook's message: whoever shares the secret knows who sent it, and when."""

from __future__ import annotations

import hashlib
import hmac

#: Headers of a signed message.
TIMESTAMP_HEADER, SIGNATURE_HEADER = "X-Beam-Fraud-Timestamp", "X-Beam-Fraud-Signature"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What `SIGNATURE_HEADER` holds: HMAC-SHA256 of the timestamp, a dot and the body.

    Args:
      secret: shared with the receiver.
      timestamp: seconds since 1970, as in `TIMESTAMP_HEADER`.
      body: of the message, as it is sent.

    Example:
      >>> signature("secret", "1700000000", b"{}")[:20]
      'sha256=b8569b78799ff'
    """
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
