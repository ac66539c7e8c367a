"""What people do on the pages goes to topics of a real broker, whatever happens to the server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from beam_fraud.records.labels import read_labels
from deploy.kafka.broker import Broker
from deploy.ports import free_port
from tests.integration.kafka import read_all
from tests.records.test_labels import raw
from tests.review.world import World, make_world
from tests.serving import Command
from tests.stream_process import wait_until

pytestmark = pytest.mark.slow


def started(world: World, options: list[str], log: Path) -> tuple[Command, World]:
    """Start `review` over the database of a world, and wait until it shows pages."""
    port = free_port()
    log.write_text("")
    command = ["review", "--database", world.site.url, "--lists", str(world.site.lists)]
    server = Command([*command, *options, "--port", str(port), "--access-log", "none"], log)
    server.start()
    wait_until(lambda: "the pages are at" in server.said() or not server.runs)
    assert server.runs, server.said()
    return server, replace(world, url=f"http://127.0.0.1:{port}")


def test_events_and_labels_reach_their_topics_though_the_server_is_killed(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    events, labels = topic(), topic()
    options = ["--events", f"kafka://{broker.bootstrap}/{events}"]
    options += ["--label-events", f"kafka://{broker.bootstrap}/{labels}"]
    world = make_world(tmp_path, plain=True)
    server, pages = started(world, options, tmp_path / "first.log")
    try:
        case_id, version = world.cases["acct-1"]
        fields = {"version": version, "verdict": "fraud", "reason": "stolen"}
        assert pages.post(f"/case/{case_id}/decide", "anna", fields).status_code == 303
        case_id, version = world.cases["acct-2"]
        listed = {"value": "account:acct-2", "action": "watch", "reason": "odd"}
        listed["version"] = str(version)
        assert pages.post(f"/case/{case_id}/list", "anna", listed).status_code == 303
        # Perhaps before they were sent, perhaps after.
        server.kill()
        server, pages = started(world, options, tmp_path / "again.log")
        fields = {"version": version, "verdict": "genuine", "reason": "usual"}
        assert pages.post(f"/case/{case_id}/decide", "lena", fields).status_code == 303
        wait_until(lambda: len({m.key() for m in read_all(broker, labels)}) == 5)
        wait_until(lambda: len({m.key() for m in read_all(broker, events)}) >= 3)
        server.interrupt()
        assert server.wait() == 0, server.said()
    finally:
        server.kill()
    found, dead = read_labels(raw(*(message.value() for message in read_all(broker, labels))))
    assert dead.num_rows == 0
    # A message that was sent just before the kill may be there twice, and says the same.
    said = {(row["transaction_id"], row["label"], row["labelled_by"]) for row in found.to_pylist()}
    assert said == {
        *((f"acct-1-t{number}", 1, "anna") for number in range(3)),
        *((f"acct-2-t{number}", 0, "lena") for number in (10, 11)),
    }
    messages = {message.key(): json.loads(message.value()) for message in read_all(broker, events)}
    done = Counter((one["event"]["action"], one["event"]["who"]) for one in messages.values())
    assert done == {("decided", "anna"): 1, ("watch_asked", "anna"): 1, ("decided", "lena"): 1}
