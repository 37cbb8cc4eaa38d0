"""Measures the example's forecaster on real series, beside plain references that are fitted in the same run.

Usage: python measure.py DATA FORECASTER RESULT.json [CODE ...]. DATA has hydro_daily/ and wind_10min/; with codes, only
these catchments are measured, and no wind. Each goal is in the result with what was reached.
"""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import csv
import glob
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time

import lightgbm as lgb
import numpy as np

DATA, FORECASTER, RESULT = (os.path.abspath(path) for path in sys.argv[1:4])
sys.path[:0] = [FORECASTER, os.path.join(FORECASTER, "tests")]

import metrics as M
from bitemporal import Records
from configuration import Configuration
from features import SiteData
from model import SiteModel
from synthetic import text

DAY = 86400
SHOWN = (1, 3, 5, 7)
# An upper bound: no forecast of the weather is as good.
PERFECT = "forecaster, perfect weather"
GOALS = {"nse": (0.965, 0.830, 0.683, 0.597), "skill": (0.577, 0.470, 0.374, 0.327)}


def instant(day):
    """Seconds since 1970 of a date."""
    return int(np.datetime64(day, "s").astype(np.int64))


def plain_features(series):
    """Lag features (days, F) of a plain reference: flow, rain, temperature and evaporation by day."""
    q, rain, temperature, pet = (series[k] for k in ("flow", "rain", "temperature", "pet"))

    def lag(x, k):
        return np.concatenate([np.full(k, np.nan), x[:len(x) - k]])

    def total(x, k):
        c = np.concatenate([[0.0], np.cumsum(np.nan_to_num(x))])
        return c[np.arange(len(x)) + 1] - c[np.maximum(np.arange(len(x)) + 1 - k, 0)]
    day = np.arange(len(q)) / 365.25 * 2 * np.pi
    columns = [lag(q, k) for k in range(8)] + [lag(rain, k) for k in range(4)]
    columns += [total(q, k) / k for k in (7, 30)] + [total(rain, k) for k in (3, 7, 15, 30, 60)]
    columns += [temperature, total(temperature, 7), pet, total(pet, 30), np.sin(day), np.cos(day)]
    return np.stack(columns, 1)


def plain_booster(matrix, target, quantile=None):
    """LightGBM with ordinary settings."""
    known = np.isfinite(target)
    parameters = {"objective": "l2" if quantile is None else "quantile", "learning_rate": 0.05, "num_leaves": 31,
                  "verbose": -1, "num_threads": 1, "seed": 1, "deterministic": True, "force_row_wise": True}
    if quantile is not None:
        parameters["alpha"] = quantile
    return lgb.train(parameters, lgb.Dataset(matrix[known], target[known]), 200)


def references(data, model, issued, cut):
    """Point forecasts {name: (n, H)} and quantiles {name: (n, H, Q)} of the plain references."""
    settings, clock = model.configuration, model.clock
    first, last = data.first, data.last
    series = {n: data.versions[n].latest(first, last) for n in ("flow", "rain", "temperature", "pet")}
    plain = plain_features(series)
    trained = np.arange(first + 60, int(clock.last_complete(cut)) + 1)
    tested = clock.last_complete(issued)
    own = model.builder.build(data, clock.start(trained + 1))
    own_test = model.builder.build(data, issued)
    q, small = series["flow"], 0.01 * np.nanmean(series["flow"][:len(trained)])
    points = {"lightgbm": [], "lightgbm log": []}
    quantiles = {"lightgbm quantiles, same features": []}
    for place, h in enumerate(settings.horizons):
        place_train = trained[trained + h <= trained[-1]] - first
        target = q[place_train + h]
        inputs, test = plain[place_train], plain[tested - first]
        points["lightgbm"].append(plain_booster(inputs, target).predict(test))
        points["lightgbm log"].append(np.exp(plain_booster(inputs, np.log(target + small)).predict(test)) - small)
        matrix, matrix_test = own.at(place)[:len(place_train)], own_test.at(place)
        last_value, last_test = own.last[:len(place_train)], own_test.last
        change = model.transform.forward(target) - last_value
        levels = [plain_booster(matrix, change, level).predict(matrix_test) + last_test
                  for level in settings.quantiles]
        quantiles["lightgbm quantiles, same features"].append(
            np.maximum(np.sort(model.transform.inverse(np.stack(levels, 1)), axis=1), 0.0))
    return ({k: np.stack(v, 1) for k, v in points.items()}, {k: np.stack(v, 1) for k, v in quantiles.items()})


def perfect_weather(code, records, cut, issued, threads):
    """Forecast from weather that is known eight days before its time."""
    settings = Configuration(threads=threads, weather_ahead=True)
    known = np.where(records.series == "flow", records.known, records.at - 8 * DAY)
    records = Records(records.site, records.series, records.at, known, records.value)
    trained = records.take(records.known <= cut)
    model = SiteModel(code, settings).fit(SiteData(trained, code, settings), cut)
    return model.forecast(SiteData(records, code, settings, model.clock), issued)


