"""Alerts by e-mail."""

from __future__ import annotations

import logging
import smtplib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from beam_fraud.alerts.channel import MessageRefusedError
from beam_fraud.alerts.letter import LetterForm
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.smtp_session import RefusalError, SmtpServer, SmtpSession
from beam_fraud.errors import FraudError
from beam_fraud.printable import printable
from beam_fraud.secret import read_secret

_LOG = logging.getLogger(__name__)
#: Deliveries of which some recipients wait that are remembered at most.
_REMEMBERED = 1_000
#: Where the password is looked for if the URL names no place.
PASSWORD_VARIABLE = "BEAM_FRAUD_SMTP_PASSWORD"


@dataclass(frozen=True)
class SmtpChannel:
    """One letter a message, to all recipients at once."""

    #: `smtp://` or `smtps://`, user, server and recipients.
    name: str
    policy: Policy
    server: SmtpServer
    form: LetterForm
    #: Where the password is, as `read_secret` reads it.
    secrets: Mapping[str, str] = field(default_factory=dict)
    _session: SmtpSession = field(init=False, repr=False, compare=False)
    #: Delivery to the addresses that have it, while others wait for it.
    _given: OrderedDict[str, set[str]] = field(
        init=False, repr=False, compare=False, default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        """Connect to nothing yet."""
        object.__setattr__(self, "_session", SmtpSession(self.server, self._password))

    def check(self) -> None:
        """Connect and log in; no letter is sent.

        Raises:
          FraudError: the server cannot be reached or does not want this login.
        """
        try:
            self._session.open()
        except (FraudError, OSError, smtplib.SMTPException, RefusalError) as error:
            raise self._failure(error) from None
        finally:
            self._session.close()

    def send(self, message: Message) -> None:
        """Hand the letter to the server; it has the same Message-ID at every attempt.

        Where a recipient is refused for good and others are not, that is told in a warning.

        Raises:
          MessageRefusedError: the server wants neither this letter nor will it later.
          FraudError: it cannot be reached, or not now.
        """
        addresses = [address.addr_spec for address in self.form.recipients]
        given = self._given.get(message.delivery_id, set())
        waiting = [address for address in addresses if address not in given]
        try:
            refused = self._session.deliver(
                self.form.sender.addr_spec, waiting, self.form.letter(message)
            )
        except (FraudError, OSError, smtplib.SMTPException, RefusalError) as error:
            raise self._failure(error) from None
        self._weigh(message.delivery_id, given | {*waiting} - refused.keys(), refused)

    def close(self) -> None:
        """End the connection."""
        self._session.close()

    def describe(self) -> str:
        """The name, which holds no secret."""
        return self.name

    def _weigh(self, delivery: str, given: set[str], refused: dict[str, RefusalError]) -> None:
        """Raise unless everyone has the letter who will take it."""
        later = {address: why for address, why in refused.items() if not why.final}
        never = {address: why for address, why in refused.items() if why.final}
        if later:
            # Whoever has the letter gets no second one when the others are asked again.
            self._given[delivery] = given
            while len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
            raise self._failure(next(iter(later.values())), _many(later))
        self._given.pop(delivery, None)
        if never and not given:
            raise self._failure(next(iter(never.values())), _many(never))
        for address, why in never.items():
            _LOG.warning(
                "--alert %s: %s gets no alerts (%s)", self.name, address, printable(str(why), 200)
            )

    def _failure(self, error: BaseException, whom: str = "") -> FraudError:
        if isinstance(error, RefusalError):
            said = f"--alert {self.name}: refused{whom} ({printable(str(error), 200)})"
            return MessageRefusedError(said) if error.final else FraudError(said)
        why = str(error) if isinstance(error, FraudError) else self._session.why(error)
        return FraudError(f"--alert {self.name}: {printable(why, 200)}")

    def _password(self) -> str | None:
        password = read_secret("the login", "password", self.secrets, PASSWORD_VARIABLE)
        if not password:
            raise FraudError(
                f"there is no password; set {PASSWORD_VARIABLE}, or give password_file=FILE"
            )
        return password


def _many(refused: Mapping[str, RefusalError]) -> str:
    first, *others = refused
    return f" for {first} and {len(others)} more" if others else f" for {first}"
