"""The one feature builder, used in training, backtests and predictions alike.

`FeatureBuilder.build` is the only way to features; it reads values through `Versions.windows` and
`Versions.as_of`, which return what was known at the issue time.
"""
from dataclasses import dataclass

import numpy as np

import gr4j
import snow
from bitemporal import Clock, versions_of
from configuration import InputError
from hydrology import Hydrology
from local_time import Calendar

CHUNK = 4096
HYDRO_WIDTH = 400
MEMBERS = 15
RAIN_SUMS = (1, 2, 3, 5, 7, 15, 30, 60, 90)
ABSURD_TEMPERATURE = 60.0


@dataclass
class Features:
    """For n issue times, H horizons: common (n, F), ahead (n, H, G), last (n,) the newest value of the
    target, age (n,) its age in steps (0 = the step that just ended), normal (n, H) the climatology,
    model (n, H) the corrected rainfall-runoff forecast (NaN where there is none), cells (n,)."""

    names: list
    common: np.ndarray
    ahead_names: list
    ahead: np.ndarray
    last: np.ndarray
    age: np.ndarray
    normal: np.ndarray
    model: np.ndarray
    cells: np.ndarray

    def at(self, place):
        """Matrix (n, F + G) for the horizon at index `place`, and its names."""
        return np.hstack([self.common, self.ahead[:, place]])

    def all_names(self):
        """Names of the columns of `at`."""
        return self.names + self.ahead_names

    def take(self, rows):
        """The issue times `rows`."""
        return Features(self.names, self.common[rows], self.ahead_names, self.ahead[rows],
                        self.last[rows], self.age[rows], self.normal[rows], self.model[rows],
                        self.cells[rows])


class Transform:
    """log(flow + offset) for hydro, the identity otherwise; flow in the target's unit."""

    def __init__(self, hydro, offset):
        self.hydro, self.offset = hydro, offset

    def forward(self, value):
        """Into the scale of the features and of the models."""
        if not self.hydro:
            return np.asarray(value, float)
        return np.log(np.maximum(value, 0.0) + self.offset)

    def inverse(self, value):
        """Back into the target's unit."""
        return np.exp(value) - self.offset if self.hydro else value


def clean(value, role, configuration):
    """Impossible values become missing: negative flow or rain, power far above the capacity."""
    out = np.array(value, float)
    out[~np.isfinite(out)] = np.nan
    if role in ("rain", "flow"):
        out[out < 0.0] = np.nan
    elif role == "temperature":
        out[np.abs(out) > ABSURD_TEMPERATURE] = np.nan
    elif role == "target":
        if configuration.capacity:
            out[out > 1.2 * configuration.capacity] = np.nan
            out = np.minimum(out, configuration.capacity)
        if configuration.nonnegative:
            out = np.maximum(out, 0.0)
    return out


class SiteData:
    """The series of one site as `Versions`, cleaned. clock may be given so that a prediction uses the
    cells of the training."""

    def __init__(self, records, site, configuration, clock=None):
        self.site, self.configuration = site, configuration
        own = records.take(records.site == site)
        target = own.series == configuration.target
        if not target.any():
            raise InputError(f"site {site}: no row of the target series {configuration.target!r}")
        self.clock = clock or Clock.of(own.at[target], configuration.step, configuration.issue_offset)
        roles = {configuration.target: "flow" if configuration.hydro else "target"}
        if configuration.hydro:
            roles[configuration.rain] = "rain"
            roles[configuration.temperature] = "temperature"
            roles[configuration.evaporation] = "rain"
        for name in configuration.covariates + configuration.ahead:
            roles.setdefault(name, "other")
        self.versions = {}
        for name, role in roles.items():
            series = versions_of(own, site, name, self.clock)
            series.value = clean(series.value, role, configuration)
            self.versions[name] = series
        self.first = self.versions[configuration.target].cell0
        self.last = max(v.last_cell for v in self.versions.values())

    def truth(self, first, last):
        """Newest values (n,) of the target in the cells first..last."""
        return self.versions[self.configuration.target].latest(first, last)

    def settle(self, first, last, width):
        """Prepares the windows of every series for issue cells first..last."""
        for series in self.versions.values():
            series.settle(first, last, width)

    def windows(self, name, cells, instants):
        """See `Versions.windows`."""
        return self.versions[name].windows(cells, instants)


