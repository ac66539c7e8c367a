"""The files of a rule set, and the id that follows from their contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from beam_fraud.errors import Code, FraudError

#: Name of the rules file among the files of a rule set.
RULES_FILE = "rules.toml"
#: Hex digits of a digest in an id.
_DIGITS = 12


@dataclass(frozen=True)
class RuleFiles:
    """A rules file and the files of its lists, as they were read at one moment."""

    #: First half of the id.
    name: str
    #: `RULES_FILE`, and the files of its lists by their names in it.
    contents: Mapping[str, bytes]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, by name."""
        return {
            name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.contents.items())
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all files.

        Lists that conditions name as `@name` are not part of it.
        """
        digests = self.digests
        if len(digests) == 1:
            return digests[RULES_FILE]
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()

    @property
    def id(self) -> str:
        """Id of the rule set, such as `night@0123456789ab`: equal for equal contents."""
        return f"{self.name}@{self.digest[:_DIGITS]}"

    @property
    def text(self) -> str:
        """The rules file.

        Raises:
          FraudError: it is not UTF-8.
        """
        try:
            return self.contents[RULES_FILE].decode("utf-8-sig")
        except UnicodeDecodeError:
            raise FraudError(
                f"rules file {self.name}.toml cannot be read: not UTF-8", Code.RULES_UNREADABLE
            ) from None
