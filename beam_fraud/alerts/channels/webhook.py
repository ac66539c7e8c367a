"""POST alerts to a URL as JSON, signed by a shared secret."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from beam_fraud.alerts.channels.http import HttpChannel, settle
from beam_fraud.alerts.channels.options import parse_options
from beam_fraud.alerts.channels.server import (
    receiver_name,
    refuse_login,
    refuse_unencrypted,
    server_of,
    without_fragment,
)
from beam_fraud.alerts.message import Message, message_json
from beam_fraud.alerts.policy import Policy
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.text_file import read_secret

#: HTTP headers of a signed message.
TIMESTAMP_HEADER, SIGNATURE_HEADER = "X-Beam-Fraud-Timestamp", "X-Beam-Fraud-Signature"
FORM = "https://HOST/PATH"
#: For programs: send each alert at once.
_POLICY = Policy(most=1)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return `SIGNATURE_HEADER`: HMAC-SHA256 of the timestamp, a dot and the body.

    Args:
      secret: shared with the receiver.
      timestamp: seconds since 1970, as in `TIMESTAMP_HEADER`.
      body: the body of the request.

    Example:
      >>> signature("secret", "1700000000", b"{}")[:20]
      'sha256=b8569b78799ff'
    """
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


#: Variable of the secret if the URL names no other place.
SECRET_VARIABLE = "BEAM_FRAUD_WEBHOOK_SECRET"


@dataclass(frozen=True)
class WebhookChannel(HttpChannel):
    """Send one POST per message."""

    #: Options of the URL, of which `read_secret` reads the secret's location.
    secrets: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Check that the server can be reached and the secret read, without a POST.

        Raises:
          FraudError: the server cannot be reached, or the secret cannot be read.
        """
        self._secret()
        super().check()

    def send(self, message: Message) -> None:
        """Post the message, with the same body and `Idempotency-Key` at every attempt.

        Raises:
          MessageRefusedError: the receiver refuses this message permanently.
          TryLaterError: the receiver names the time of the next attempt.
          FraudError: the server cannot be reached or fails at the moment.
        """
        body = message_json(message, self.fields)
        headers = {"Idempotency-Key": message.delivery_id}
        if (secret := self._secret()) is not None:
            timestamp = str(int(time.time()))
            headers[TIMESTAMP_HEADER] = timestamp
            headers[SIGNATURE_HEADER] = signature(secret, timestamp, body)
        settle(f"--alert {self.name}", self.post(body, headers))

    def _secret(self) -> str | None:
        where = f"--alert {self.name}"
        secret = read_secret(where, "secret", self.secrets, SECRET_VARIABLE)
        if secret == "":
            raise FraudError(f"{where}: the secret is empty", Code.SECRET_UNREADABLE)
        return secret


def webhook_channel(url: str) -> WebhookChannel:
    """Return the channel of an `https:` or `http:` URL; connect to nothing.

    Raises:
      UsageError: the URL has another form, or sends alerts unencrypted.
    """
    server = server_of(url, FORM)
    name = receiver_name(server.scheme, server, url)
    options = parse_options(
        f"--alert {name}", server.fragment, ("plain", "cafile", "secret_file", "secret_env")
    )
    refuse_login(server, options)
    refuse_unencrypted(server.scheme, server, options)
    return WebhookChannel(
        name=name,
        policy=options.policy(_POLICY),
        url=without_fragment(url),
        fields=options.fields(),
        ca_file=options.ca_file(),
        secrets=dict(options.values),
    )
