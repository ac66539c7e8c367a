"""Category codes that scikit-learn's histogram gradient boosting knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Codes that a categorical feature of it can have.
CODES = 256


def known_codes(model: Any) -> npt.NDArray[np.bool_]:
    """Which codes of each feature of the trees were there in training, bool[features, 256]."""
    known = np.zeros((int(model.n_features_in_), CODES), dtype=bool)
    if model.is_categorical_ is not None:
        sets, places = model._bin_mapper.make_known_categories_bitsets()
        for feature in range(int(np.count_nonzero(model.is_categorical_))):
            known[feature] = codes_of(sets)[places[feature]]
    return known


def codes_of(sets: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Sets of 8 words, as nodes of the trees hold them, as bool[sets, 256]."""
    words = np.ascontiguousarray(sets, dtype="<u4").reshape(-1, 8)
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(bool)
