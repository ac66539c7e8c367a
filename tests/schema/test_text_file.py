"""Files of users: with a byte order mark, and nested to any depth."""

from pathlib import Path

import pytest

from beam_fraud.decisions.rules.toml import load_rules, rules_from_toml
from beam_fraud.errors import UsageError
from beam_fraud.schema.text_file import read_secret
from beam_fraud.schema.toml import load_schema, schema_from_toml
from beam_fraud.sources.kafka.settings import read_properties, resolve

MARK = b"\xef\xbb\xbf"
SCHEMA = b'name = "bank"\n[roles]\nevent_time = "t"\namount = "a"\n'
RULES = b'[[rule]]\nname = "large"\nwhen = "amount > 100"\ndecision = "review"\n'


def written(path: Path, text: bytes) -> Path:
    path.write_bytes(MARK + text)
    return path


def test_a_byte_order_mark_is_no_part_of_any_file(tmp_path: Path) -> None:
    assert load_schema(str(written(tmp_path / "s.toml", SCHEMA))).name == "bank"
    lists = b'[[list]]\nname = "trusted"\nfile = "l.txt"\n' + RULES
    written(tmp_path / "l.txt", b"m1\n")
    names = {"amount": "number", "merchant_id": "text"}
    rules = load_rules(
        str(
            written(tmp_path / "r.toml", lists.replace(b"amount > 100", b"merchant_id in trusted"))
        ),
        names,  # type: ignore[arg-type]
    )
    assert rules.names == ("large",)
    secret = str(written(tmp_path / "secret", b"s3cret\n"))
    assert read_secret("--alert x", "password", {"password_file": secret}, "NONE") == "s3cret"
    assert resolve("sasl.password", f"file:{secret}") == "s3cret"
    properties = written(tmp_path / "p", b"security.protocol=SSL\n")
    assert read_properties(properties) == (("security.protocol", "SSL"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 10_000, "nests too deeply"),
        ("x = " + "[" * 10_000 + "]" * 10_000, "nests too deeply"),
        ("x = " + "{a = " * 10_000, "nests too deeply"),
        ("a" + ".a" * 10_000 + " = 1", "a key of over 1000 parts"),
        ("[a" + ".a" * 10_000 + "]\nb = 1", "a key of over 1000 parts"),
        ("x = " + "9" * 10_000, "an integer is too large"),
        ("x = 0x" + "f" * 10_000, "an integer is too large"),
    ],
    ids=lambda value: value[:24],
)
def test_invalid_toml_is_one_line(text: str, message: str) -> None:
    for read in (schema_from_toml, lambda text: rules_from_toml(text, {})):
        with pytest.raises(UsageError, match=message) as refused:
            read(text)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize("nested", ["(" * 10_000, "not " * 100_000, "-" * 100_000 + "1"])
def test_a_condition_that_nests_too_deeply_is_one_line(nested: str) -> None:
    text = RULES.decode().replace("amount > 100", f"amount > {nested}")
    with pytest.raises(UsageError) as refused:
        rules_from_toml(text, {"amount": "number"})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
