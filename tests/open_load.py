"""An open load on a server from a process of its own: each request has its time.

python -m tests.open_load PORT RATE ANSWERS END

It sends transactions of the preset `handbook` until the file END is there, and writes a line for
each: its number, the second at which it was due, the seconds from there to its answer, and the
answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from tests.serving import payments

#: Seconds at most, and connections.
_SECONDS, _CONNECTIONS = 900, 32


async def _exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> bytes:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    return body if head.startswith(b"HTTP/1.1 200") else json.dumps({"head": str(head)}).encode()


async def load(port: int, rate: float, answers: Path, end: Path) -> None:
    """Send until the file `end` is there."""
    lines = list[str]()
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def one(number: int, record: bytes, due: float) -> None:
        connection = await free.get()
        request = (
            b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(record), record)
        )
        try:
            answer = await _exchanged(*connection, request)
        except (OSError, EOFError) as error:
            answer = json.dumps({"error": repr(error)}).encode()
            connection = await asyncio.open_connection("127.0.0.1", port)
        free.put_nowait(connection)
        lines.append(f"{number}\t{due}\t{time.time() - due}\t{answer.decode()}\n")

    sent = payments(round(rate * _SECONDS), accounts=2_000, seed=3)
    # Not before: a server closes a connection that sends nothing.
    for _ in range(_CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    begun, running = time.time() + 0.5, set[asyncio.Task[None]]()
    for number, payment in enumerate(sent):
        due = begun + number / rate
        await asyncio.sleep(max(due - time.time(), 0.0))
        task = asyncio.create_task(one(number, payment.record, due))
        running.add(task)
        task.add_done_callback(running.discard)
        if number % 64 == 0 and end.exists():
            break
    await asyncio.gather(*running)
    answers.write_text("".join(lines))


if __name__ == "__main__":
    _, port, rate, answers, end = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load(int(port), float(rate), Path(answers), Path(end)))
