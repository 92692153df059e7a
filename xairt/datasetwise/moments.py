"""Population moments of features beside a few series, collected in one pass and merged in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and sums of products of deviations; divide these by `n` for variances and covariances.

    Attributes
    ----------
    n : int
        Number of samples.
    mean, squares : numpy.ndarray
        Of each feature (features,): mean, and sum of squared deviations.
    series_mean : numpy.ndarray
        Of each series (series,).
    series_products : numpy.ndarray
        Sums of products of the series' deviations (series, series).
    products : numpy.ndarray
        Sums of products of the deviations of each series and each feature (series, features).
    """

    n: int
    mean: Array
    squares: Array
    series_mean: Array
    series_products: Array
    products: Array

    @classmethod
    def of(cls, features: ArrayLike, series: ArrayLike) -> Moments:
        """Return the moments of one block.

        Parameters
        ----------
        features : array_like
            (n, ...), n > 0; the features are flattened.
        series : array_like
            (n, series).

        Examples
        --------
        >>> found = Moments.of([[1.0], [3.0]], [[0.0], [4.0]])
        >>> found.mean, found.squares, found.products
        (array([2.]), array([2.]), array([[4.]]))
        """
        values = np.asarray(features, np.float64)
        values, beside = values.reshape(len(values), -1), np.asarray(series, np.float64)
        mean, series_mean = values.mean(axis=0), beside.mean(axis=0)
        values, beside = values - mean, beside - series_mean
        squares = np.einsum("nf,nf->f", values, values)
        return cls(len(values), mean, squares, series_mean, beside.T @ beside, beside.T @ values)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of samples.

        Source: Chan, Golub and LeVeque 1983 (doi:10.1080/00031305.1983.10483115), eq. 2.1; for sets of one
        sample it is Welford's (1962).

        Examples
        --------
        >>> values, series = np.arange(6.0)[:, None] ** 2, np.ones((6, 1))
        >>> both = Moments.of(values[:2], series[:2]).merged(Moments.of(values[2:], series[2:]))
        >>> bool(np.isclose(both.squares[0] / both.n, values.var()))
        True
        """
        n = self.n + other.n
        far, series_far = other.mean - self.mean, other.series_mean - self.series_mean
        weight = self.n * other.n / n
        return Moments(
            n,
            self.mean + far * (other.n / n),
            self.squares + other.squares + weight * far**2,
            self.series_mean + series_far * (other.n / n),
            self.series_products + other.series_products + weight * np.outer(series_far, series_far),
            self.products + other.products + weight * np.outer(series_far, far),
        )
