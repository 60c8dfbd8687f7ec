"""Principal components: the axes along which a modality's features are compared."""

from dataclasses import dataclass

import numpy as np

from flows.drift.sample import Array

_LIMIT = 8.0
"""Standard deviations beyond which a feature counts no further: one broken clip must not turn an axis."""


@dataclass(frozen=True)
class Basis:
    """Axes fitted on part of the reference.

    Attributes:
        centre: (D,), scale: (D,) standard deviation; infinite where a feature never varied.
        axes: (C, D) unit vectors.
        spread: (C,) standard deviation along each axis.
    """

    centre: Array
    scale: Array
    axes: Array
    spread: Array

    def project(self, features: Array) -> Array:
        """Return (N, C + 1): coordinates, and the logarithm of what they leave out of each clip.

        The last column sees what is new in every direction that the reference hardly had.
        """
        standard = self._standard(features)
        coordinates = standard @ self.axes.T
        left = (standard**2).sum(axis=1) - (coordinates**2).sum(axis=1)
        return np.column_stack([coordinates, np.log(np.maximum(left, 1e-3))]).astype(np.float32)

    def _standard(self, features: Array) -> Array:
        return np.asarray(np.clip((features - self.centre) / self.scale, -_LIMIT, _LIMIT), np.float32)


def fit_basis(features: Array, components: int) -> Basis:
    """Fit on (N, D) features; fewer components where clips or features are fewer."""
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, np.inf)
    standard = np.clip((features - centre) / scale, -_LIMIT, _LIMIT)
    _, singular, axes = np.linalg.svd(standard, full_matrices=False)
    count = min(components, len(features) - 1, int((singular > 1e-4 * singular[0]).sum()))
    axes = axes[:count]
    # The sign of an axis is arbitrary; fixed, so that equal data gives an equal basis.
    axes = axes * np.sign(axes[np.arange(count), np.abs(axes).argmax(axis=1)])[:, None]
    spread = singular[:count] / np.sqrt(len(features))
    return Basis(*(np.asarray(array, np.float32) for array in (centre, scale, axes, spread)))
