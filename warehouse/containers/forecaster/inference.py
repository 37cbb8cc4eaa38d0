"""Serving entry points (SageMaker script mode): model_fn, input_fn, predict_fn, output_fn.

Request, text/csv: the columns site, series, at, known_at, value and, if wanted, issued_at as the first.
Request, application/json: {"issued_at": "...", "rows": {"site": [...], "series": [...], "at": [...],
"known_at": [...], "value": [...]}}. Without issued_at the newest known_at is the issue time.
"""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import csv
import io
import json

import numpy as np

from backtest import number, quantile_name
from bitemporal import format_instant, parse_instants, read_csv, records_of_columns
from configuration import InputError
from features import SiteData
from model import load_models

MIN_HISTORY = 30


def model_fn(model_dir):
    """The models of all sites: (mapping from site, configuration)."""
    models, configuration = load_models(model_dir)
    configuration.threads = 1
    return models, configuration


def input_fn(body, content_type="application/json"):
    """(records, issue times [s] or None) of a request body."""
    text = body.decode("utf-8") if isinstance(body, (bytes, bytearray)) else body
    kind = content_type.split(";")[0].strip().lower()
    if kind == "text/csv":
        columns = read_csv(text)
        issued = sorted({t for t in columns.get("issued_at", []) if t})
    elif kind == "application/json":
        columns, issued = _read_json(text)
    else:
        raise InputError(f"content type {content_type!r}: send text/csv or application/json")
    records = records_of_columns(columns)
    return records, (parse_instants(issued, "issued_at") if issued else None)


def _read_json(text):
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("rows"), dict):
        raise InputError('the body needs "rows", a mapping from column names to lists')
    issued = request.get("issued_at") or []
    return request["rows"], [issued] if isinstance(issued, str) else list(issued)


def predict_fn(request, loaded):
    """A list of predictions, one mapping per site, issue time and horizon."""
    records, issued = request
    models, configuration = loaded
    out = []
    for site in records.sites():
        if site not in models:
            raise InputError(f"site {site}: no model was trained for it; trained: {', '.join(sorted(models))}")
        own = records.take(records.site == site)
        instants = issued if issued is not None else np.array([own.known.max()])
        out.extend(_predict_site(models[site], own, instants))
    return out


def _predict_site(model, records, instants):
    settings = model.configuration
    data = SiteData(records, model.site, settings, model.clock)
    _check(data, model, instants)
    forecast = model.forecast(data, instants)
    targets = model.clock.start(forecast.cells[:, None] + np.array(settings.horizons))
    out = []
    for i, issued in enumerate(instants):
        for place, horizon in enumerate(settings.horizons):
            weights = {n: float(w) for n, w in zip(model.members(), model.weights[place]) if w > 0}
            out.append({
                "site": model.site, "issued_at": format_instant(issued),
                "at": format_instant(targets[i, place]), "horizon": horizon,
                "mean": float(forecast.mean[i, place]),
                **{quantile_name(q): float(v)
                   for q, v in zip(settings.quantiles, forecast.quantiles[i, place])},
                "method": model.method(place, forecast.stale[i], forecast.age[i]),
                "weights": {"climatology": 1.0} if forecast.stale[i] else weights,
            })
    return out


def _check(data, model, instants):
    """Errors that name the site, the series and what is missing."""
    settings = model.configuration
    target = data.versions[settings.target]
    known = target.known <= int(np.min(instants))
    count = int(np.isfinite(target.value[known]).sum())
    if count < MIN_HISTORY:
        raise InputError(f"site {model.site}, series {settings.target}: {count} value(s) known at "
                         f"{format_instant(np.min(instants))}, at least {MIN_HISTORY} are needed")
    needed = [settings.rain] if model.hydrology else []
    for name in needed + settings.covariates + settings.ahead:
        if not len(data.versions[name].cell):
            raise InputError(f"site {model.site}, series {name}: no rows, but the model was trained with it")


def output_fn(predictions, accept="application/json"):
    """The reply's body: JSON {"predictions": [...]}, or CSV where `accept` asks for it."""
    if "text/csv" not in accept:
        return json.dumps({"predictions": predictions})
    out = io.StringIO()
    names = [n for n in predictions[0] if n != "weights"] if predictions else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([number(p[n]) if isinstance(p[n], float) else p[n] for n in names] for p in predictions)
    return out.getvalue()
