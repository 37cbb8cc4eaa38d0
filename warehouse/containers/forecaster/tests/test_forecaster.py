"""Leaks, gate, determinism, quantiles, and that inference repeats the backtest."""
import json
import os
import tempfile

import numpy as np

import inference
import synthetic
import train
from bitemporal import Clock, Records, Versions, format_instant
from configuration import Configuration, InputError, parse_range, parse_step
from features import SiteData
from model import SiteModel, load_models, save_models

DAY = synthetic.DAY
CUT = synthetic.START + 1400 * DAY
CACHE = {}


def fitted():
    """A model of the revised synthetic catchment, fitted once."""
    if "model" not in CACHE:
        records = synthetic.revised(synthetic.catchment(1700))
        settings = Configuration(horizons=[1, 2, 5], threads=1, folds=3)
        known = records.take(records.known <= CUT)
        CACHE["model"] = SiteModel("river", settings).fit(SiteData(known, "river", settings), CUT), records
    return CACHE["model"]


def corrupted(records, instant, seed=11):
    """Everything known after `instant` replaced, and rows added and removed."""
    rng = np.random.default_rng(seed)
    after = records.known > instant
    value = np.where(after, rng.normal(500.0, 100.0, len(after)), records.value)
    changed = Records(records.site, records.series, records.at, records.known, value)
    changed = changed.take(~after | (rng.random(len(after)) < 0.7))
    extra = records.take(rng.random(len(after)) < 0.05)
    later = np.maximum(extra.known, instant + 1) + DAY
    return Records(np.concatenate([changed.site, extra.site]), np.concatenate([changed.series, extra.series]),
                   np.concatenate([changed.at, extra.at]), np.concatenate([changed.known, later]),
                   np.concatenate([changed.value, np.full(len(later), -777.0)]))


def test_as_of_returns_the_version_known_at_the_time():
    clock = Clock(DAY, 0)
    at = np.array([0, 0, 0, 2 * DAY])
    series = Versions(clock, at, np.array([100, 200, 300, 400]), np.array([1.0, 2.0, np.nan, 4.0]))
    found = series.as_of(np.array([0, 0, 0, 0, 1, 2, 2]), np.array([99, 100, 250, 300, 900, 399, 400]))
    assert np.array_equal(found, [np.nan, 1.0, 2.0, np.nan, np.nan, np.nan, 4.0], equal_nan=True)


def test_windows_agree_with_as_of():
    model, records = fitted()
    data = SiteData(records, "river", model.configuration, model.clock)
    cells = np.arange(data.first + 500, data.first + 900)
    instants = model.clock.start(cells + 1) + 7200
    for series in data.versions.values():
        series.settle(int(cells[0]), int(cells[-1]), 400)
        slow = series.as_of(cells[:, None] + np.arange(-399, 1), instants[:, None])
        assert np.array_equal(series.windows(cells, instants), slow, equal_nan=True)
        assert not series.plain(cells, instants).all()


def test_a_forecast_replaced_in_time_leaves_the_windows_plain():
    clock, cells = Clock(DAY, 0), np.arange(50)
    at = np.concatenate([cells, cells]) * DAY
    known = np.concatenate([(cells - 2) * DAY, (cells + 1) * DAY])
    value = np.concatenate([np.full(50, -1.0), cells.astype(float)])
    series = Versions(clock, at, known, value)
    issued = np.arange(20, 40)
    series.settle(20, 39, 10)
    assert series.plain(issued, clock.start(issued + 1)).all()
    window = series.windows(issued, clock.start(issued + 1))
    assert np.array_equal(window, issued[:, None] + np.arange(-9, 1.0))
    # Seen an hour earlier, the newest step is still the forecast.
    window = series.windows(issued, clock.start(issued + 1) - 3600)
    assert (window[:, -1] == -1.0).all() and np.array_equal(window[:, 0], issued - 9.0)


def test_forecasts_of_a_series_are_features_at_the_target_time():
    cells, rng = np.arange(900), np.random.default_rng(8)
    wind = rng.gamma(4.0, 2.0, 906)
    power = synthetic.records({"power": wind[:900] * 10 + rng.normal(0, 1, 900)}, "park", step=3600)
    at = synthetic.START + 3600 * np.repeat(np.arange(906), 6)
    known = at - 3600 * np.tile(np.arange(6), 906)
    ahead = Records(np.array(["park"] * len(at)), np.array(["wind"] * len(at)), at, known, np.repeat(wind, 6))
    both = Records(*(np.concatenate([getattr(power, k), getattr(ahead, k)])
                     for k in ("site", "series", "at", "known", "value")))
    settings = Configuration(target="power", step=3600, kind="generic", horizons=[1, 3], ahead=["wind"],
                             threads=1, folds=3)
    cut = synthetic.START + 700 * 3600
    model = SiteModel("park", settings).fit(SiteData(both.take(both.known <= cut), "park", settings), cut)
    data = SiteData(both, "park", settings, model.clock)
    issued = cut + 3600 * np.arange(1, 190)
    forecast = model.forecast(data, issued)
    truth = data.truth(int(forecast.cells[0]) + 3, int(forecast.cells[-1]) + 3)
    assert np.corrcoef(truth, forecast.mean[:, 1])[0, 1] > 0.9
    results = [model.forecast(SiteData(corrupted(both, issued[99]), "park", settings, model.clock), issued[99:100]),
               model.forecast(data, issued[99:100])]
    assert results[0].mean.tobytes() == results[1].mean.tobytes()