def hydro_site(code, threads=1):
    """Rows of results for one catchment."""
    settings = Configuration(threads=threads)
    cut, end = instant("2010-01-01"), instant("2013-01-01")
    started, records = time.time(), hydro(code)
    known = records.take(records.known <= cut)
    model = SiteModel(code, settings).fit(SiteData(known, code, settings), cut)
    data = SiteData(records, code, settings, model.clock)
    issued = np.arange(cut + DAY, end + 1, DAY)
    forecast = model.forecast(data, issued)
    seconds = time.time() - started
    cells, horizons = forecast.cells, np.array(settings.horizons)
    observed = data.truth(int(cells[0]) + 1, int(cells[-1]) + 7)[np.arange(len(cells))[:, None] + horizons - 1]
    members = {n: forecast.members[:, :, i] for i, n in enumerate(model.members())}
    points, quantiles = references(data, model, issued, cut)
    upper = perfect_weather(code, records, cut, issued, threads)
    points = {"forecaster": forecast.mean, **{n: members[n] for n in ("persistence", "damped", "climatology")}, **points,
              PERFECT: upper.mean}
    quantiles = {"forecaster": forecast.quantiles, **quantiles, PERFECT: upper.quantiles}
    rows = []
    for name in dict.fromkeys([*points, *quantiles]):
        for place, h in enumerate(settings.horizons):
            o = observed[:, place]
            row = {"site": code, "horizon": h, "method": name, "gate": bool(model.passed[place])}
            if name in points:
                row["nse"] = M.nse(o, points[name][:, place])
                row["kge"] = M.kge(o, points[name][:, place])
                row["skill"] = M.skill(o, points[name][:, place], members["persistence"][:, place])
            if name in quantiles:
                inside = quantiles[name][:, place]
                row["pinball"] = M.pinball(o, inside, settings.quantiles)
                row["covered"] = int(np.sum((o >= inside[:, 0]) & (o <= inside[:, -1])))
                row["n"] = int(np.isfinite(o).sum())
            rows.append(row)
    return rows, seconds


def pick(rows, method, key, horizon):
    """Values over the sites."""
    return np.array([r[key] for r in rows if r["method"] == method and r["horizon"] == horizon and key in r])


def summary(rows):
    """By method and horizon: median NSE, mean and lowest skill, pooled coverage, mean pinball."""
    out = []
    for method in dict.fromkeys(r["method"] for r in rows):
        for horizon in sorted({r["horizon"] for r in rows}):
            row = {"method": method, "horizon": horizon}
            nse, skill = (pick(rows, method, name, horizon) for name in ("nse", "skill"))
            if len(nse):
                row.update(nse_median=float(np.median(nse)), skill_mean=float(np.mean(skill)), skill_least=float(np.min(skill)))
            covered = pick(rows, method, "covered", horizon)
            if len(covered):
                row["coverage"] = float(covered.sum() / pick(rows, method, "n", horizon).sum())
                row["pinball_mean"] = float(np.mean(pick(rows, method, "pinball", horizon)))
            out.append(row)
    return out


def goals(rows, slowest):
    """Each goal with what was reached: a list of name, reached, whether it holds."""
    ours, reference = "forecaster", "lightgbm quantiles, same features"
    horizons = sorted({r["horizon"] for r in rows})
    rivals = [m for m in dict.fromkeys(r["method"] for r in rows if "nse" in r) if m not in (ours, PERFECT)]
    nse = [float(np.median(pick(rows, ours, "nse", h))) for h in SHOWN]
    best = [max(float(np.median(pick(rows, m, "nse", h))) for m in rivals) for h in SHOWN]
    skill = [float(np.mean(pick(rows, ours, "skill", h))) for h in SHOWN]
    low = [float(np.min(pick(rows, ours, "skill", h))) for h in horizons]
    cover = [float(pick(rows, ours, "covered", h).sum() / pick(rows, ours, "n", h).sum()) for h in horizons]
    pin = [[float(np.mean(pick(rows, m, "pinball", h))) for h in horizons] for m in (ours, reference)]
    ahead = all(a >= max(g, b) for a, g, b in zip(nse, GOALS["nse"], best))
    return [
        goal("median NSE ahead of .965/.830/.683/.597 and of all references at 1/3/5/7 days", nse, ahead),
        goal("mean skill ahead of .577/.470/.374/.327", skill, all(a > g for a, g in zip(skill, GOALS["skill"]))),
        goal("skill above 0 on every catchment at every horizon: the least", low, min(low) > 0),
        goal("80% interval covers 0.78 to 0.82 at every horizon", cover, all(0.78 <= c <= 0.82 for c in cover)),
        goal("pinball no worse than LightGBM's quantiles on the same features", pin[0], all(a <= b for a, b in zip(*pin))),
        goal("fit and test of a catchment under 60 s", [slowest], slowest < 60),
    ]


