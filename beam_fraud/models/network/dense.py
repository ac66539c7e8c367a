"""A fitted network: matrices, scored by NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]
#: Rows per pass through all layers: intermediate results stay in the cache.
_TOGETHER = 512


@dataclass(frozen=True)
class DenseNetwork:
    """Dense layers with ReLU between them and a sigmoid after the last.

    float64, though the weights were fitted as float32: so the rows beside a row change its score by
    no more than 1e-15, by the order in which BLAS adds.
    """

    #: float64[inputs, outputs] of each layer; the last has one output.
    kernels: tuple[Floats, ...]
    #: float64[outputs] of each layer.
    biases: tuple[Floats, ...]

    def scores(self, matrix: Floats) -> Floats:
        """Return the probabilities of fraud, float64[n], of float64[n, inputs] without NaN."""
        logits = np.empty(len(matrix))
        for first in range(0, len(matrix), _TOGETHER):
            rows = matrix[first : first + _TOGETHER]
            logits[first : first + len(rows)] = self._logits(rows)
        return np.asarray(expit(logits))

    def _logits(self, rows: Floats) -> Floats:
        last = len(self.kernels) - 1
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            rows = rows @ kernel
            rows += bias
            if i < last:
                np.maximum(rows, 0.0, out=rows)
        return rows[:, 0]