def test_nothing_known_later_changes_a_forecast():
    model, records = fitted()
    for days in (3, 40, 151):
        instant = CUT + days * DAY
        issued = instant - DAY * np.arange(5)[::-1]
        results = []
        for rows in (records, records.take(records.known <= instant), corrupted(records, instant)):
            data = SiteData(rows, "river", model.configuration, model.clock)
            features, forecast = model.builder.build(data, issued), model.forecast(data, issued)
            results.append(b"".join(a.tobytes() for a in (features.common, features.ahead, features.last,
                                                          forecast.mean, forecast.quantiles)))
        assert results[0] == results[1] == results[2]


def test_a_late_value_is_absent_and_a_revision_present():
    model, records = fitted()
    instant = CUT + 60 * DAY
    rows = (records.series == "flow") & (records.at == instant - 3 * DAY)
    again = Records(records.site[rows][:1], records.series[rows][:1], records.at[rows][:1],
                    np.array([instant - 1]), np.array([99.0]))
    joined = Records(*(np.concatenate([getattr(records, k), getattr(again, k)])
                       for k in ("site", "series", "at", "known", "value")))
    def lag(rows_, t):
        data = SiteData(rows_, "river", model.configuration, model.clock)
        features = model.builder.build(data, np.array([t]))
        return features.common[0, features.names.index("flow_change_2")], features.last[0]
    change, last = lag(joined, instant)
    assert np.isclose(last - change, model.transform.forward(99.0))
    change, last = lag(joined, instant - 2)
    assert not np.isclose(last - change, model.transform.forward(99.0))


def test_gate_returns_to_a_baseline_on_noise():
    records = synthetic.noise(1500)
    settings = Configuration(kind="generic", horizons=[1, 3], threads=1, folds=5, nonnegative=False)
    model = SiteModel("noise", settings).fit(SiteData(records, "noise", settings), int(records.known.max()))
    assert not model.passed.any()
    names = model.members()
    assert all(names[int(np.argmax(w))] in ("persistence", "damped") and w.max() == 1.0 for w in model.weights)


def test_quantiles_ascend_and_are_not_negative():
    model, records = fitted()
    data = SiteData(records, "river", model.configuration, model.clock)
    forecast = model.forecast(data, CUT + DAY * np.arange(1, 250))
    assert (np.diff(forecast.quantiles, axis=2) >= 0).all() and (forecast.quantiles >= 0).all()
    assert np.isfinite(forecast.mean).all() and (forecast.mean >= 0).all()
    assert np.allclose(model.weights.sum(1), 1.0) and (model.weights >= 0).all()


def test_inference_repeats_the_backtest_and_two_runs_give_the_same_bytes():
    records = synthetic.revised(synthetic.catchment(1700))
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/train")
        with open(f"{folder}/train/a.csv", "w") as file:
            file.write(synthetic.text(records))
        outputs = []
        for run in ("one", "two"):
            train.run(train.parse_arguments([
                "--horizons", "1,3", "--folds", "3", "--threads", "1", "--refit", "false", "--train",
                f"{folder}/train", "--model-dir", f"{folder}/{run}/model", "--output-data-dir",
                f"{folder}/{run}/out", "--backtest-from", format_instant(CUT)]))
            outputs.append({name: open(f"{folder}/{run}/{name}", "rb").read()
                            for sub in ("model", "out") for name in
                            [f"{sub}/{f}" for f in sorted(os.listdir(f"{folder}/{run}/{sub}"))]})
        assert outputs[0] == outputs[1]
        loaded = inference.model_fn(f"{folder}/one/model")
        rows = [r.split(",") for r in outputs[0]["out/backtest.csv"].decode().splitlines()]
        header, wanted = rows[0], rows[1 + 2 * 77]
        body = json.dumps({"issued_at": wanted[1], "rows": {
            "site": records.site.tolist(), "series": records.series.tolist(),
            "at": [format_instant(a) for a in records.at], "known_at": [format_instant(k) for k in records.known],
            "value": [None if np.isnan(v) else float(v) for v in records.value]}})
        found = inference.predict_fn(inference.input_fn(body, "application/json"), loaded)[0]
        for name in ("mean", "q10", "q50", "q90"):
            assert abs(found[name] - float(wanted[header.index(name)])) < 1e-8 * max(1.0, found[name]), name
        assert "q90" in inference.output_fn([found], "text/csv").splitlines()[0]


