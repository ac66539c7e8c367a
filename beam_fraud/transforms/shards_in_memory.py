"""Decoded shards between two bundles of a runner that keeps their state."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.errors import FraudError
from beam_fraud.state.shard import Shard

_Place = tuple[str, str, int]


@dataclass
class Opened:
    """A shard in memory, and of which state of the runner's it knows."""

    token: bytes
    shard: Shard
    #: Deltas in the bag.
    bag: int = 0
    #: Whether a timer is known to be set for it.
    ticking: bool = False


#: Shards of this process by run, step and number: a runner makes a DoFn for each bundle that runs
#: at the same time, and any of them may be given any shard.
_OPENED: dict[_Place, Opened] = {}
#: Who was the first to open a shard in this process, where a runner repeats nothing.
_FIRST: dict[_Place, object] = {}


@dataclass(frozen=True)
class ShardsInMemory:
    """The shards of a step that this process has in memory."""

    #: The run, by which they are told from those of another one in the same process.
    run: str
    #: Name under which the state is kept.
    step: str
    #: Whether one process has all shards and no bundle is repeated.
    repeats_nothing: bool = False

    def take(self, number: int, token: bytes) -> Opened | None:
        """Take a shard out, so that nobody else gets hold of it; None if it has to be restored.

        Where nothing is repeated, only a new shard is restored.

        Args:
          number: of the shard.
          token: in the runner's state now; empty if there is none.

        Raises:
          FraudError: nothing is repeated, and another bundle has the shard or left another token.
        """
        place = (self.run, self.step, number)
        # What fails in between leaves nothing behind, nor does what outlives its runner.
        opened = _OPENED.pop(place, None)
        if opened is not None and opened.token == token:
            return opened
        me = object()
        # One operation, as another thread may be here at the same time.
        if self.repeats_nothing and _FIRST.setdefault(place, me) is not me:
            raise FraudError(
                f"shard {number} of {self.step}: the runner had two bundles of it at once, which "
                "makes its state wrong; start the stream again, on Prism of Beam's version "
                "(doctor checks it)"
            )
        return None

    def put(self, number: int, opened: Opened) -> None:
        """Leave a shard to the next bundle."""
        _OPENED[self.run, self.step, number] = opened
