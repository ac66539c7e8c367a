"""Rule sets kept beside the rows that they decided, so that an audit has them as they were.

DIR/rules/<rules_id>.toml          the rules file
DIR/rules/<rules_id>.lists.json    the files of its lists by their names in it, if it has any
DIR/rules/log.jsonl                a line for each time that a process took up a rule set
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from beam_fraud.decisions.rules.files import RULES_FILE, RuleFiles
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.store import Store, store_at
from beam_fraud.wording import reason_of

#: The directory under `--out` or `--state`.
DIRECTORY = "rules"
_LOG_FILE = f"{DIRECTORY}/log.jsonl"
#: Bytes of a text that are written as JSON at once.
_PIECE = 1 << 16


def keep_rules(place: Path | str, rules: RuleSet | None, before: str | None = None) -> None:
    """Keep the files of a rule set, and note when it was taken up; at a URL without the note.

    Args:
      place: the directory or URL of the outputs, which is there.
      rules: the rule set; None does nothing.
      before: id of the rule set that it takes the place of, or None.

    Raises:
      FraudError: the file system reports an error.
    """
    if rules is None or rules.id is None or RULES_FILE not in rules.files:
        return
    store, name = store_at(place), f"{DIRECTORY}/{rules.id}"
    try:
        if isinstance(place, Path):
            make_directory(place / DIRECTORY)
        lists = {file: data for file, data in rules.files.items() if file != RULES_FILE}
        if lists and not store.exists(f"{name}.lists.json"):
            store.write(f"{name}.lists.json", b"".join(_json_of(lists)))
        if not store.exists(f"{name}.toml"):
            store.write(f"{name}.toml", rules.files[RULES_FILE])
        if isinstance(place, Path):
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"at": now, "rules_id": rules.id, "before": before}
            with (place / _LOG_FILE).open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
    except OSError as error:
        raise FraudError(
            f"{store}/{DIRECTORY}: the rules cannot be kept there ({reason_of(error)})",
            Code.OUTPUT_UNWRITABLE,
        ) from None


def _json_of(texts: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield an object of JSON with texts in UTF-8.

    In one call, a text of a million lines would take a server's interpreter from its answers.
    """
    before = "{"
    for name, data in texts.items():
        yield f'{before}\n {json.dumps(name)}: "'.encode()
        pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        for text in codecs.iterdecode(pieces, "utf-8"):
            yield json.dumps(text)[1:-1].encode()
        before = '",'
    yield b'"\n}'


def kept_rules(store: Store, directory: str, rules_id: str) -> RuleFiles | None:
    """Return the files of a rule set that `keep_rules` left; None if it did not.

    Args:
      store: where it is looked for.
      directory: a directory there, "" or with a slash at its end.
      rules_id: id of the rule set, a safe name of a file.

    Raises:
      OSError: a file cannot be read.
      ValueError: the file of the lists is damaged.
    """
    name = f"{directory}{DIRECTORY}/{rules_id}"
    if not store.exists(f"{name}.toml"):
        return None
    contents = {RULES_FILE: store.read(f"{name}.toml")}
    if store.exists(f"{name}.lists.json"):
        texts: dict[str, str] = json.loads(store.read(f"{name}.lists.json"))
        contents |= {file: text.encode() for file, text in texts.items()}
    return RuleFiles(rules_id.rpartition("@")[0], contents)
