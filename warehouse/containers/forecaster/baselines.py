"""Baselines: persistence, damped persistence and climatology."""
import numpy as np


class Climatology:
    """Mean of the transformed target by the time of the year (three harmonics) and, below a day, by the
    time of the day (two harmonics and their product with the first annual one)."""

    def __init__(self, coefficients, daily):
        self.coefficients, self.daily = np.asarray(coefficients), daily

    @staticmethod
    def design(calendar, daily):
        """Design matrix (n, k) of a `local_time.Calendar`."""
        year = 2 * np.pi * calendar.day_of_year[:, None] * np.arange(1, 4)
        annual = np.hstack([np.sin(year), np.cos(year)])
        columns = [np.ones((len(annual), 1)), annual]
        if daily:
            day = 2 * np.pi * calendar.hour[:, None] * np.arange(1, 3)
            diurnal = np.hstack([np.sin(day), np.cos(day)])
            columns += [diurnal, diurnal * annual[:, :1], diurnal * annual[:, 3:4]]
        return np.hstack(columns)

    @staticmethod
    def fit(calendar, values, daily):
        """Least squares with a small ridge on values (n,), missing ones left out."""
        known = np.isfinite(values)
        matrix = Climatology.design(calendar, daily)[known]
        gram = matrix.T @ matrix + 1e-3 * len(matrix) * np.diag([0.0] + [1.0] * (matrix.shape[1] - 1))
        return Climatology(np.linalg.solve(gram, matrix.T @ values[known]), daily)

    def at(self, calendar):
        """Climatology (n,) on the transformed scale."""
        return self.design(calendar, self.daily) @ self.coefficients


def damping(last, normal, truth):
    """Weight in 0..1 of today's anomaly for one horizon: least squares of truth - normal on it (n,)."""
    anomaly, future = last - normal, truth - normal
    known = np.isfinite(anomaly) & np.isfinite(future)
    scale = np.sum(anomaly[known] ** 2)
    if not known.any() or scale == 0.0:
        return 1.0
    return float(np.clip(np.sum(anomaly[known] * future[known]) / scale, 0.0, 1.0))


def damped(last, normal, weight):
    """Climatology plus the share `weight` of today's anomaly."""
    return normal + weight * (last - normal)
