"""Properties of this machine that influence the figures."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

_LIBRARIES = ("beam-fraud", "apache-beam", "scikit-learn", "pyarrow", "numpy")


def machine() -> dict[str, str]:
    """Return usable cores, memory, Python and libraries, without the machine's name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cores": str(cores),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }
