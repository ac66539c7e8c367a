"""Read which table or topic a list comes from: DIR/NAME.toml, in place of DIR/NAME.jsonl.

[table]
database = "postgresql://reader@db.example/risk?password_env=LISTS_PASSWORD"
name = "blocked_cards"
value = "card"
until = "expires_at"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from beam_fraud.decisions.lists.changes import declaration_file, list_file
from beam_fraud.decisions.lists.file_list import FileList
from beam_fraud.decisions.lists.keys import Keys, TableKeys, TopicKeys
from beam_fraud.decisions.lists.source import ListSource
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.text_file import must_be, read_table, read_text_file, read_toml
from beam_fraud.wording import reason_of


class _Document(Keys):
    table: Annotated[dict[str, Any] | None, must_be("written as [table]")] = None
    topic: Annotated[dict[str, Any] | None, must_be("written as [topic]")] = None


@dataclass(frozen=True)
class Declared:
    """The declaration of the source of a list."""

    directory: Path
    name: str
    #: The text of DIR/NAME.toml; None for DIR/NAME.jsonl.
    text: str | None

    @classmethod
    def read(cls, directory: Path, name: str) -> Declared:
        """Return where a list comes from, by its file now.

        Raises:
          UsageError: it is no name of a list.
          FraudError: the file cannot be read, or there are two.
        """
        path = declaration_file(directory, name)
        try:
            text = read_text_file(path)
        except FileNotFoundError:
            return cls(directory, name, None)
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else "not UTF-8"
            raise FraudError(f"{path}: cannot be read ({reason})", Code.LIST_INVALID) from None
        entries = list_file(directory, name)
        if entries.exists():
            raise FraudError(
                f"list {name}: both {path} and {entries} are there; move one away",
                Code.LIST_INVALID,
            )
        return cls(directory, name, text)

    def source(self) -> ListSource:
        """Return the source, which connects when it is read.

        Raises:
          UsageError: the file names no table and no topic that can be used.
          FraudError: a package is missing.
        """
        if self.text is None:
            return FileList(self.directory, self.name)
        where = str(declaration_file(self.directory, self.name))
        document = read_toml(self.text, _Document, where)
        if (document.table is None) == (document.topic is None):
            raise FraudError(f"{where}: needs either [table] or [topic]", Code.LIST_INVALID)
        # Imported here: few lists come from a database, and fewer from a topic.
        if document.table is not None:
            from beam_fraud.decisions.lists.table_list import TableList

            table = read_table(document.table, TableKeys, f"{where}: table")
            return TableList(self.name, table, self.directory)
        from beam_fraud.decisions.lists.topic_list import TopicList

        topic = read_table(document.topic, TopicKeys, f"{where}: topic")
        return TopicList(self.name, topic, self.directory)
