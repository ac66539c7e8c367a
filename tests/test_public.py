"""The names of `import beam_fraud` and the time of the import."""

from __future__ import annotations

import subprocess
import sys

import beam_fraud
from tests.test_architecture import HEAVY

#: Seconds of processor time; `import beam_fraud` takes about five thousandths of one.
MOST_SECONDS = 0.2


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    seconds, *loaded = run(
        "import sys, time\n"
        "start = time.process_time()\n"
        "import beam_fraud\n"
        "print(time.process_time() - start, *sys.modules)"
    )
    assert HEAVY & set(loaded) == set()
    # What opens old pickles, and the packages that it is in.
    ours = {name for name in loaded if name.startswith("beam_fraud")}
    assert ours == {"beam_fraud", "beam_fraud.models", "beam_fraud.models.old_paths"}
    assert float(seconds) < MOST_SECONDS


def test_functions_without_beam_do_not_load_it() -> None:
    loaded = run(
        "import sys, beam_fraud as bf\n"
        "bf.train, bf.score, bf.features, bf.evaluate, bf.explore, bf.load_bundle\n"
        "print(*sys.modules)"
    )
    assert "apache_beam" not in loaded


def test_all_public_names_exist() -> None:
    assert dir(beam_fraud) == sorted(beam_fraud.__all__)
    for name in beam_fraud.__all__:
        assert getattr(beam_fraud, name) is not None
        if name != "__version__":
            assert getattr(beam_fraud, name).__doc__


def test_features_is_a_function_and_a_subpackage() -> None:
    import beam_fraud.features.matrix as matrix

    assert callable(beam_fraud.features)
    assert beam_fraud.features.matrix is matrix
    from beam_fraud import features

    assert features is beam_fraud.features
