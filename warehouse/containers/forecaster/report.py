"""report.html: one self-contained page with tables and charts of a backtest."""
from html import escape

import numpy as np

from svg import COLOURS, Chart

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:920px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em;border-top:1px solid #ddd;padding-top:1em}
h3{font-size:1em;margin-bottom:.2em}table{border-collapse:collapse;font-size:13px}
td,th{padding:2px 9px;text-align:right;border-bottom:1px solid #eee}th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}
.legend{font-size:12px;color:#444}.key{margin-right:1.4em}
.key i{display:inline-block;width:14px;height:4px;margin-right:5px;vertical-align:middle}
"""
SHOWN_STEPS = 365
SHOWN_FEATURES = 5


def write(path, tests, rows):
    """Writes the page of `backtest.Backtest`s and the rows of scores.csv."""
    settings = tests[0].model.configuration
    first = min(int(t.issued[0]) for t in tests)
    last = max(int(t.issued[-1]) for t in tests)
    parts = [f"<h1>Forecast of {escape(settings.target)}: backtest</h1>",
             f"<p>Issue times {_day(first)} to {_day(last)}, {len(tests)} site(s), horizons "
             f"{settings.horizons[0]} to {settings.horizons[-1]} steps of {settings.step} s. Fitted only to "
             "values known before the first issue time; each forecast reads only what was known when it was "
             "issued. Skill is 1 - MSE / MSE of the reference.</p>"]
    if len(tests) > 1:
        parts += ["<h2>All sites</h2>", _summary(rows, settings)]
    for test in tests:
        parts += _site(test, [r for r in rows if r["site"] == test.model.site])
    page = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Backtest</title>'
            f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)


def _day(seconds):
    return str(np.datetime64(int(seconds), "s"))[:10]


def _cell(value):
    return "" if value is None or not np.isfinite(value) else f"{value:.3f}"


def _table(header, body):
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in line) + "</tr>" for line in body)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _summary(rows, settings):
    own = [r for r in rows if r["method"] == "forecast"]
    body = []
    for horizon in settings.horizons:
        at = [r for r in own if r["horizon"] == horizon]
        values = [[r[k] for r in at] for k in ("nse", "skill_persistence", "skill_climatology", "coverage")]
        body.append([horizon, _cell(np.nanmedian(values[0])), _cell(np.nanmean(values[1])),
                     _cell(np.nanmin(values[1])), _cell(np.nanmean(values[2])), _cell(np.nanmean(values[3]))])
    return _table(["horizon [steps]", "median NSE", "mean skill / persistence", "lowest skill / persistence",
                   "mean skill / climatology", "coverage"], body)


def _site(test, rows):
    settings = test.model.configuration
    places = sorted({0, min(2, len(settings.horizons) - 1), len(settings.horizons) - 1})
    out = [f"<h2>{escape(test.model.site)}</h2>", _scores(rows, settings)]
    out += ["<h3>Skill by horizon</h3>", _skill(rows, settings)]
    out += ["<h3>Reliability of the quantiles</h3>", _reliability(test)]
    out += ["<h3>What the forecasts rest on: weights of the members</h3>", _weights(test.model)]
    out += ["<h3>What the forecasts rest on: features of the trees</h3>", _features(test.model, places)]
    for place in places:
        out += [f"<h3>Forecast {settings.horizons[place]} step(s) ahead, last {SHOWN_STEPS} issue times</h3>",
                _hydrograph(test, place)]
    return out


def _scores(rows, settings):
    names = ("nse", "kge", "rmse", "mae", "pinball", "coverage", "skill_persistence", "skill_climatology")
    body = [[r["horizon"], *(_cell(r.get(n)) for n in names), r["n"]] for r in rows if r["method"] == "forecast"]
    return _table(["horizon [steps]", *names, "n"], body)


def _weights(model):
    body = [[horizon, *(_cell(w) if w > 0 else "" for w in weights), "yes" if passed else "no"]
            for horizon, weights, passed in zip(model.configuration.horizons, model.weights, model.passed)]
    return _table(["horizon [steps]", *model.members(), "blend beats the simple ones"], body)


def _features(model, places):
    """The features with the greatest share of the boosters' gain, at some horizons."""
    body = []
    for place in places:
        horizon = model.configuration.horizons[place]
        own = [(name, share) for h, name, share in model.importance() if h == horizon][:SHOWN_FEATURES]
        body.append([horizon, *(f"{name} {share:.0%}" for name, share in own)])
    return _table(["horizon [steps]", *(f"no. {i + 1}" for i in range(SHOWN_FEATURES))], body)


def _skill(rows, settings):
    series = {m: [r["skill_persistence"] for r in rows if r["method"] == m]
              for m in ("forecast", "damped", "climatology")}
    values = np.clip(np.array(list(series.values()), float), -1.0, 1.0)
    low = min(0.0, float(np.nanmin(values)))
    chart = Chart((settings.horizons[0] - 0.3, settings.horizons[-1] + 0.3), (low, 1.0), "horizon [steps]",
                  "skill against persistence [-]")
    step = max(1, len(settings.horizons) // 12)
    chart.x_ticks(settings.horizons[::step], settings.horizons[::step])
    for (name, _), line, colour in zip(series.items(), values, COLOURS):
        chart.line(settings.horizons, np.where(line <= -1.0, np.nan, line), name, colour, dots=True)
    return chart.text()


def _reliability(test):
    settings = test.model.configuration
    chart = Chart((0.0, 1.0), (0.0, 1.0), "nominal level [-]", "share of observations below [-]", 420, 320)
    chart.x_ticks([0, 0.2, 0.4, 0.6, 0.8, 1], [0, 0.2, 0.4, 0.6, 0.8, 1])
    chart.line([0, 1], [0, 1], "perfect", COLOURS[4], "4 3")
    places = sorted({0, len(settings.horizons) // 2, len(settings.horizons) - 1})
    for place, colour in zip(places, COLOURS):
        known = np.isfinite(test.observed[:, place])
        below = test.observed[known, place, None] <= test.forecast.quantiles[known, place]
        chart.line(settings.quantiles, below.mean(axis=0), f"horizon {settings.horizons[place]}", colour, dots=True)
    return chart.text()


def _hydrograph(test, place):
    rows = slice(-SHOWN_STEPS, None)
    at = test.targets[rows, place]
    observed, mean = test.observed[rows, place], test.forecast.mean[rows, place]
    quantiles = test.forecast.quantiles[rows, place]
    top = float(np.nanmax([np.nanmax(quantiles), np.nanmax(np.append(observed, mean))]))
    bottom = min(0.0, float(np.nanmin(quantiles)), float(np.nanmin(np.append(observed, mean))))
    settings = test.model.configuration
    chart = Chart((int(at[0]), int(at[-1])), (bottom, 1.05 * top), "date (UTC)", f"{settings.target} [unit of the input]")
    marks = np.linspace(at[0], at[-1], 7).astype(np.int64)
    chart.x_ticks(marks, [_day(m) for m in marks])
    low, high = settings.quantiles[0], settings.quantiles[-1]
    chart.band(at, quantiles[:, 0], quantiles[:, -1], f"{100 * low:g} to {100 * high:g}% quantile")
    chart.line(at, observed, "observed", "#222222")
    chart.line(at, mean, "forecast", COLOURS[1])
    return chart.text()
