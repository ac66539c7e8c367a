"""Operations on files and objects that fail at one step: killed, or with a full disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import KeptObjects

#: What changes a disk: functions of a path, and of `os`.
PATH_STEPS = ("rename", "unlink", "touch", "mkdir")
OS_STEPS = ("open", "fsync", "write")
#: Changes that a full disk takes.
FREEING = ("unlink", "rmtree", "delete")


def run_and_die_at(step: int, operation: Callable[[], Any]) -> bool:
    """Run `operation` in a forked process that is killed before its `step`-th change of a disk.

    Returns:
      Whether it was killed; False if the operation has no more than `step` steps.
    """
    child = os.fork()
    if child == 0:
        try:
            with _interrupted(step, lambda change: os._exit(9)):
                operation()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), "the operation failed by itself"
    return code == 9


@contextmanager
def full_disk_at(step: int, times: int | None = None) -> Iterator[Callable[[], bool]]:
    """Refuse every operation that needs room from the `step`-th change on.

    Args:
      step: from 0.
      times: how many changes are refused until there is room again; None for all.

    Yields:
      What says whether anything was refused.
    """
    refused: list[str] = []

    def refuse(change: str) -> None:
        if change not in FREEING and (times is None or len(refused) < times):
            refused.append(change)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with _interrupted(step, refuse):
        yield lambda: bool(refused)


@contextmanager
def _interrupted(step: int, event: Callable[[str], None]) -> Iterator[None]:
    """Call `event` before every change from the `step`-th on."""
    created = [0]

    def before(change: str) -> None:
        created[0] += 1
        if created[0] > step:
            event(change)

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if name != "open" or given[1] & os.O_CREAT:
                before(name)
            return real(*given, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in PATH_STEPS:
            patch.setattr(Path, name, watched(name, getattr(Path, name)))
        for name in OS_STEPS:
            patch.setattr(os, name, watched(name, getattr(os, name)))
        patch.setattr(shutil, "rmtree", watched("rmtree", shutil.rmtree))
        patch.setattr(KeptObjects, "before", staticmethod(before))
        yield
