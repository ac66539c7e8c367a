"""The order in which requests are answered."""

from __future__ import annotations

import asyncio
import threading

from beam_fraud.review.http.turns import Turns


def test_what_is_due_first_goes_first_and_who_has_gone_takes_no_turn() -> None:
    order: list[str] = []

    async def ask() -> None:
        turns, end = Turns(1, "test"), threading.Event()
        first = asyncio.create_task(turns.run(0.0, end.wait))
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(turns.run(patience, order.append, name))
            for name, patience in (("patient", 60.0), ("gone", 0.0), ("urgent", 0.0), ("last", 0.0))
        ]
        await asyncio.sleep(0)
        waiting[1].cancel()
        end.set()
        await asyncio.gather(first, *waiting, return_exceptions=True)
        # All turns are free again.
        await turns.run(0.0, order.append, "after")
        turns.close()

    asyncio.run(asyncio.wait_for(ask(), 30))
    assert order == ["urgent", "last", "patient", "after"]
