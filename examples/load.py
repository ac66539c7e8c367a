"""Send transactions to `beam-fraud serve` at a rate, and print how long the answers take.

python examples/load.py day.jsonl --url http://127.0.0.1:8000 --rate 200

The load is open: each request has its time, and its latency counts from that time, so that a server
that falls behind shows. A token comes from the environment variable TOKEN.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit


def send(
    url: str, records: Sequence[bytes], rate: float, clients: int
) -> tuple[Counter[str], list[float]]:
    """Send records, one a request, by connections that are kept open.

    Args:
      url: the server's URL.
      records: JSON objects.
      rate: requests a second.
      clients: connections.

    Returns:
      Decision, or status of a failure, to its number; and the seconds of each answer.
    """
    outcomes, seconds = Counter[str](), list[float]()
    begun, lock = time.perf_counter(), threading.Lock()
    address = urlsplit(url)
    connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("TOKEN"):
        headers["Authorization"] = f"Bearer {token}"

    def client(first: int) -> None:
        connection = connect(address.hostname or "", address.port, timeout=30)
        for number in range(first, len(records), clients):
            due = begun + number / rate
            time.sleep(max(due - time.perf_counter(), 0.0))
            try:
                connection.request("POST", "/predict", records[number], headers)
                response = connection.getresponse()
                answer = json.loads(response.read())
                outcome = answer["decision"] if response.status == 200 else str(response.status)
            except (OSError, HTTPException) as error:
                outcome = type(error).__name__
                connection.close()
            with lock:
                outcomes[outcome] += 1
                seconds.append(time.perf_counter() - due)

    threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Send the records of a file and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transactions", help="JSON lines")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--clients", type=int, default=16, help="connections")
    options = parser.parse_args(argv)
    records = Path(options.transactions).read_bytes().splitlines()
    begun = time.perf_counter()
    outcomes, seconds = send(options.url, records, options.rate, options.clients)
    took = time.perf_counter() - begun
    print(f"{len(records)} requests in {took:.1f} s, {len(records) / took:.0f} a second")
    for outcome, number in outcomes.most_common():
        print(f"  {outcome:<12}{number:>8}")
    ordered = sorted(seconds)
    for share in (0.5, 0.99, 0.999):
        at = math.ceil(share * len(ordered)) - 1
        print(f"  p{100 * share:<11g}{1000 * ordered[at]:>8.1f} ms")


if __name__ == "__main__":
    main()
