"""Synthetic records for the tests: a catchment driven by random rain, and plain noise."""
import numpy as np

import gr4j
from bitemporal import Records

DAY = 86400
START = 10957 * DAY  # 2000-01-01
PARAMS = np.array([[300.0, 0.2, 80.0, 2.3]])


def catchment(days, seed=3, site="river"):
    """Records of rain, temperature, pet and flow known a day after the start of the day."""
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random(days) < 0.4, rng.exponential(6.0, days), 0.0)
    season = np.sin(2 * np.pi * np.arange(days) / 365.25 - np.pi / 2)
    pet = 1.8 + 1.5 * season
    flow, _ = gr4j.run(PARAMS, rain, pet)
    series = {"rain": rain, "temperature": 10 + 8 * season + rng.normal(0, 2, days), "pet": pet,
              "flow": flow[:, 0] * np.exp(rng.normal(0, 0.02, days))}
    return records(series, site)


def noise(days, seed=5, site="noise"):
    """A target without memory around a constant, for which no forecast beats the mean."""
    return records({"flow": np.random.default_rng(seed).normal(10.0, 1.0, days)}, site)


def records(series, site, step=DAY, start=START):
    """Records of a mapping from series to values (n,), known at the end of their step."""
    name, at, value = [], [], []
    for key, values in series.items():
        name += [key] * len(values)
        at.append(start + step * np.arange(len(values)))
        value.append(values)
    at = np.concatenate(at)
    return Records(np.array([site] * len(name)), np.array(name), at, at + step, np.concatenate(value))


def revised(original, seed=7):
    """The same rows, of which some values arrive late, some are missing and some are revised later."""
    rng = np.random.default_rng(seed)
    n = len(original.at)
    late = rng.random(n) < 0.02
    known = original.known + late * rng.integers(1, 6, n) * DAY
    value = np.where(rng.random(n) < 0.01, np.nan, original.value)
    again = rng.random(n) < 0.02
    extra = original.take(again)
    return Records(np.concatenate([original.site, extra.site]), np.concatenate([original.series, extra.series]),
                   np.concatenate([original.at, extra.at]),
                   np.concatenate([known, extra.known + rng.integers(2, 40, len(extra.at)) * DAY]),
                   np.concatenate([value, extra.value * 1.3]))


def text(r, rows=slice(None)):
    """CSV of records."""
    from bitemporal import format_instant
    lines = ["site,series,at,known_at,value"]
    for s, n, a, k, v in zip(r.site[rows], r.series[rows], r.at[rows], r.known[rows], r.value[rows]):
        lines.append(f"{s},{n},{format_instant(a)},{format_instant(k)},{'' if np.isnan(v) else repr(float(v))}")
    return "\n".join(lines) + "\n"