def test_inference_equals_backtest_to_1e_9():
    model, records = fitted()
    with tempfile.TemporaryDirectory() as folder:
        save_models(folder, [model], model.configuration)
        again = load_models(folder)[0]["river"]
    data = SiteData(records, "river", model.configuration, model.clock)
    many = model.forecast(data, CUT + DAY * np.arange(1, 200))
    known = records.take(records.known <= CUT + 123 * DAY)
    one = again.forecast(SiteData(known, "river", model.configuration, again.clock), np.array([CUT + 123 * DAY]))
    assert np.abs(many.mean[122] - one.mean[0]).max() < 1e-9
    assert np.abs(many.quantiles[122] - one.quantiles[0]).max() < 1e-9


def test_stale_target_falls_back_and_says_so():
    model, records = fitted()
    instant = CUT + 100 * DAY
    old = records.take((records.series != "flow") | (records.at < instant - 12 * DAY))
    data = SiteData(old, "river", model.configuration, model.clock)
    forecast = model.forecast(data, np.array([instant]))
    assert forecast.stale[0] and "steps old" in model.method(0, True, forecast.age[0])
    assert np.isfinite(forecast.mean).all() and (np.diff(forecast.quantiles, axis=2) >= 0).all()


def message(action):
    """Text of the InputError that the action raises."""
    try:
        action()
    except InputError as error:
        return str(error)
    raise AssertionError("no InputError")


def test_errors_name_what_is_missing():
    model, records = fitted()
    loaded = ({"river": model}, model.configuration)
    rows = "site,series,at,known_at,value\n"
    ask = lambda text: inference.predict_fn(inference.input_fn(text, "text/csv"), loaded)
    assert "lake" in message(lambda: ask(rows + "lake,flow,2000-01-01,2000-01-02,1\n"))
    assert "river, series flow: 1 value" in message(lambda: ask(rows + "river,flow,2000-01-01,2000-01-02,1\n"))
    assert "known_at" in message(lambda: ask("site,series,at,value\nriver,flow,2000-01-01,1\n"))
    assert "yesterday" in message(lambda: ask(rows + "river,flow,yesterday,2000-01-02,1\n"))
    assert "'x'" in message(lambda: ask(rows + "river,flow,2000-01-01,2000-01-02,x\n"))
    dry = records.take(records.series == "flow")
    assert "series rain" in message(lambda: ask(synthetic.text(dry, slice(0, 900))))
    assert "not JSON" in message(lambda: inference.input_fn("{", "application/json"))


def test_configuration_parses_steps_and_ranges():
    assert parse_step("10min") == parse_step("PT10M") == 600 and parse_step("1d") == parse_step("P1D") == DAY
    assert parse_range("1-3,6") == [1, 2, 3, 6]
    assert "--step" in message(lambda: parse_step("soon")) and "--horizons" in message(lambda: parse_range("0-2"))


def with_weather_ahead(records, days):
    """The records, with weather that is known so many days before its time."""
    is_flow = records.series == "flow"
    known = np.where(is_flow, records.known, records.at - days * DAY)
    return Records(records.site, records.series, records.at, known, records.value)


def test_weather_known_ahead_is_used_and_cannot_leak():
    records = with_weather_ahead(synthetic.catchment(1700), 6)
    mean = {}
    for ahead in (False, True):
        settings = Configuration(horizons=[1, 3, 5], threads=1, folds=3, weather_ahead=ahead)
        known = records.take(records.known <= CUT)
        model = SiteModel("river", settings).fit(SiteData(known, "river", settings), CUT)
        data = SiteData(records, "river", settings, model.clock)
        issued = CUT + DAY * np.arange(1, 280)
        forecast = model.forecast(data, issued)
        truth = data.truth(int(forecast.cells[0]) + 5, int(forecast.cells[-1]) + 5)
        mean[ahead] = float(np.nanmean((truth - forecast.mean[:, 2]) ** 2))
        if not ahead:
            continue
        instant = issued[120]
        results = [model.forecast(SiteData(rows, "river", settings, model.clock), issued[120:121])
                   for rows in (records, records.take(records.known <= instant), corrupted(records, instant))]
        assert len({r.mean.tobytes() + r.quantiles.tobytes() for r in results}) == 1
    assert mean[True] < 0.7 * mean[False], mean
