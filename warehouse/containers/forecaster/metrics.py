"""Scores of forecasts. Arrays (n,) in the target's unit; pairs with a missing value are left out."""
import numpy as np


def pairs(*arrays):
    """The rows in which every array is finite."""
    known = np.all([np.isfinite(a) for a in arrays], axis=0)
    return [np.asarray(a)[known] for a in arrays]


def nse(observed, forecast):
    """Nash-Sutcliffe efficiency [-] (Nash and Sutcliffe 1970)."""
    o, f = pairs(observed, forecast)
    spread = np.sum((o - o.mean()) ** 2) if len(o) else 0.0
    return float(1.0 - np.sum((f - o) ** 2) / spread) if spread > 0 else float("nan")


def kge(observed, forecast):
    """Kling-Gupta efficiency [-] (Gupta et al. 2009)."""
    o, f = pairs(observed, forecast)
    if len(o) < 2 or o.std() == 0 or f.std() == 0 or o.mean() == 0:
        return float("nan")
    r = np.corrcoef(o, f)[0, 1]
    return float(1.0 - np.sqrt((r - 1) ** 2 + (f.std() / o.std() - 1) ** 2 + (f.mean() / o.mean() - 1) ** 2))


def mse(observed, forecast):
    """Mean squared error."""
    o, f = pairs(observed, forecast)
    return float(np.mean((f - o) ** 2)) if len(o) else float("nan")


def mae(observed, forecast):
    """Mean absolute error."""
    o, f = pairs(observed, forecast)
    return float(np.mean(np.abs(f - o))) if len(o) else float("nan")


def skill(observed, forecast, reference):
    """1 - MSE / MSE of the reference [-], on the rows that both have."""
    o, f, r = pairs(observed, forecast, reference)
    scale = np.mean((r - o) ** 2) if len(o) else 0.0
    return float(1.0 - np.mean((f - o) ** 2) / scale) if scale > 0 else float("nan")


def pinball(observed, quantiles, levels):
    """Mean pinball loss over the levels; quantiles (n, Q) (Koenker and Bassett 1978)."""
    losses = []
    for column, level in zip(quantiles.T, levels):
        o, q = pairs(observed, column)
        losses.append(np.mean(np.maximum(level * (o - q), (level - 1.0) * (o - q))) if len(o) else np.nan)
    return float(np.mean(losses))


def coverage(observed, low, high):
    """Share of observations inside [low, high]."""
    o, lo, hi = pairs(observed, low, high)
    return float(np.mean((o >= lo) & (o <= hi))) if len(o) else float("nan")


def crps(observed, quantiles, levels):
    """Continuous ranked probability score, approximated by twice the mean pinball loss over the levels
    (Gneiting and Raftery 2007); coarse for few levels, but comparable between methods."""
    return 2.0 * pinball(observed, quantiles, levels)
