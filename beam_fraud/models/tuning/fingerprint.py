"""Whether two calls tune the same thing on the same rows."""

from __future__ import annotations

import hashlib

import numpy as np

from beam_fraud.models.examples import FoldRows


def fingerprint(recipe: str, rows: FoldRows) -> str:
    """A digest of all that the figures of trials depend on.

    Args:
      recipe: what is tuned and how, in any form that is the same for the same.
      rows: the folds.

    Returns:
      The SHA-256, in hexadecimal, of the recipe, the schema, the folds, and the features and labels
      of every row that is in one of them.
    """
    used = np.unique(np.concatenate([at for fold in rows.folds for at in (fold.train, fold.valid)]))
    features, labelled = rows.examples.learn(used)
    digest = hashlib.sha256()
    for text in (recipe, repr(rows.examples.schema), repr(features.categories)):
        digest.update(text.encode() + b"\0")
    for fold in rows.folds:
        for at in (fold.train, fold.valid):
            digest.update(len(at).to_bytes(8, "big"))
            digest.update(np.ascontiguousarray(at).data)
    digest.update(labelled.matrix.data)
    digest.update(labelled.labels.data)
    return digest.hexdigest()
