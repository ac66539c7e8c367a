"""Roles of people, each with the rights of those below it."""

from __future__ import annotations

from enum import IntEnum

from beam_fraud.errors import Code, UsageError
from beam_fraud.wording import did_you_mean


class Role(IntEnum):
    """Rights of a person; a higher role includes the lower ones."""

    #: Sees cases and figures, and changes nothing.
    READ_ONLY = 1
    #: Claims and decides cases, proposes changes of lists.
    ANALYST = 2
    #: Assigns cases to others, closes many at once, approves changes of lists, reads the audit log.
    LEAD = 3
    #: Also manages users.
    ADMIN = 4

    @property
    def word(self) -> str:
        """The role as options and tables name it."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def parse(cls, word: str, option: str = "--role") -> Role:
        """Return the role of a word.

        Raises:
          UsageError: there is no such role.

        Example:
          >>> Role.parse("read-only") < Role.parse("lead")
          True
        """
        if word in _BY_WORD:
            return _BY_WORD[word]
        hint = did_you_mean(word, WORDS, f"the roles are {', '.join(WORDS)}")
        raise UsageError(f"{option} {word}: no such role; {hint}", Code.OPTION_VALUE)


#: The roles' words, from the least rights to the most.
WORDS = tuple(role.word for role in Role)
_BY_WORD = dict(zip(WORDS, Role, strict=True))
