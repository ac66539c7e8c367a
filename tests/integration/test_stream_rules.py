"""Two hundred rules that change under load: each row is decided by the version that it names."""

from __future__ import annotations

import json
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import beam_fraud as bf
from beam_fraud.cli.options import StreamOptions
from beam_fraud.decisions.rules.toml import read_rule_files
from beam_fraud.models.registry import champion_watch
from tests.cli.test_champion_watch import Running, until
from tests.cli.test_registry_option import bundle

RULES = 200
#: Rows of a file, which is one block; and seconds between two files.
BLOCK, PAUSE = 500, 0.25
#: Columns that a recomputation must give again.
DECIDED = ("transaction_id", "decision", "flagged", "rules", "shadow_rules")


def version(number: int) -> str:
    """Return rules of which every version decides otherwise."""
    rules = []
    for rule in range(RULES):
        decision = ("review", "decline", "approve")[(rule + number) % 3]
        when = f"amount > {rule / 20 + number % 7 / 10} and amount < {rule / 20 + 3}"
        more = 'mode = "shadow"\n' if rule % 10 == number % 10 else f"priority = {rule % 5}\n"
        rules.append(
            f'[[rule]]\nname = "r{rule}"\nwhen = "{when}"\ndecision = "{decision}"\n{more}'
        )
    return "\n".join(rules)


class Desk(Running):
    """A stream whose rules a desk changes."""

    def deliver(self, rows: int = BLOCK) -> None:
        first, self.number = self.number, self.number + rows
        start = datetime(2024, 1, 1, tzinfo=UTC)
        lines = (
            f"x{n:08},{start + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ},{n % 131 / 10}\n"
            for n in range(first, self.number)
        )
        part = self.inbox / f".{first}.csv"
        part.write_text("id,t,a\n" + "".join(lines))
        part.replace(self.inbox / f"{first:08}.csv")


def memory() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    ("changes", "apart", "look"),
    [
        pytest.param(3, 0.0, 0.1, id="small"),
        # Ten changes a minute for five minutes, at the interval of looks that a stream has.
        pytest.param(50, 6.0, champion_watch.LOOK_SECONDS, id="soak", marks=pytest.mark.soak),
    ],
)
def test_each_row_is_decided_by_the_rules_in_force_when_its_block_began(
    inbox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: int,
    apart: float,
    look: float,
) -> None:
    monkeypatch.setattr(champion_watch, "LOOK_SECONDS", look)
    rules, out, model = tmp_path / "rules.toml", tmp_path / "out", bundle(tmp_path / "model", 2)
    rules.write_text(version(0))
    written = [read_rule_files(str(rules)).id]
    options = StreamOptions(
        watch=str(inbox),
        model=model,
        rules=str(rules),
        out=str(out),
        until_idle=3.0,
        # Every rule fires on a tenth of the rows and more.
        rule_limit=1.0,
        roll_rows=10 * BLOCK if apart else 1,
    )
    stream, held = Desk(inbox, options), list[int]()

    def taken_up() -> list[str]:
        log = out / "rules" / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line)["rules_id"] for line in lines]

    def decides(rules_id: str) -> bool:
        """Whether a visible row was decided by the rules."""
        newest = sorted((out / "scores").glob("part-*.parquet"))[-1:]
        return any(rules_id in pq.read_table(file)["rules_id"].to_pylist() for file in newest)

    def load() -> None:
        stream.deliver()
        time.sleep(PAUSE)

    with stream.running():
        until(lambda: decides(written[0]), load)
        for number in range(1, changes + 1):
            since = time.monotonic()
            new = tmp_path / "new.toml"
            new.write_text(version(number))
            new.replace(rules)
            written.append(read_rule_files(str(rules)).id)
            if apart:
                while time.monotonic() < since + apart:
                    load()
            else:
                until(lambda: decides(written[-1]), load)
            held.append(memory())
        until(lambda: decides(written[-1]), load)
    scored = pq.read_table(out / "scores").sort_by("transaction_id")
    assert scored.num_rows == stream.number == stream.result["rows_scored"]
    order = {rules_id: number for number, rules_id in enumerate(written)}
    numbers = [order[rules_id] for rules_id in scored["rules_id"].to_pylist()]
    # In the order of arrival each version takes over from an earlier one, between two blocks.
    assert numbers == sorted(numbers)
    blocks = [set(numbers[at : at + BLOCK]) for at in range(0, len(numbers), BLOCK)]
    assert all(len(block) == 1 for block in blocks)
    assert set(numbers) <= {order[rules_id] for rules_id in taken_up()}
    assert numbers[-1] == changes
    assert apart or set(numbers) == {*range(changes + 1)}
    recomputed = 0
    for rules_id in dict.fromkeys(scored["rules_id"].to_pylist()):
        own = scored.filter(pc.equal(scored["rules_id"], rules_id))
        given = pa.table({"id": own["transaction_id"], "t": own["event_time"], "a": own["amount"]})
        again = bf.score(given, model, rules=out / "rules" / f"{rules_id}.toml")
        assert isinstance(again, pa.Table)
        for name in DECIDED:
            assert again[name].to_pylist() == own[name].to_pylist()
        recomputed += own.num_rows
    assert recomputed == scored.num_rows
    assert {row for rows in scored["shadow_rules"].to_pylist() for row in rows}
    print(
        f"{scored.num_rows:,} rows, {len(set(numbers))} of {changes + 1} versions, "
        f"{[size >> 20 for size in held[:: max(len(held) // 10, 1)]]} MB"
    )
    if len(held) >= 20:
        # The first minute fills caches.
        assert max(held[-10:]) < 1.15 * max(held[10:20])
