"""Whether a model can be used here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from beam_fraud.doctor.check import Check, ok, warning
from beam_fraud.models.bundle import load_model, open_bundle


def check_bundle(path: str) -> Check:
    """Whether a bundle is whole, opens, and was saved by the versions that are here.

    Raises:
      FraudError: it does not open.
    """
    bundle = open_bundle(path)
    load_model(bundle)
    found = f"{bundle.model_id} opens, all digests match"
    other = [
        f"{name} {saved}, here {here}"
        for name, saved in sorted(bundle.manifest.versions.items())
        if (here := _installed(name)) is not None and here != saved
    ]
    if other:
        return warning("model", f"{found}; saved by {', '.join(other)}", "pip install the same")
    return ok("model", found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
