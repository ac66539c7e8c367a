"""The traffic of the chaos tests has the documented properties."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa

from tests.traffic import make_traffic


def test_each_transaction_comes_twice_late_within_bounds_and_in_the_partition_of_its_account() -> (
    None
):
    late = 600
    traffic = make_traffic(seed=4, accounts=200, bad=40, late=late)
    sent = Counter(zip(traffic.keys, traffic.values, strict=True))
    twice = [json.loads(value) for (_, value), count in sent.items() if count == 2]
    transactions = [one for one in twice if one.get("TRANSACTION_ID") != "hostile"]
    assert len({one["TRANSACTION_ID"] for one in transactions}) == traffic.transactions > 200
    assert len(traffic.values) == 2 * traffic.transactions + traffic.bad
    times, newest = [], np.datetime64("1970-01-01T00:00:00")
    for key, value in zip(traffic.keys, traffic.values, strict=True):
        if sent[key, value] == 2 and b"hostile" not in value:
            message = json.loads(value)
            assert str(message["CUSTOMER_ID"]) == key
            at = np.datetime64(message["TX_DATETIME"].removesuffix("Z"))
            newest = max(newest, at)
            assert newest - at <= np.timedelta64(late, "s")
            times.append(at)
    assert times != sorted(times)
    before = traffic.history["TX_DATETIME"].cast(pa.timestamp("s")).to_numpy()
    assert before.max() < min(times)
    assert max(times) - before.min() > np.timedelta64(38, "D")


def test_the_same_seed_gives_the_same_traffic() -> None:
    one, other = (make_traffic(seed=9, accounts=50, bad=10) for _ in range(2))
    assert (one.keys, one.values) == (other.keys, other.values)
    assert make_traffic(seed=10, accounts=50, bad=10).values != one.values
