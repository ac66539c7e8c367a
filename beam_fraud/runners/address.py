"""Addresses of what a runner works with, and whether something answers there."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from beam_fraud.errors import FraudError, UsageError

#: Seconds that something may take until it takes a connection.
PATIENCE = 10.0


@dataclass(frozen=True)
class Address:
    """A host and a port of it."""

    host: str
    port: int

    @classmethod
    def parse(cls, option: str, given: str, port: int | None = None) -> Address:
        """Read `HOST:PORT`, as a URL or without a scheme.

        Args:
          option: what gave it, for the message.
          given: the value.
          port: that of an address without one; None to refuse it.

        Raises:
          UsageError: it is no such address.
        """
        text = given.strip()
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            host, found = parts.hostname, parts.port
        except ValueError:
            host, found = None, None
        if not host or (found or port) is None:
            raise UsageError(f"{option} {given}: an address is written HOST:PORT")
        return cls(host, found or port or 0)

    @property
    def here(self) -> bool:
        """Whether it is one of this machine's own."""
        name = self.host.lower()
        own = {"localhost", "::1", "0.0.0.0", "::", socket.gethostname().lower()}
        return name in own or name.startswith("127.")

    def refuse_silent(self, option: str, what: str, seconds: float = PATIENCE) -> None:
        """See that something takes connections there.

        Raises:
          FraudError: nothing does.
        """
        try:
            socket.create_connection((self.host, self.port), seconds).close()
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise FraudError(
                f"{option} {self}: no {what} answers there ({why}); start it, or mend the address"
            ) from None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def refuse_silent_pool(pool: Address) -> None:
    """See that a pool takes calls.

    Args:
      pool: as task managers are told it.

    Raises:
      FraudError: none answers.
    """
    pool.refuse_silent("--environment_config", "pool of workers")
    # A worker that is not there: nothing is stopped, and only a pool understands the question.
    request = beam_fn_api_pb2.StopWorkerRequest(worker_id="beam-fraud-doctor")
    with grpc.insecure_channel(str(pool)) as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        try:
            stub.StopWorker(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise FraudError(
                f"--environment_config {pool}: what answers there is no pool of workers "
                f"({error.code().name}); start one by beam-fraud workers, or mend the address"
            ) from None
