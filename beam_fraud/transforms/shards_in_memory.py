"""Cache decoded shards between two bundles of a runner that keeps their state."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.errors import Code, FraudError
from beam_fraud.state.shard import Shard

_Place = tuple[str, str, int]


@dataclass
class Opened:
    """A shard in memory, and the version of the runner's state that it reflects."""

    token: bytes
    shard: Shard
    #: Number of deltas in the bag.
    bag: int = 0
    #: Whether its timer is set.
    ticking: bool = False


#: Shards of this process by run, step and number: a runner creates a DoFn per concurrent bundle,
#: and any of them may process any shard.
_OPENED: dict[_Place, Opened] = {}
#: The first to open a shard in this process, for runners that repeat nothing.
_FIRST: dict[_Place, object] = {}


@dataclass(frozen=True)
class ShardsInMemory:
    """The cached shards of a step in this process."""

    #: The run, which separates them from another run's in the same process.
    run: str
    #: Name of the state.
    step: str
    #: Whether one process has all shards and no bundle is repeated.
    repeats_nothing: bool = False

    def take(self, number: int, token: bytes) -> Opened | None:
        """Take a shard exclusively; return None if it has to be restored.

        On a runner that repeats nothing, only a new shard is restored.

        Args:
          number: number of the shard.
          token: token in the runner's state; empty if none.

        Raises:
          FraudError: the runner repeats nothing, and another bundle has the shard or left another
            token.
        """
        place = (self.run, self.step, number)
        # A failure in between leaves no shard in the cache, nor does a cache that outlives its
        # runner.
        opened = _OPENED.pop(place, None)
        if opened is not None and opened.token == token:
            return opened
        me = object()
        # One atomic operation, because another thread may run here.
        if self.repeats_nothing and _FIRST.setdefault(place, me) is not me:
            raise FraudError(
                f"shard {number} of {self.step}: the runner had two bundles of it at once, which "
                "makes its state wrong; start the stream again, on Prism of Beam's version "
                "(doctor checks it)",
                Code.RUNNER_UNUSABLE,
            )
        return None

    def put(self, number: int, opened: Opened) -> None:
        """Return a shard for the next bundle."""
        _OPENED[self.run, self.step, number] = opened
