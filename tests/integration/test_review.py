"""A day of an analyst: a stream flags, a person decides and blocks, the stream declines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from sqlalchemy import select

from beam_fraud.cli import main
from beam_fraud.cli.commands.users import PASSWORD_VARIABLE
from beam_fraud.features.dataset import load_dataset
from beam_fraud.models.bundle import load_bundle
from beam_fraud.records.label_file import read_label_file
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, transaction
from beam_fraud.storage.database.tables import FLAGGED, LABELS
from beam_fraud.storage.urls import Place
from deploy.ports import free_port
from tests.requirements import need
from tests.review import browser
from tests.review.browser import one, press, wait
from tests.serving import Command
from tests.shadowing import ROLES, Share, shadow_bundle
from tests.stream_process import Stream, wait_until

PASSWORD = "quiet river seven"
#: Declines at every merchant that people block.
RULES = """[[rule]]
name = "blocked_merchant"
when = "merchant_id in @blocked_merchants"
decision = "decline"
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = sqlite_url(tmp_path / "flagged.db")
    prepare_database(url)
    return url


@pytest.fixture
def stream(inbox: Path, tmp_path: Path, url: str) -> Iterator[Stream]:
    """A stream over a watched directory, whose model flags amounts from 50 on."""
    (tmp_path / "rules.toml").write_text(RULES)
    # A list exists from its first entry on.
    lists = ["lists", "add", "blocked_merchants", "none", "--lists", str(tmp_path / "lists")]
    assert main(lists) == 0
    bundle = shadow_bundle(tmp_path / "model", Share(0.01), roles={**ROLES, "merchant_id": "shop"})
    out = tmp_path / "out"
    command = ["stream", "--watch", str(inbox)]
    command += ["--model", bundle, "--out", str(out), "--sink", url]
    command += ["--rules", str(tmp_path / "rules.toml"), "--lists", str(tmp_path / "lists")]
    stream = Stream(command, out)
    stream.start()
    yield stream
    stream.kill()


@pytest.fixture
def pages(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the pages, with the person anna."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    assert main(["users", "add", "anna", "--role", "admin", "--database", url]) == 0
    port = free_port()
    command = ["review", "--database", url, "--lists", str(tmp_path / "lists")]
    (tmp_path / "review.log").touch()
    server = Command([*command, "--port", str(port)], tmp_path / "review.log")
    server.start()
    try:
        wait_until(lambda: "the pages are at" in server.said() or not server.runs)
        yield f"http://127.0.0.1:{port}"
        server.interrupt()
        assert server.wait() == 0, server.said()
        assert "Traceback" not in server.said()
    finally:
        server.kill()


def decisions(url: str) -> dict[str, str]:
    """Return the decisions on flagged transactions."""
    with transaction(url) as connection:
        rows = connection.execute(select(FLAGGED.c.transaction_id, FLAGGED.c.decision))
        return {row.transaction_id: row.decision for row in rows}


@pytest.mark.soak
def test_a_person_blocks_a_merchant_and_the_stream_declines(
    inbox: Path, tmp_path: Path, url: str, pages: str, stream: Stream
) -> None:
    need("chromium")
    head = "id,t,who,shop,a\n"
    first = "".join(
        f"x{n},2024-01-01T00:00:0{n}Z,card-{n},shop-{n},{50 + 10 * n}\n" for n in range(4)
    )
    (inbox / "first.csv").write_text(f"{head}{first}small,2024-01-01T00:01:00Z,card-9,shop-3,5\n")
    assert stream.wait_until(lambda: len(decisions(url)) == 4)
    assert decisions(url)["x3"] == "review"
    with browser.browser() as driver:
        driver.get(pages)
        press(driver, "anna", Keys.TAB, PASSWORD, Keys.ENTER)
        wait(driver, lambda driver: driver.title.startswith("Queue"))

        def all_open(driver: object) -> bool:
            one(browser_, ".brand").click()
            return len(browser_.find_elements(By.CSS_SELECTOR, "a.open")) == 4

        browser_ = driver
        # The server opens cases within a second.
        wait(driver, all_open)
        press(driver, "j", Keys.ENTER)
        wait(driver, lambda driver: driver.title.startswith("Case of card-3"))
        subjects = Select(one(driver, "[name=value]"))
        subjects.select_by_visible_text("merchant shop-3")
        form = one(driver, "form[action$='/list']")
        form.find_element(By.NAME, "reason").send_keys("stolen cards", Keys.ENTER)
        wait(driver, lambda driver: "within seconds" in one(driver, "[role=status]").text)
        press(driver, "f")
        wait(driver, lambda driver: "Decided" in one(driver, "[role=status]").text)
        # The rest by keyboard.
        for _ in range(3):
            press(driver, "n")
            wait(driver, lambda driver: driver.title.startswith("Case of"))
            press(driver, "g")
            wait(driver, lambda driver: "Decided" in one(driver, "[role=status]").text)
        assert browser.complaints(driver) == []
    with transaction(url) as connection:
        columns = LABELS.c.transaction_id, LABELS.c.label, LABELS.c.labelled_by
        labels = sorted(tuple(row) for row in connection.execute(select(*columns)))
    assert labels == [("x0", 0, "anna"), ("x1", 0, "anna"), ("x2", 0, "anna"), ("x3", 1, "anna")]
    # The rows of the next training have them.
    exported = tmp_path / "labels.parquet"
    assert main(["label", "export", "--database", url, "--out", str(exported)]) == 0
    schema = load_bundle(tmp_path / "model").schema
    files = [Place.at(inbox / "first.csv")]
    rows = load_dataset(files, schema, labels=read_label_file(exported)).transactions
    ids, given = (rows[name].to_pylist() for name in ("transaction_id", "label"))
    # The small one was not shown.
    assert dict(zip(ids, given, strict=True)) == {"x0": 0, "x1": 0, "x2": 0, "x3": 1, "small": 0}

    # One file after the other, until the stream has taken up the list.
    number = 0

    def declined() -> bool:
        nonlocal number
        number += 1
        row = f"y{number},2024-01-01T01:00:00Z,card-8,shop-3,5\n"
        (inbox / f"next-{number:03}.csv").write_text(head + row)
        return "decline" in decisions(url).values()

    assert stream.wait_until(declined)
    blocked = [key for key, decision in decisions(url).items() if decision == "decline"]
    assert all(key.startswith("y") for key in blocked)