def fill_forward(window):
    """The newest value (n,) of windows (n, width) and its age in steps, NaN and width where none."""
    known = np.isfinite(window[:, ::-1])
    age = np.where(known.any(axis=1), known.argmax(axis=1), window.shape[1])
    rows = np.arange(len(window))
    last = window[rows, window.shape[1] - 1 - np.minimum(age, window.shape[1] - 1)]
    return np.where(age < window.shape[1], last, np.nan), age


def mean_last(window, steps):
    """Mean (n,) of the last `steps` columns without the missing ones, NaN where all are missing."""
    part = window[:, -steps:]
    known = np.isfinite(part)
    count = known.sum(axis=1)
    return np.where(known, part, 0.0).sum(axis=1) / np.where(count > 0, count, np.nan)


class FeatureBuilder:
    """Builds features with what training fitted: the transform, the climatology, the hydrology."""

    def __init__(self, configuration, transform, climatology, hydrology=None):
        self.configuration, self.transform = configuration, transform
        self.climatology, self.hydrology = climatology, hydrology

    @property
    def width(self):
        """Steps of history that the features of one issue time may read."""
        if self.configuration.hydro:
            return HYDRO_WIDTH
        day = self.configuration.steps_per_day
        return 7 * day + 8 if 1 < day <= 300 else 200

    def build(self, data, instants):
        """Features of the issue times `instants` (n,) [s], from what was known at each of them."""
        instants = np.asarray(instants, np.int64)
        cells = data.clock.last_complete(instants)
        data.settle(int(cells.min()), int(cells.max()), self.width)
        base = self._base_states(data, cells) if self.hydrology else None
        parts = [self._chunk(data, cells[i:i + CHUNK], instants[i:i + CHUNK], base)
                 for i in range(0, len(cells), CHUNK)]
        joined = {k: np.concatenate([getattr(p, k) for p in parts])
                  for k in ("common", "ahead", "last", "age", "normal", "model", "cells")}
        return Features(names=parts[0].names, ahead_names=parts[0].ahead_names, **joined)

    def _chunk(self, data, cells, instants, base):
        settings = self.configuration
        window = self.transform.forward(data.windows(settings.target, cells, instants))
        last, age = fill_forward(window)
        horizons = np.array(settings.horizons)
        calendar = Calendar(data.clock.start(cells[:, None] + horizons).ravel(), settings.timezone)
        normal = self.climatology.at(calendar).reshape(len(cells), len(horizons))
        common, ahead = {"last": last, "age": age.astype(float)}, {}
        model = np.full(normal.shape, np.nan)
        if settings.hydro:
            self._flow(common, window, last)
            if self.hydrology:
                model = self._hydrology(common, ahead, data, cells, instants, base, window, last, age)
        else:
            self._levels(common, ahead, window, last, horizons)
        self._calendar(ahead, calendar, normal.shape)
        ahead["normal"] = normal - last[:, None]
        self._covariates(common, ahead, data, cells, instants)
        return Features(list(common), np.stack(list(common.values()), 1), list(ahead),
                        np.stack(list(ahead.values()), 2), last, age, normal, model, cells)

    def _calendar(self, ahead, calendar, shape):
        angle = 2 * np.pi * calendar.day_of_year.reshape(shape)
        ahead["year_sin"], ahead["year_cos"] = np.sin(angle), np.cos(angle)
        if self.configuration.step < 86400:
            angle = 2 * np.pi * calendar.hour.reshape(shape)
            ahead["day_sin"], ahead["day_cos"] = np.sin(angle), np.cos(angle)
        if not self.configuration.hydro:
            ahead["weekday"] = calendar.weekday.reshape(shape).astype(float)

    def _flow(self, common, window, last):
        """Differences and recession of the log flow (window (n, width))."""
        for lag in (1, 2, 3, 4, 5, 7, 10, 15, 30):
            common[f"flow_change_{lag}"] = last - window[:, -1 - lag]
        for steps in (3, 7, 30, 90, 365):
            common[f"flow_mean_{steps}"] = mean_last(window, steps) - last
        recent = np.diff(window[:, -15:], axis=1)
        common["flow_volatility_7"] = np.sqrt(mean_last(recent ** 2, 7))
        common["flow_volatility_14"] = np.sqrt(mean_last(recent ** 2, 14))
        common["flow_curvature"] = common["flow_change_1"] - (window[:, -2] - window[:, -3])
        filled = np.where(np.isfinite(window), window, last[:, None])
        common["flow_max_30"] = filled[:, -30:].max(axis=1) - last
        common["flow_min_30"] = filled[:, -30:].min(axis=1) - last

    def _levels(self, common, ahead, window, last, horizons):
        """Lags, means and spreads of the target's own past, relative to the newest value."""
        for lag in (1, 2, 3, 4, 5, 6, 9, 12, 18, 24):
            common[f"change_{lag}"] = last - window[:, -1 - lag]
        day = self.configuration.steps_per_day
        spans = [3, 6, 12, 24, 48] + ([day] if day > 48 else [])
        for steps in spans:
            common[f"mean_{steps}"] = mean_last(window, steps) - last
            centred = window[:, -steps:] - (common[f"mean_{steps}"] + last)[:, None]
            common[f"spread_{steps}"] = np.sqrt(mean_last(centred ** 2, steps))
        if not 1 < day <= 300:
            return
        for days in (1, 2, 7):
            # The same step of the day, `days` or more days before the target, known at issue time.
            back = np.maximum(days, -(-horizons // day)) * day - horizons
            back = np.minimum(back, window.shape[1] - 1)
            ahead[f"same_step_{days}d"] = window[:, window.shape[1] - 1 - back] - last[:, None]

    def _covariates(self, common, ahead, data, cells, instants):
        settings = self.configuration
        for name in settings.covariates:
            window = data.windows(name, cells, instants)
            last, _ = fill_forward(window)
            common[name] = last
            for lag in (1, 3):
                common[f"{name}_change_{lag}"] = last - window[:, -1 - lag]
            for steps in (6, 24):
                common[f"{name}_mean_{steps}"] = mean_last(window, steps)
        for name in settings.ahead:
            target = cells[:, None] + np.array(settings.horizons)
            ahead[f"{name}_ahead"] = data.versions[name].as_of(target, instants[:, None])
            total = data.versions[name].as_of(cells[:, None] + np.arange(1, max(settings.horizons) + 1),
                                              instants[:, None])
            mean = np.cumsum(total, axis=1) / np.arange(1, total.shape[1] + 1)
            ahead[f"{name}_ahead_mean"] = mean[:, np.array(settings.horizons) - 1]

    # Rainfall-runoff model -------------------------------------------------------------------

    def _weather_names(self):
        settings = self.configuration
        return settings.rain, settings.temperature, settings.evaporation

    def _day_of_year(self, data, cells):
        return Calendar(data.clock.start(cells), self.configuration.timezone).day_of_year

    def _base_states(self, data, cells):
        """One run over the whole record with the first version of each value.

        It reads only what was known within `width` steps, and an issue time takes its state from it
        either at its own cell, where its window is plain, or `width` steps before.
        """
        # One cell more at the start: a window run again begins `width` steps before its issue time.
        first, last = min(data.first, int(cells.min())) - 1, int(cells.max())
        span = np.arange(first - self.width + 1, last + 1)
        columns = []
        for name in self._weather_names():
            series = data.versions[name]
            series.settle(first, last, self.width)
            columns.append(series.base[-len(span):])
        weather = self.hydrology.fill(np.stack(columns, 1), self._day_of_year(data, span))
        states, packs, flow = self.hydrology.follow(weather[:, None])
        for name in self._weather_names():
            data.versions[name].settle(int(cells.min()), last, self.width)
        stacked = gr4j.State(*(np.concatenate(a) for a in zip(*(s.arrays() for s in states))))
        pack = snow.Pack(np.concatenate([p.water for p in packs]),
                         np.concatenate([p.thermal for p in packs]))
        return span[0], stacked, pack, flow[:, 0]

    def _states(self, data, cells, instants, base):
        """State, pack and the last 30 days' simulated flow (n, 30) at the issue times."""
        origin, states, packs, flow = base
        rows = cells - origin
        state, pack = states.take(rows), packs.take(rows)
        history = flow[rows[:, None] + np.arange(-29, 1)]
        other = np.zeros(len(cells), bool)
        for name in self._weather_names():
            other |= ~data.versions[name].plain(cells, instants)
        if other.any():
            again = self._rerun(data, cells[other], instants[other], base)
            for old, new in zip(state.arrays(), again[0].arrays()):
                old[other] = new
            pack.water[other], pack.thermal[other] = again[1].water, again[1].thermal
            history[other] = again[2]
        return state, pack, history

    def _rerun(self, data, cells, instants, base):
        """States of issue times that know revised or lack late values: each window run again from the
        base state before it."""
        origin, states, packs, _ = base
        before = cells - self.width - origin
        weather = np.stack([data.windows(n, cells, instants) for n in self._weather_names()], 2)
        span = cells[:, None] + np.arange(1 - self.width, 1)
        doy = self._day_of_year(data, span.ravel())
        weather = self.hydrology.fill(weather.reshape(-1, 3), doy).reshape(weather.shape)
        state, pack = states.take(before), packs.take(before)
        params = np.tile(self.hydrology.params, (len(cells), 1))
        ordinates = gr4j.unit_hydrographs(params[:, 3])
        flow = np.array([self.hydrology.advance(state, pack, params, ordinates, weather[:, t])
                         for t in range(self.width)])
        return state, pack, flow[-30:].T

    def _hydrology(self, common, ahead, data, cells, instants, base, window, last, age):
        """Adds weather, states and simulated flows; returns the corrected forecast (n, H), log flow."""
        state, pack, history = self._states(data, cells, instants, base)
        rain, temperature, evaporation = (data.windows(n, cells, instants) for n in self._weather_names())
        self._weather(common, rain, temperature, evaporation)
        _, x2, x3, _ = self.hydrology.params[:4]
        simulated = self.transform.forward(history)
        error = window[:, -30:] - simulated
        common["store_production"] = state.s / self.hydrology.params[0]
        common["store_routing"] = state.r / x3
        common["water_in_transit"] = np.log(0.1 + state.uh1[:, 1:].sum(1) + state.uh2[:, 1:].sum(1))
        common["snow_water"] = pack.water.mean(1)
        common["snow_cover"] = (pack.water > 1.0).mean(1)
        common["snow_thermal"] = pack.thermal.mean(1)
        common["model_error"] = fill_forward(error)[0]
        common["model_error_7"] = mean_last(error, 7)
        common["model_error_30"] = mean_last(error, 30)
        steps = max(self.configuration.horizons)
        weather = self._weather_ahead(data, cells, instants, steps)
        for name, flow in self._scenarios(state, pack, cells, last, weather).items():
            ahead[name] = flow - last[:, None]
        return ahead["model_updated"] + last[:, None]

    def _weather(self, common, rain, temperature, evaporation):
        for steps in RAIN_SUMS:
            common[f"rain_{steps}"] = mean_last(rain, steps) * steps
        for lag in (1, 2, 3):
            common[f"rain_lag_{lag}"] = rain[:, -1 - lag]
        for decay in (0.85, 0.95):
            weights = decay ** np.arange(119, -1, -1)
            common[f"rain_index_{decay}"] = np.nan_to_num(rain[:, -120:]) @ weights
        for steps in (1, 3, 7, 30):
            common[f"temperature_{steps}"] = mean_last(temperature, steps)
        for steps in (7, 30, 90):
            common[f"evaporation_{steps}"] = mean_last(evaporation, steps)
        common["water_balance_365"] = mean_last(rain, 365) - mean_last(evaporation, 365)

    def _weather_ahead(self, data, cells, instants, steps):
        """Weather (steps, n, 1, 3) of the days after the issue cells as forecast at the issue times, NaN
        where there was no forecast."""
        out = np.full((steps, len(cells), 1, 3), np.nan)
        if self.configuration.weather_ahead:
            days = cells + np.arange(1, steps + 1)[:, None]
            for i, name in enumerate(self._weather_names()):
                out[:, :, 0, i] = data.versions[name].as_of(days, instants)
        return out

    def _scenarios(self, state, pack, cells, last, weather):
        """Log flow (n, H) of the states run ahead: free and with the routing store set by the observed
        flow, with the forecast `weather`, or else that of other years (mean and high), and without rain."""
        n, steps = len(cells), max(self.configuration.horizons)
        take = np.array(self.configuration.horizons) - 1
        members = self.hydrology.sample(cells, steps, MEMBERS)
        members = np.where(np.isfinite(weather), weather, members)
        dry = members.mean(axis=2)
        dry[:, :, 0] = 0.0
        updated = state.copy()
        observed = np.maximum(self.transform.inverse(last), 0.0)
        corrected = gr4j.routing_store_for(observed, state, self.hydrology.params[2])
        updated.r = np.where(np.isfinite(observed), corrected, state.r)
        out = {}
        for name, start in (("model_free", state), ("model_updated", updated)):
            flow = self.hydrology.forecast(start.repeat(MEMBERS), pack.repeat(MEMBERS),
                                           members.reshape(steps, n * MEMBERS, 3))
            flow = flow.reshape(steps, n, MEMBERS)[take]
            out[name] = self.transform.forward(flow.mean(axis=2)).T
            if name == "model_updated":
                high = np.sort(flow, axis=2)[:, :, -2]
                out["model_high"] = self.transform.forward(high).T
        flow = self.hydrology.forecast(updated.copy(), pack.take(slice(None)), dry)[take]
        out["model_dry"] = self.transform.forward(flow).T
        return out
