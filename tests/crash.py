"""A process that dies at one step of an operation on files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What publishing is made of.
STEPS = ("rename", "unlink", "touch", "mkdir")


def run_and_die_at(step: int, operation: Callable[[], Any]) -> bool:
    """Run `operation` in a forked process that is killed before its `step`-th file operation.

    Returns:
      Whether it was killed; False if the operation has no more than `step` steps.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def dying(real):
            def call(*args, **kwargs):
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return real(*args, **kwargs)

            return call

        try:
            for name in STEPS:
                setattr(Path, name, dying(getattr(Path, name)))
            operation()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), "the operation failed by itself"
    return code == 9
