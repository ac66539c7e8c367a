"""Whether a pool of Python workers answers."""

from __future__ import annotations

from beam_fraud.doctor.check import Check, ok, warning
from beam_fraud.runners.address import Address
from beam_fraud.runners.worker_pool import refuse_silent_pool

NAME = "worker pool"


def check_worker_pool(pool: Address, cluster: Address | None) -> Check:
    """Whether a pool takes calls.

    Args:
      pool: as task managers are told it.
      cluster: where these are, or None for this machine.

    Raises:
      FraudError: none answers.
    """
    if pool.here and cluster is not None and not cluster.here:
        return warning(
            NAME,
            f"{pool} is on each task manager's own machine, which is not seen from here",
            "see there that it runs",
        )
    refuse_silent_pool(pool)
    return ok(NAME, f"{pool} answers")
