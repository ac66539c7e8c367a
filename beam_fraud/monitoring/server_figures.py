"""Figures of servers that stand beside each other: of each, and of all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from beam_fraud.monitoring.live_figures import Totals
from beam_fraud.monitoring.shadow import ShadowFigures, ShadowTotals

#: Files of the figures of one server, and of the challengers of all.
FIGURES, SHADOWS = "figures.msgpack", "shadows.msgpack"


class ServerFigures(msgspec.Struct, frozen=True):
    """Figures of a server's process since it started."""

    #: Name of the process: another one after a restart.
    process: str
    totals: Totals
    shadows: ShadowTotals


class ServerSums:
    """Adds up what servers have done, with the processes of them that have ended.

    `look` is for one thread, the figures for all.

    Args:
      directories: of the `FIGURES` of each server.
      bounds: upper bounds of the bins of latency, seconds.
    """

    def __init__(self, directories: Sequence[Path], bounds: Sequence[float]) -> None:
        self._directories, self._bounds = directories, bounds
        #: Number of a server to its processes, the present one last.
        self._processes: Mapping[int, Mapping[str, ServerFigures]] = {}

    def look(self) -> None:
        """Read the figures of all servers."""
        found = dict(self._processes)
        for number, directory in enumerate(self._directories):
            # A server that has not begun has none.
            with suppress(OSError, msgspec.MsgspecError):
                data = (directory / FIGURES).read_bytes()
                figures = msgspec.msgpack.decode(data, type=ServerFigures)
                found[number] = {**found.get(number, {}), figures.process: figures}
        self._processes = found

    @property
    def totals(self) -> Totals:
        """The sums of all servers; their time is that of the newest figures."""
        every = [one.totals for one in self._every()]
        latencies = [sum(rows) for rows in zip(*(one.latencies for one in every), strict=True)]
        return Totals(
            max((one.at for one in every), default=0.0),
            next((one.totals.model_id for one in self._present()), ""),
            dict(sum((Counter(one.outcomes) for one in every), Counter())),
            sum(one.scored for one in every),
            sum(one.flagged for one in every),
            latencies or [0] * (len(self._bounds) + 1),
            self._bounds,
        )

    @property
    def shadows(self) -> ShadowTotals:
        """The challengers of all; a dropped one is dropped by a present process at least."""
        sums = dict[str, ShadowFigures]()
        for one in self._every():
            for key, figures in one.shadows.figures.items():
                sums[key] = sums.get(key, ShadowFigures()).plus(figures)
        present = [one.shadows for one in self._present()]
        for key, figures in sums.items():
            known = (one.figures[key].dropped for one in present if key in one.figures)
            ends = [end for end in known if end is not None]
            sums[key] = replace(figures, dropped=min(ends, key=lambda end: end.since, default=None))
        return ShadowTotals(
            sums,
            sum(one.waiting for one in present),
            sum(one.shadows.left_out for one in self._every()),
        )

    def _every(self) -> list[ServerFigures]:
        return [one for of_server in self._processes.values() for one in of_server.values()]

    def _present(self) -> list[ServerFigures]:
        servers = sorted(self._processes.items())
        return [list(of_server.values())[-1] for _, of_server in servers]
