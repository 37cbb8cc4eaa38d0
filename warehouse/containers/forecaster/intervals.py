"""Quantiles: LightGBM quantile regression of the blend's out-of-fold errors, then conformalised.

The error is taken on the transformed scale. Each level is shifted by the quantile of its own
cross-fitted residuals (conformalised quantile regression, Romano, Patterson, Candès 2019, one-sided per
level), so that the levels hold on data that no model of the chain was fitted to. Where the site's errors drift
(dry years after wet ones) `recent_stretch` follows them with the errors of the last year that are known at
the issue time (as in adaptive conformal inference, Gibbs and Candès 2021).
"""
import numpy as np

from learners import boost

ROUNDS, LEAF, LEAVES = 80, 60, 7
CALIBRATION_FOLDS = 3
STRETCH_BOUNDS = (0.4, 2.5)


def design(matrix, centre, last):
    """The features, the forecast level and its change, (n, F + 2)."""
    return np.hstack([matrix, centre[:, None], (centre - last)[:, None]])


def contiguous_folds(count, folds):
    """Fold number (n,) of contiguous blocks of equal size."""
    return np.minimum(np.arange(count) * folds // max(count, 1), folds - 1)


def fit_level(matrix, error, level, configuration):
    """A booster for one level on rows without missing errors."""
    known = np.isfinite(error)
    return boost(matrix[known], error[known], configuration, quantile=level, rounds=ROUNDS, leaf=LEAF,
                 leaves=LEAVES)


def cross_fitted(matrix, error, level, configuration):
    """Quantiles (n,) of the error at one level, each block by a booster fitted to the other blocks."""
    out = np.full(len(error), np.nan)
    blocks = contiguous_folds(len(error), CALIBRATION_FOLDS)
    known = np.isfinite(error)
    for k in range(CALIBRATION_FOLDS):
        inside = blocks == k
        if (known & ~inside).sum() >= 50 and inside.any():
            model = fit_level(matrix[~inside], error[~inside], level, configuration)
            out[inside] = model.predict(matrix[inside])
    return out


def conformal_shift(residual, level):
    """What to add to quantiles so that the share `level` of the residuals (n,) lies below them."""
    residual = residual[np.isfinite(residual)]
    if not len(residual):
        return 0.0
    # The rank of n + 1 values, for the guarantee of a finite sample, away from the centre.
    n = len(residual)
    rank = level * (n + 1) / n if level > 0.5 else 1.0 - (1.0 - level) * (n + 1) / n
    return float(np.quantile(residual, np.clip(rank, 0.0, 1.0)))


def stretch(quantiles, factor):
    """Quantiles (n, Q) with their distances from the middle level multiplied by factor (n,)."""
    middle = quantiles[..., [quantiles.shape[-1] // 2]]
    return middle + factor[..., None] * (quantiles - middle)


def needed_stretch(truth, quantiles):
    """By how much (any shape) the outer quantiles (..., Q) must be stretched to just reach the truth."""
    middle = quantiles[..., quantiles.shape[-1] // 2]
    above = (truth - middle) / np.maximum(quantiles[..., -1] - middle, 1e-9)
    below = (middle - truth) / np.maximum(middle - quantiles[..., 0], 1e-9)
    return np.maximum(above, below)


def recent_stretch(needed, level, least):
    """Factor (n,) that would have covered the share `level` of each row's recent truths.

    needed (n, N) as of `needed_stretch`, NaN where missing. With fewer than `least` known ones the
    factor shrinks towards one in proportion.
    """
    ordered = np.sort(needed, axis=1)  # missing ones last
    count = np.isfinite(needed).sum(axis=1)
    place = level * np.maximum(count - 1, 0)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(needed))
    value = ordered[rows, low] + (place - low) * (ordered[rows, high] - ordered[rows, low])
    share = np.minimum(count / least, 1.0)
    return 1.0 + share * (np.where(count > 0, np.clip(value, *STRETCH_BOUNDS), 1.0) - 1.0)


def tidy(quantiles, nonnegative, capacity):
    """Quantiles (..., Q) in ascending order and inside the bounds of the target."""
    out = np.sort(quantiles, axis=-1)
    if nonnegative:
        out = np.maximum(out, 0.0)
    return np.minimum(out, capacity) if capacity else out
