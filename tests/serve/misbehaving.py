"""Clients that are silent, slow, broken or huge; each comes again when it is disconnected.

`python -m tests.serve.misbehaving PORT CLIENTS SECONDS`
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress

HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
    b"Content-Type: application/json\r\n"
)


async def misbehave(port: int, kind: int, token: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = HEAD % token
    try:
        if kind == 0:
            await asyncio.sleep(60)
        elif kind == 1:
            for byte in head * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        elif kind == 2:
            writer.write(head + b"Content-Length: 4000000\r\n\r\n[")
            for _ in range(1_000):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        elif kind == 3:
            writer.write(head + b"X-Huge: ")
            for _ in range(100):
                writer.write(b"x" * 65_536)
                await writer.drain()
        elif kind == 4:
            writer.write(random.randbytes(4_096))
            await reader.read()
        elif kind == 5:
            writer.write(head + b"Content-Length: 3000000\r\n\r\n" + b"[" * 3_000_000)
            await reader.read()
        elif kind == 6:
            writer.write((head + b"Content-Length: 2\r\n\r\n{}") * 50)
            await asyncio.sleep(60)
        else:
            writer.write(head + b"Content-Length: 100\r\n\r\n{")
            await writer.drain()
            writer.transport.abort()
    finally:
        writer.close()


async def forever(port: int, kind: int, token: bytes) -> None:
    while True:
        with suppress(OSError):
            await misbehave(port, kind, token)
        await asyncio.sleep(0.2)


async def main(port: int, clients: int, seconds: float, token: bytes) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(forever(port, number % 8, token))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4].encode()))
