"""Parse the options in a channel's URL: `group=10m&rate=60/1h`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from beam_fraud.alerts.message import FIELDS
from beam_fraud.alerts.policy import Policy, Rate
from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.duration import SECOND, microseconds
from beam_fraud.storage.urls import absolute
from beam_fraud.wording import did_you_mean, printable

#: Options of every channel.
COMMON = ("group", "rate", "most", "digest", "fields")
#: Options that may be repeated.
_REPEATED = ("config",)
_RATE = re.compile(r"([1-9][0-9]{0,5})/(\w+)", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)


@dataclass(frozen=True)
class ChannelOptions:
    """The options of one channel."""

    #: The channel as the user wrote it, masked, for messages: `--alert smtp://mail.example`.
    where: str
    #: Name to value of the options that may not be repeated.
    values: Mapping[str, str]
    #: Repeated options as `KEY=VALUE`.
    config: tuple[str, ...] = ()

    def get(self, name: str) -> str | None:
        """Return the value of an option, or None."""
        return self.values.get(name)

    def policy(self, default: Policy, most_at_most: int = 10_000) -> Policy:
        """Return `default`, changed by the options `group`, `rate`, `most` and `digest`.

        With any of the first three, a batch goes into one message only if `digest` is set too.

        Raises:
          UsageError: the value of an option is invalid.
        """
        policy = default
        if any(self.get(name) is not None for name in ("group", "rate", "most")):
            policy = replace(policy, digest=None)
        if (group := self.get("group")) is not None:
            policy = replace(policy, group=None if group == "none" else self._span("group", group))
        if (rate := self.get("rate")) is not None:
            policy = replace(policy, rate=None if rate == "none" else self._rate(rate))
        if (most := self.get("most")) is not None:
            if not _COUNT.fullmatch(most) or int(most) > most_at_most:
                raise self.invalid("most", most, f"a number from 1 to {most_at_most:,}")
            policy = replace(policy, most=int(most))
        if (digest := self.get("digest")) is not None:
            policy = replace(policy, digest=self._digest(digest, most_at_most))
        return policy

    def fields(self, default: tuple[str, ...] = FIELDS) -> tuple[str, ...]:
        """Return the fields of an alert to show.

        Raises:
          UsageError: a field is unknown.
        """
        text = self.get("fields")
        if text is None:
            return default
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        for name in names:
            if name not in FIELDS:
                hint = did_you_mean(name, FIELDS, f"known are {', '.join(FIELDS)}", form=str)
                raise UsageError(
                    f"{self.where}: fields: alerts have no field {name!r}; {hint}",
                    Code.CHANNEL_URL,
                )
        return names

    def ca_file(self) -> str | None:
        """Return the file of `cafile`: certificates to trust instead of the system's.

        Raises:
          UsageError: the file does not exist.
        """
        text = self.get("cafile")
        if text is None:
            return None
        path = absolute(Path(text))
        if not path.is_file():
            raise UsageError(
                f"{self.where}: cafile {text}: the file does not exist", Code.SECRET_UNREADABLE
            )
        return str(path)

    def yes(self, name: str, default: bool) -> bool:
        """Return whether an option is `yes`.

        Raises:
          UsageError: the value is neither `yes` nor `no`.
        """
        value = self.get(name)
        if value not in (None, "yes", "no"):
            raise self.invalid(name, str(value), "yes or no")
        return default if value is None else value == "yes"

    def invalid(self, name: str, value: str, form: str) -> UsageError:
        """Return the error for an invalid value; `form` describes the valid ones."""
        return UsageError(
            f"{self.where}: {name}={printable(value, 100)}: write {form}", Code.CHANNEL_URL
        )

    def _digest(self, text: str, most_at_most: int) -> int | None:
        if text == "none":
            return None
        if not _COUNT.fullmatch(text) or int(text) > most_at_most:
            raise self.invalid("digest", text, f"a number from 1 to {most_at_most:,}, or none")
        return int(text)

    def _span(self, name: str, text: str) -> float:
        try:
            span = microseconds(text)
        except UsageError:
            span = 0
        if not span:
            raise self.invalid(name, text, f"a time such as {name}=10m, or none")
        return span / SECOND

    def _rate(self, text: str) -> Rate:
        if not (parts := _RATE.fullmatch(text)):
            raise self.invalid("rate", text, "messages and a time such as rate=60/1h, or none")
        try:
            seconds = microseconds(parts[2]) / SECOND
        except UsageError:
            seconds = 0
        if not seconds:
            raise self.invalid("rate", text, "messages and a time such as rate=60/1h, or none")
        return Rate(int(parts[1]), seconds)


def parse_options(where: str, text: str, known: Collection[str]) -> ChannelOptions:
    """Parse the options of a URL's query or fragment.

    A plus sign stands for itself: e-mail addresses may contain one.

    Args:
      where: the channel as the user wrote it, masked.
      text: the part after `?` or `#`.
      known: names of the channel's own options.

    Raises:
      UsageError: an option is unknown, empty or repeated. The message does not show its value.
    """
    values: dict[str, str] = {}
    config = []
    names = (*COMMON, *known)
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        if name not in names:
            hint = did_you_mean(name, names, f"known are {', '.join(names)}", form=str)
            raise UsageError(
                f"{where}: unknown option {unquote(name)[:40]!r}; {hint}", Code.CHANNEL_URL
            )
        if not value:
            raise UsageError(f"{where}: {name}: the value is empty", Code.CHANNEL_URL)
        if name in _REPEATED:
            config.append(unquote(value))
        elif name in values:
            raise UsageError(f"{where}: {name} is given twice", Code.CHANNEL_URL)
        else:
            values[name] = unquote(value)
    return ChannelOptions(where, values, tuple(config))
