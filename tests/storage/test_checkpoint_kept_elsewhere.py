"""Only a stream of the same kind can resume a savepoint, with its original hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import UNKEYED, IdHash
from beam_fraud.state.identity import remember, taken_up
from beam_fraud.storage.checkpoint import about_topics
from beam_fraud.storage.stream_outputs import StreamOutputs

ABOUT = {"source": "topic t", "number of shards": "16"}
HASH = IdHash.random()


@pytest.fixture
def outputs(tmp_path: Path) -> StreamOutputs:
    (tmp_path / "stream").mkdir()
    return StreamOutputs(tmp_path)


def test_the_same_stream_resumes_with_its_hash(outputs: StreamOutputs) -> None:
    remember(outputs, ABOUT, HASH, restored=False)
    assert taken_up(outputs, ABOUT) == HASH


def test_another_number_of_shards_is_refused(outputs: StreamOutputs) -> None:
    remember(outputs, ABOUT, HASH, restored=False)
    with pytest.raises(
        FraudError,
        match=r"another number of shards \(16, now 8\); give the "
        "options",
    ):
        taken_up(outputs, {**ABOUT, "number of shards": "8"})


def test_a_topic_that_was_created_again_is_refused(outputs: StreamOutputs) -> None:
    before, now = about_topics({"t": "one"}), about_topics({"t": "two"})
    remember(outputs, {**ABOUT, **before}, HASH, restored=False)
    with pytest.raises(FraudError, match=f"topic 't' was deleted and .* stream in {outputs.shown}"):
        taken_up(outputs, {**ABOUT, **now})
    # Of brokers that give no ids, and of streams that an earlier version began.
    assert taken_up(outputs, ABOUT) == HASH
    remember(outputs, ABOUT, HASH, restored=False)
    assert taken_up(outputs, {**ABOUT, **now}) == HASH


def test_a_run_without_a_labels_topic_does_not_forget_its_id(outputs: StreamOutputs) -> None:
    transactions = {**ABOUT, **about_topics({"t": "one"})}
    remember(outputs, {**transactions, **about_topics({"labels": "one"})}, HASH, restored=False)
    remember(outputs, transactions, HASH, restored=True)
    again = {**transactions, **about_topics({"labels": "two"})}
    with pytest.raises(FraudError, match="topic 'labels' was deleted and created again"):
        taken_up(outputs, again)
    # A stream that starts with no state has no positions in the old topic.
    remember(outputs, transactions, HASH, restored=False)
    assert taken_up(outputs, again) == HASH


def test_a_new_place_accepts_streams_older_than_keys(
    outputs: StreamOutputs,
) -> None:
    assert taken_up(outputs, ABOUT) == UNKEYED


def test_a_stream_that_an_earlier_version_began_keeps_its_hash(outputs: StreamOutputs) -> None:
    outputs.write_about(json.dumps(ABOUT).encode())
    assert taken_up(outputs, ABOUT) == UNKEYED


def test_an_invalid_key_is_one_line(outputs: StreamOutputs) -> None:
    outputs.write_about(json.dumps({**ABOUT, "key of ids": "abc"}).encode())
    with pytest.raises(FraudError, match="damaged"):
        taken_up(outputs, ABOUT)
