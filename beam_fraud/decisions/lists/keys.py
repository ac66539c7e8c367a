"""The keys of DIR/NAME.toml, which says where a list comes from."""

from __future__ import annotations

from typing import Annotated

import msgspec

from beam_fraud.errors import Code
from beam_fraud.schema.text_file import Table, must_be

_Words = Annotated[str, msgspec.Meta(min_length=1)]


class Keys(Table):
    """Keys of a file that says where a list comes from."""

    code = Code.LIST_INVALID


class TableKeys(Keys):
    """The table of a database, and its columns."""

    database: Annotated[
        str, must_be("a database, as in postgresql://USER@HOST/DATABASE", min_length=1)
    ]
    name: Annotated[
        str, must_be("the name of a table, as in blocked or risk.blocked", min_length=1)
    ]
    value: Annotated[str, must_be("the name of the column of the values", min_length=1)]
    until: Annotated[_Words | None, must_be("the name of a column")] = None
    reason: Annotated[_Words | None, must_be("the name of a column")] = None
    who: Annotated[_Words | None, must_be("the name of a column")] = None
    changed: Annotated[_Words | None, must_be("the name of a column")] = None


class TopicKeys(Keys):
    """The topic of a broker."""

    kafka: Annotated[str, must_be("brokers, as in HOST:PORT", min_length=1)]
    name: Annotated[str, must_be("the name of a topic", min_length=1)]
    properties: Annotated[_Words | None, must_be("a file of properties")] = None
    config: Annotated[dict[str, str], must_be('a table of texts, as in {"client.id" = "f"}')] = {}
