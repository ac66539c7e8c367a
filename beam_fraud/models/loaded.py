"""Models that are loaded once in a process, however many steps of a graph look at them."""

from __future__ import annotations

from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from beam_fraud.models.bundle import MODEL_FILE, Bundle, load_model

_LOCK = Lock()
_LOADED: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()


def shared_model(bundle: Bundle) -> Any:
    """The model of a bundle, the same object for as long as anybody in this process has it.

    Raises:
      FraudError: as `load_model` says.
    """
    key = (bundle.path, bundle.manifest.files.get(MODEL_FILE, ""))
    with _LOCK:
        model = _LOADED.get(key)
        if model is None:
            model = load_model(bundle)
            _LOADED[key] = model
        return model
