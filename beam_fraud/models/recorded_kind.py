"""The kind of a bundle's model, to train another one like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.class_weight import with_class_weight
from beam_fraud.models.kinds import KINDS, ModelKind, with_settings
from beam_fraud.models.kinds.boosting import Boosting
from beam_fraud.models.manifest import Manifest
from beam_fraud.models.resampling import resampled


def recorded_kind(manifest: Manifest, id_of_model: str) -> ModelKind:
    """Return the kind with the settings that a manifest records.

    Where validation rows chose the number of trees, they may choose it again, up to the larger of
    the chosen and the default number.

    Args:
      manifest: of the bundle.
      id_of_model: for messages.

    Raises:
      FraudError: the model was imported, or is of a kind that this version lacks.
      UsageError: this version lacks a setting.
    """
    if manifest.kind not in KINDS:
        raise FraudError(
            f"{id_of_model}: is of kind {manifest.kind!r}, which cannot be trained here; give "
            "--model KIND",
            Code.MODEL_KIND,
        )
    return _kind(manifest.kind, manifest.settings)


def _kind(name: str, settings: Mapping[str, Any]) -> ModelKind:
    own: dict[str, Any] = {}
    of_parts: dict[str, dict[str, Any]] = {}
    for setting, value in settings.items():
        part, dot, inner = setting.partition(".")
        if dot:
            of_parts.setdefault(part, {})[inner] = value
        else:
            own[setting] = value
    kind = KINDS[name]
    if of_parts:
        # The second member of a kind is `forest_2`.
        members = [_kind(_kind_of_part(part), inner) for part, inner in of_parts.items()]
        kind = kind.of(members)
    resampler, weight = own.pop("resample", None), own.get("fraud_weight")
    if weight == "balanced":
        del own["fraud_weight"]
    kind = with_settings(
        kind, [f"{key}={_text(value)}" for key, value in own.items() if _plain(value)]
    )
    if isinstance(kind, Boosting) and not kind.fixed:
        default: Boosting = type(kind)()
        kind = replace(kind, trees=max(kind.trees, default.trees))
    if weight == "balanced":
        kind = with_class_weight(kind, weight)
    return resampled(kind, resampler)


def _kind_of_part(part: str) -> str:
    first, _, number = part.rpartition("_")
    return first if number.isdigit() and first in KINDS else part


def _plain(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
    return isinstance(value, bool | int | float | str) or (numbers and bool(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
