"""Rolls the issue time over a period and scores the forecasts beside the baselines."""
import csv
import os

import numpy as np

import metrics
from bitemporal import format_instant

METHODS = ("forecast", "persistence", "damped", "climatology")
SCORES = ("nse", "kge", "rmse", "mae", "pinball", "crps", "coverage", "skill_persistence",
          "skill_climatology", "n")


class Backtest:
    """Forecasts of one site: cells (n,) of the issue times, observed (n, H), forecast."""

    def __init__(self, model, data, first, last):
        """first, last [s]: the first issue time and the latest one allowed."""
        clock, self.model, self.data = model.clock, model, data
        begin = int(clock.last_complete(first + clock.step - 1))
        cells = np.arange(begin, int(clock.last_complete(last - clock.offset)) + 1)
        self.issued = clock.issue(cells)
        self.forecast = model.forecast(data, self.issued)
        horizons = np.array(model.configuration.horizons)
        truth = data.truth(int(cells[0]) + 1, int(cells[-1]) + int(horizons[-1]))
        self.observed = truth[np.arange(len(cells))[:, None] + horizons - 1]
        self.targets = clock.start(cells[:, None] + horizons)

    def method_values(self, name, place):
        """Point forecasts (n,) of a method at the horizon with index `place`."""
        if name == "forecast":
            return self.forecast.mean[:, place]
        return self.forecast.members[:, place, self.model.members().index(name)]

    def score(self, name, place):
        """Scores of one method and horizon, a mapping with the names in SCORES."""
        levels = self.model.configuration.quantiles
        observed, values = self.observed[:, place], self.method_values(name, place)
        out = {
            "nse": metrics.nse(observed, values), "kge": metrics.kge(observed, values),
            "rmse": metrics.mse(observed, values) ** 0.5, "mae": metrics.mae(observed, values),
            "skill_persistence": metrics.skill(observed, values, self.method_values("persistence", place)),
            "skill_climatology": metrics.skill(observed, values, self.method_values("climatology", place)),
            "n": len(metrics.pairs(observed, values)[0]),
        }
        if name == "forecast":
            quantiles = self.forecast.quantiles[:, place]
            out["pinball"] = metrics.pinball(observed, quantiles, levels)
            out["crps"] = metrics.crps(observed, quantiles, levels)
            out["coverage"] = metrics.coverage(observed, quantiles[:, 0], quantiles[:, -1])
        return out


def number(value):
    """Text of a number for CSV: at most nine significant digits, empty where it is missing."""
    return "" if value is None or not np.isfinite(value) else f"{value:.9g}"


def write_scores(path, backtests):
    """scores.csv: one row per site, horizon and method. Returns the rows' mappings."""
    rows = []
    for test in backtests:
        for place, horizon in enumerate(test.model.configuration.horizons):
            for name in METHODS:
                rows.append({"site": test.model.site, "horizon": horizon, "method": name,
                             **test.score(name, place)})
    _write(path, ["site", "horizon", "method", *SCORES],
           ([r["site"], r["horizon"], r["method"], *(number(r.get(s)) for s in SCORES)] for r in rows))
    return rows


def write_backtest(path, backtests):
    """backtest.csv: one row per site, issue time and horizon."""
    levels = backtests[0].model.configuration.quantiles
    header = ["site", "issued_at", "at", "horizon", "observed", "mean",
              *(quantile_name(q) for q in levels), "persistence", "damped", "climatology", "method"]
    _write(path, header, (row for test in backtests for row in _backtest_rows(test)))


def _backtest_rows(test):
    forecast, model = test.forecast, test.model
    for i, issued in enumerate(test.issued):
        for place, horizon in enumerate(model.configuration.horizons):
            yield [model.site, format_instant(issued), format_instant(test.targets[i, place]), horizon,
                   number(test.observed[i, place]), number(forecast.mean[i, place]),
                   *(number(q) for q in forecast.quantiles[i, place]),
                   *(number(m) for m in forecast.members[i, place, :3]),
                   model.method(place, forecast.stale[i], forecast.age[i])]


def write_weights(path, models):
    """weights.csv: one row per site, horizon and member; passed says whether the blend passed the gate."""
    rows = ([m.site, h, name, number(m.weights[p, i]), str(bool(m.passed[p])).lower()]
            for m in models for p, h in enumerate(m.configuration.horizons)
            for i, name in enumerate(m.members()))
    _write(path, ["site", "horizon", "member", "weight", "passed"], rows)


def write_features(path, models):
    """features.csv: share of the boosters' gain per site, horizon and feature."""
    rows = ([m.site, h, name, number(share)] for m in models for h, name, share in m.importance())
    _write(path, ["site", "horizon", "feature", "importance"], rows)


def quantile_name(level):
    """Column name of a quantile level: q10 for 0.1, q2.5 for 0.025."""
    return f"q{100 * level:g}"


def _write(path, header, rows):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