def goal(name, reached, holds):
    """One goal as a mapping."""
    return {"goal": name, "reached": reached, "holds": bool(holds)}


def run_hydro(sites):
    """The catchments: rows of results, and the seconds of the slowest."""
    rows, slowest = [], 0.0
    for code in sites:
        own, seconds = hydro_site(code)
        rows += own
        slowest = max(slowest, seconds)
        print(f"{code} {seconds:.1f} s", file=sys.stderr, flush=True)
    return rows, slowest


def run_resources(code):
    """Time and memory of train.py with a backtest, with the default of one thread, all files written."""
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/train")
        records = hydro(code)
        with open(f"{folder}/train/{code}.csv", "w") as file:
            file.write(text(records.take(records.at < instant("2013-01-08"))))
        started = time.time()
        subprocess.run([sys.executable, os.path.join(FORECASTER, "train.py"), "--threads", "1", "--refit",
                        "false", "--train", f"{folder}/train", "--model-dir", f"{folder}/model", "--output-data-dir",
                        f"{folder}/out", "--backtest-from", "2010-01-01T00:00:00Z"], check=True,
                       stdout=subprocess.DEVNULL)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return {"site": code, "seconds": time.time() - started, "memory_mib": memory}


def wind_records():
    """The plant's meter as records: kWh per 10 minutes. The file repeats stamps and has gaps; of a
    repeated stamp the last row counts."""
    with gzip.open(f"{DATA}/wind_10min/la_haute_borne_plant_2014_2015.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    at = np.array([r["ts"].rstrip("Z") for r in rows], dtype="datetime64[s]").astype(np.int64)
    value = np.array([float(r["net_energy_kwh"] or "nan") for r in rows])
    return Records(np.array(["plant"] * len(at)), np.array(["energy"] * len(at)), at, at + 600, value)


def run_wind():
    """Fit on 2014, test on 2015, 1 to 36 steps of 10 minutes ahead."""
    settings = Configuration(target="energy", step=600, horizons=list(range(1, 37)), kind="generic", threads=1,
                             nonnegative=False, capacity=4 * 2050 / 6)
    cut = instant("2015-01-01")
    started, records = time.time(), wind_records()
    known = records.take(records.known <= cut)
    model = SiteModel("plant", settings).fit(SiteData(known, "plant", settings), cut)
    fitted = time.time() - started
    data = SiteData(records, "plant", settings, model.clock)
    issued = np.arange(cut, instant("2015-12-31"), 600)
    forecast = model.forecast(data, issued)
    tested = time.time() - started - fitted
    cells, steps = forecast.cells, []
    observed = data.truth(int(cells[0]) + 1, int(cells[-1]) + 36)
    for place, h in enumerate(settings.horizons):
        o, q = observed[np.arange(len(cells)) + h - 1], forecast.quantiles[:, place]
        persistence = forecast.members[:, place, 0]
        steps.append({"step": h, "rmse": float(M.mse(o, forecast.mean[:, place]) ** 0.5),
                      "rmse_persistence": float(M.mse(o, persistence) ** 0.5),
                      "skill": float(M.skill(o, forecast.mean[:, place], persistence)),
                      "coverage": float(M.coverage(o, q[:, 0], q[:, -1])), "gate": bool(model.passed[place])})
    skills = [step["skill"] for step in steps]
    return {"seconds_fit": fitted, "seconds_test": tested, "issues": len(issued), "steps": steps}, [
        goal("wind never worse than persistence: the least skill of 36 steps", [min(skills)], min(skills) >= 0),
        goal("wind better than persistence from one hour on: the least skill", [min(skills[5:])], min(skills[5:]) > 0)]


def codes():
    """The codes of all catchments."""
    names = (os.path.basename(path)[:-4] for path in glob.glob(f"{DATA}/hydro_daily/*.csv"))
    return sorted(name for name in names if name != "catchments")


def hydro(code):
    """A catchment as records: a day's values are known at its end."""
    with open(f"{DATA}/hydro_daily/{code}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    at = np.array([r["date"] for r in rows], dtype="datetime64[s]").astype(np.int64)
    names = {"rain": "precip_mm", "temperature": "temp_c", "pet": "pet_mm", "flow": "q_mm"}
    series = np.repeat(list(names), len(rows))
    values = [np.array([float(r[column]) if r[column] not in ("", "NA") else np.nan for r in rows]) for column in names.values()]
    at = np.tile(at, len(names))
    return Records(np.array([code] * len(at)), series, at, at + DAY, np.concatenate(values))


def main(only):
    """Measures, and writes the result."""
    sites = only or codes()
    rows, slowest = run_hydro(sites)
    result = {"catchments": rows, "summary": summary(rows), "goals": goals(rows, slowest), "training": run_resources(sites[-1])}
    if not only:
        result["wind"], reached = run_wind()
        result["goals"] += reached
    with open(RESULT, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(sys.argv[4:])
