"""Templates are tested before anything is sent, and run in a sandbox."""

import io
import re
from dataclasses import replace

import pytest

from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.samples import SAMPLES, sample_alert
from beam_fraud.alerts.template import MessageTemplate, default_template, read_template
from beam_fraud.errors import FraudError
from tests.flagged import message_of
from tests.smtp_server import SmtpServer


def _refused(source, **options):
    with pytest.raises(FraudError) as refused:
        MessageTemplate(source, "mail.txt", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("one\n{{ merchant }}", "mail.txt, line 2: unknown variable 'merchant' (known are kind,"),
        ("{% for a in alerts %}\n{{ a.merchnt }}{% endfor %}", "mail.txt, line 2: "),
        ("{% if kind == 'x' %}\n{{ nobody }}{% endif %}", "line 2: unknown variable 'nobody'"),
        ("{% for a in alerts %}", "mail.txt, line 1: "),
        ("{{ alerts[0].reasons[0].weight }}", "mail.txt, line 1: "),
        ("{{ 1 / 0 }}", "mail.txt, line 1: ZeroDivisionError"),
        ("{% include 'other' %}", "mail.txt, line 1: "),
        ("{{ total | frobnicate }}", "mail.txt, line 1: "),
        ("{{ alerts.__class__.__mro__ }}", "mail.txt, line 1: "),
        ("{{ ''.__class__ }}", "mail.txt, line 1: "),
        ("{{ range(10**9) | length }}", "mail.txt, line 1: OverflowError"),
    ],
)
def test_invalid_templates_are_refused_with_the_line(source, message):
    assert message in _refused(source)


def test_an_attribute_that_is_missing_is_named():
    assert "'merchnt'" in _refused("{% for a in alerts %}{{ a.merchnt }}{% endfor %}")


def test_a_template_sees_all_fields():
    template = MessageTemplate(
        "{% for a in alerts %}{{ a.decision }} {{ '%.1f' % a.score }} {{ a.amount }} "
        "{{ a.event_time.year }} {{ a.account_id }} {{ a.merchant_id }} {{ a.rules | join }} "
        "{% for r in a.reasons %}{{ r.text }};{% endfor %} {{ a.model_id }}{% endfor %}",
        "x",
    )
    assert template.render(SAMPLES[0]) == (
        "decline 1.0 1234.5 2024 test-account test-merchant large_and_fast "
        "7 transactions of the account in the last hour, usually 1;"
        "amount 1,234.50, usually 38.20;"
        "merchant_risk_7d is missing; test@000000000000"
    )


def test_html_is_escaped_and_text_is_not():
    alert = replace(sample_alert(), merchant_id="<b>&\n")
    source = "{{ alerts[0].merchant_id if alerts }}"
    message = message_of([alert])
    assert MessageTemplate(source, "x").render(message) == "<b>&\\n"
    assert MessageTemplate(source, "x", html=True).render(message) == "&lt;b&gt;&amp;\\n"


@pytest.mark.parametrize("name", ["message.txt", "message.html"])
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_the_default_templates_show_all_fields(name, sample):
    text = default_template(name).render(sample)
    assert sample.delivery_id in text
    if sample.text:
        assert sample.text.replace("'", "&#39;" if name.endswith("html") else "'") in text
    for alert in sample.alerts:
        for message in (alert.alert_id, alert.transaction_id, alert.model_id, "0.97", "1,234.50"):
            assert message in text
    if sample.kind == "digest":
        assert "1,000" in text


@pytest.mark.parametrize(
    ("score", "shown"), [(0.97, "0.97"), (1.0, "1.00"), (0.00326, "0.0033"), (0.0, "0.00")]
)
def test_a_score_near_0_has_two_digits(score, shown):
    text = default_template("message.txt").render(
        message_of([replace(sample_alert(), score=score)])
    )
    assert f"score {shown}, amount" in text


def test_a_name_is_not_a_template():
    alert = replace(sample_alert(), account_id="{{ 7 * 7 }}{% raw %}")
    assert "{{ 7 * 7 }}{% raw %}" in default_template("message.txt").render(message_of([alert]))


@pytest.mark.parametrize("html", [False, True])
def test_emails_follow_the_users_templates(tmp_path, html):
    (tmp_path / "mail.txt").write_text("{{ total }} & {{ alerts[0].merchant_id if alerts }}\n")
    (tmp_path / "mail.html").write_text("<p>{{ alerts[0].merchant_id if alerts }}</p>")
    more = f"&html_template={tmp_path / 'mail.html'}" if html else ""
    with SmtpServer() as server:
        channel = parse_channel(
            f"smtp://127.0.0.1:{server.port}/?starttls=no&from=a@b.c&to=d@e.f"
            f"&template={tmp_path / 'mail.txt'}{more}",
            io.StringIO(),
        )
        channel.send(message_of([replace(sample_alert(), merchant_id="<i>")]))
        channel.close()
    text, marked_up = (part.get_content() for part in server.letters[0].mail.iter_parts())
    assert text.strip() == "1 & <i>"
    assert re.findall(r"&lt;i&gt;", marked_up) == ["&lt;i&gt;"]
    assert ("<pre" in marked_up) is not html


def test_a_template_that_fails_later_is_replaced_by_the_default(tmp_path, caplog):
    path = tmp_path / "mail.txt"
    path.write_text("{{ 1 / (total - 77) }}")
    with SmtpServer() as server:
        channel = parse_channel(
            f"smtp://127.0.0.1:{server.port}/?starttls=no&from=a@b.c&to=d@e.f&template={path}",
            io.StringIO(),
        )
        channel.send(replace(SAMPLES[0], total=77))
        channel.close()
    text, _ = (part.get_content() for part in server.letters[0].mail.iter_parts())
    assert "test-transaction" in text
    assert "a template failed (ZeroDivisionError)" in caplog.text


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(FraudError, match=r"template .*nowhere: No such file"):
        read_template("--alert x", str(tmp_path / "nowhere"))
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(FraudError, match="not text in UTF-8"):
        read_template("--alert x", str(tmp_path / "latin"))
