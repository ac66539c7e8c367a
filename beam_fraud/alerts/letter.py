"""A message as an e-mail: the same bytes however often it is tried."""

from __future__ import annotations

import html
import logging
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from beam_fraud.alerts.fields import FIELDS
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.template import MessageTemplate, default_template
from beam_fraud.alerts.wording import headline

_LOG = logging.getLogger(__name__)
#: What a letter that is made of text alone looks like in HTML.
_PLAIN = '<!DOCTYPE html>\n<html><body><pre style="white-space: pre-wrap">{}</pre></body></html>\n'


@dataclass(frozen=True)
class LetterForm:
    """What the letters of a channel have in common."""

    #: Whom they are from.
    sender: Address
    #: Whom they are for.
    recipients: tuple[Address, ...]
    #: What of an alert the default templates and the subject show.
    fields: tuple[str, ...] = FIELDS
    #: The user's templates, if there are any.
    text: MessageTemplate | None = None
    html: MessageTemplate | None = None

    def letter(self, message: Message) -> bytes:
        """The e-mail for a message, with CRLF line ends and in ASCII.

        A template that fails gives way to the default one: an alert that looks otherwise is better
        than none.
        """
        mail = EmailMessage(policy=SMTP)
        mail["Message-ID"] = f"<{message.delivery_id}@{self.sender.domain}>"
        mail["Date"] = message.created_at
        mail["From"] = self.sender
        mail["To"] = self.recipients
        mail["Subject"] = headline(message, self.fields)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Beam-Fraud-Delivery"] = message.delivery_id
        mail["X-Beam-Fraud-Kind"] = message.kind
        mail["X-Beam-Fraud-Alerts"] = str(message.total)
        text, marked_up = self._parts(message)
        # Lines are short and in ASCII whatever is in them, so that no server has to change them.
        mail.set_content(text, cte="quoted-printable")
        mail.add_alternative(marked_up, subtype="html", cte="quoted-printable")
        mail.set_boundary(f"=_beam-fraud_{message.delivery_id}")
        return mail.as_bytes()

    def _parts(self, message: Message) -> tuple[str, str]:
        try:
            if self.text is not None:
                text = self.text.render(message)
                marked_up = _PLAIN.format(html.escape(text))
                return text, marked_up if self.html is None else self.html.render(message)
        except Exception as error:
            _LOG.warning("a template failed (%s), the default one is used", type(error).__name__)
        return (
            default_template("message.txt", self.fields).render(message),
            default_template("message.html", self.fields).render(message),
        )
