"""Connection settings: refusals, resolved values, and masked secrets."""

import pickle
from pathlib import Path

import pytest

from beam_fraud.errors import Code, UsageError
from beam_fraud.sources.kafka.client import Reports, new_consumer
from beam_fraud.sources.kafka.settings import KafkaSettings
from tests.failing import fails


def test_properties_reach_every_client() -> None:
    settings = KafkaSettings.of("a:1,b:2", ["security.protocol=SSL", "x=1=2"])
    for config in (settings.producer_config(), settings.admin_config()):
        assert config["bootstrap.servers"] == "a:1,b:2"
        assert config["security.protocol"] == "SSL"
        assert config["x"] == "1=2"
    consumer = settings.consumer_config("mine")
    assert consumer["group.id"] == "mine"
    assert consumer["enable.auto.commit"] == "false"
    assert consumer["security.protocol"] == "SSL"


def test_the_group_of_the_user_wins() -> None:
    assert KafkaSettings.of("a:1", ["group.id=theirs"]).group("mine") == "theirs"
    assert KafkaSettings.of("a:1", ["group.id=theirs"]).consumer_config("mine")["group.id"] == (
        "theirs"
    )
    assert KafkaSettings.of("a:1").group("mine") == "mine"


@pytest.mark.parametrize(
    "name",
    ["sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret", "ssl.key.pem"],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(name: str) -> None:
    with fails(
        Code.SECRET_EXPOSED, f"{name}=env:NAME or {name}=file:PATH", kind=UsageError
    ) as raised:
        KafkaSettings.of("a:1", [f"{name}=hunter2"])
    assert "hunter2" not in str(raised.value)
    with pytest.raises(UsageError):
        KafkaSettings("a:1", ((name, "hunter2"),))


def test_a_property_without_a_value_is_not_repeated_either() -> None:
    with fails(Code.KAFKA_PROPERTY, "KEY=VALUE", kind=UsageError) as raised:
        KafkaSettings.of("a:1", ["sasl.password:hunter2"])
    assert "hunter2" not in str(raised.value)


def test_secrets_are_read_at_use_and_travel_with_no_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "hunter2")
    (tmp_path / "key").write_text("s3same\n")
    properties = tmp_path / "client.properties"
    properties.write_text("# ours\n\n! too\nsasl.username = alice\nsasl.password=f1led\n")
    settings = KafkaSettings.of(
        "a:1",
        ["sasl.password=env:BROKER_PASSWORD", f"ssl.key.password=file:{tmp_path / 'key'}"],
        properties,
    )
    config = settings.consumer_config("g")
    assert config["sasl.username"] == "alice"
    assert config["sasl.password"] == "hunter2", "the command line wins over the file"
    assert config["ssl.key.password"] == "s3same"
    shown = repr(settings) + settings.describe() + repr(pickle.dumps(settings))
    for secret in ("hunter2", "s3same", "f1led"):
        assert secret not in shown
    assert settings.without_secrets("no hunter2 here") == "no *** here"
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("bootstrap", ["", "a", "a:", "user:pw@a:1", "kafka://a:1", "a:1, b:2"])
def test_brokers_are_host_and_port(bootstrap: str) -> None:
    with fails(Code.OPTION_VALUE, "HOST:PORT", kind=UsageError):
        KafkaSettings.of(bootstrap)


@pytest.mark.parametrize("name", ["enable.auto.commit", "bootstrap.servers", "auto.offset.reset"])
def test_properties_that_the_stream_sets_are_refused(name: str) -> None:
    with fails(Code.KAFKA_PROPERTY, f"--kafka-config {name}", kind=UsageError):
        KafkaSettings.of("a:1", [f"{name}=1"])


def test_unreadable_input_is_one_line(tmp_path: Path) -> None:
    with fails(Code.KAFKA_PROPERTY, r"absent\.properties: No such file"):
        KafkaSettings.of("a:1", [], tmp_path / "absent.properties")
    (tmp_path / "bad.properties").write_text("sasl.password hunter2")
    with fails(Code.KAFKA_PROPERTY, r"bad\.properties: .*KEY=VALUE", kind=UsageError) as raised:
        KafkaSettings.of("a:1", [], tmp_path / "bad.properties")
    assert "hunter2" not in str(raised.value)
    with fails(Code.VARIABLE_UNSET, "x: .*NOT_SET_ANYWHERE"):
        KafkaSettings.of("a:1", ["x=env:NOT_SET_ANYWHERE"]).producer_config()
    with fails(Code.SECRET_UNREADABLE, r"x: .*gone: No such file"):
        KafkaSettings.of("a:1", [f"x=file:{tmp_path / 'gone'}"]).producer_config()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("foo.bar=1", r'No such configuration property: "foo\.bar"'),
        ("isolation.level=zz", r'Invalid value "zz" for configuration property "isolation\.level"'),
        ("stats_cb=x", "stats_cb"),
        ("sasl.mechanism=NONSENSE", ""),
    ],
)
def test_a_property_that_the_library_refuses_is_named(value: str, message: str) -> None:
    properties = [value, "security.protocol=SASL_PLAINTEXT"]
    with fails(Code.KAFKA_PROPERTY, f"--kafka-config: .*{message}", kind=UsageError) as raised:
        new_consumer(KafkaSettings.of("a:1", properties), "g", Reports())
    assert "\n" not in str(raised.value)
