"""Query Flink's REST API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from beam_fraud.errors import Code, FraudError
from beam_fraud.runners.address import Address

#: Time limit of a response in seconds.
_SECONDS = 10.0


@dataclass(frozen=True)
class FlinkRest:
    """A client of Flink's REST API."""

    #: Address of the API.
    address: Address
    #: `http` or `https`.
    scheme: str = "http"

    def get(self, path: str) -> Any:
        """Return the decoded response for a path such as `/overview`.

        Raises:
          FraudError: there is no response, or not one of Flink.
        """
        url = f"{self.scheme}://{self.address}{path}"
        try:
            answer = requests.get(url, timeout=_SECONDS)
            answer.raise_for_status()
            return answer.json()
        except (requests.RequestException, ValueError) as error:
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
        said = self.get("/config")
        if not isinstance(said, dict) or "flink-version" not in said:
            raise FraudError(
                f"--flink_master {self.address}: what answers there is no Flink",
                Code.RUNNER_MISMATCH,
            )
        return str(said["flink-version"])
