"""Flink's REST API, and which Flink the options of a pipeline name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from beam_fraud.errors import Code, FraudError
from beam_fraud.runners.address import Address

#: Time limit of a response in seconds.
_SECONDS = 10.0
#: Values of `--flink_master` for a Flink inside the job server, or the job server's own.
EMBEDDED = ("[local]", "[auto]", "[collection]")
#: Default ports of Flink's REST API.
_PORT, _TLS_PORT = 8081, 443


@dataclass(frozen=True)
class FlinkRest:
    """A client of Flink's REST API."""

    #: Address of the API.
    address: Address
    #: `http` or `https`.
    scheme: str = "http"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send a request and return the decoded response.

        Args:
          method: of HTTP.
          path: such as `/jobs/overview`.
          body: sent as JSON.

        Raises:
          OSError: there is no response, or it is an error or no JSON.
        """
        answer = requests.request(method, f"{self}{path}", json=body, timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str) -> Any:
        """Return the decoded response for a path such as `/overview`.

        Raises:
          FraudError: there is no response, or not one of Flink.
        """
        try:
            return self.ask("GET", path)
        except OSError as error:
            why = type(error).__name__
            if isinstance(error, requests.HTTPError):
                why = f"HTTP {error.response.status_code}"
            raise FraudError(
                f"--flink_master {self.address}: does not answer as Flink's REST API does "
                f"({why} for {path}); give the address of the job manager's page",
                Code.RUNNER_SILENT,
            ) from None

    def version(self) -> str:
        """Return the version, such as `1.19.3`.

        Raises:
          FraudError: the address is not Flink's.
        """
        config = self.get("/config")
        if not isinstance(config, dict) or "flink-version" not in config:
            raise FraudError(
                f"--flink_master {self.address}: what answers there is no Flink",
                Code.RUNNER_MISMATCH,
            )
        return str(config["flink-version"])


def flink_of(options: PipelineOptions) -> FlinkRest | None:
    """Return the Flink of `--flink_master`; None if only the job server knows it.

    Raises:
      UsageError: `--flink_master` is no address.
    """
    master = str(options.view_as(FlinkRunnerOptions).flink_master or EMBEDDED[0]).strip()
    if master in EMBEDDED:
        return None
    scheme, port = ("https", _TLS_PORT) if master.startswith("https:") else ("http", _PORT)
    return FlinkRest(Address.parse("--flink_master", master, port), scheme)
