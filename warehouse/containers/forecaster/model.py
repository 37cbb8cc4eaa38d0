"""The forecaster of one site: fitting, forecasting, saving and loading."""
import json
import os

import lightgbm as lgb
import numpy as np

from baselines import Climatology, damped, damping
from bitemporal import Clock
from blend import error_grams, fit_weights, gate
from configuration import Configuration, InputError
from features import FeatureBuilder, SiteData, Transform
from hydrology import Hydrology
from intervals import (conformal_shift, contiguous_folds, cross_fitted, design, fit_level, needed_stretch,
                       recent_stretch, stretch, tidy)
from learners import Kernel, Linear, boost, decode, encode
from local_time import Calendar

MIN_TRAINING_STEPS = 400
MAX_ROWS = 30000
MAX_KERNEL_ROWS = 15000
KERNEL_PLACES = 4
LEARNERS = ("linear", "kernel", "boosted")
BOOST_ROUNDS = 150
# Trees of the first horizons may be larger than those of the later ones, whose targets are mostly noise.
NEAR_TREES, FAR_TREES = {"leaves": 15, "leaf": 20}, {"leaves": 7, "leaf": 50}
NEAR_HORIZONS = 3
# Issue times whose errors adapt the quantiles of hydro forecasts, and the weight of that adaptation.
RECENT = 365
ADAPTATION = 1.0


class Forecast:
    """For n issue times and H horizons: mean (n, H), quantiles (n, H, Q), members (n, H, M) in the
    target's unit, stale (n,) where the fallback was used, age (n,) of the last value in steps."""

    def __init__(self, cells, mean, quantiles, members, stale, age):
        self.cells, self.mean, self.quantiles = cells, mean, quantiles
        self.members, self.stale, self.age = members, stale, age


def groups_of(count):
    """Groups of neighbouring horizons that share a booster: single ones first, wider ones later."""
    out, start = [], 0
    while start < count:
        size = max(1, start // 4 if start >= 8 else 1)
        out.append(list(range(start, min(start + size, count))))
        start += size
    return out


class SiteModel:
    """Everything fitted for one site; see `fit`."""

    def __init__(self, site, configuration):
        self.site, self.configuration = site, configuration
        self.groups = groups_of(len(configuration.horizons))

    # Fitting ---------------------------------------------------------------------------------

    def fit(self, data, until):
        """Fits to the issue times whose targets were known at `until` [s]; later values are not read.

        data: a `SiteData` of records with known_at <= until.
        """
        settings = self.configuration
        self.clock, last = data.clock, int(data.clock.last_complete(until))
        truth_cells = np.arange(data.first, last + 1)
        truth = data.truth(data.first, last)
        self._check_length(truth)
        self._fit_basis(data, truth_cells, truth)
        warm = 60 if settings.hydro else min(self.builder.width, len(truth) // 4)
        cells = truth_cells[warm:-1]
        features = self.builder.build(data, self.clock.issue(cells))
        targets = self._targets(truth, warm, len(cells))
        usable = np.isfinite(features.last) & (features.age <= settings.stale_steps)
        usable &= np.isfinite(targets).any(axis=1)
        features, targets = features.take(usable), targets[usable]
        self.feature_names = features.all_names()
        self._fit_blend(features, targets)
        return self

    def _check_length(self, truth):
        known = int(np.isfinite(truth).sum())
        if known < MIN_TRAINING_STEPS:
            raise InputError(f"site {self.site}, series {self.configuration.target}: {known} known values, "
                             f"at least {MIN_TRAINING_STEPS} are needed to train")

    def _fit_basis(self, data, cells, truth):
        settings = self.configuration
        offset = 0.02 * float(np.nanmedian(truth)) + 1e-6 if settings.hydro else 0.0
        self.transform = Transform(settings.hydro, offset)
        calendar = Calendar(self.clock.start(cells), settings.timezone)
        self.climatology = Climatology.fit(calendar, self.transform.forward(truth), settings.step < 86400)
        self.hydrology = None
        if settings.hydro and len(data.versions[settings.rain].cell):
            if settings.step != 86400:
                raise InputError("--kind hydro with rain needs --step 1d; use --kind generic for other steps")
            names = (settings.rain, settings.temperature, settings.evaporation)
            weather = np.stack([data.versions[n].latest(cells[0], cells[-1]) for n in names], 1)
            self.hydrology = Hydrology.of_record(cells[0], calendar.day_of_year, weather)
            self.calibration = self.hydrology.calibrate(truth, settings.seed)
        self.builder = FeatureBuilder(settings, self.transform, self.climatology, self.hydrology)

    def _targets(self, truth, warm, count):
        """Truth (count, H) at each horizon after the issue cells, NaN beyond the record."""
        place = warm + np.arange(count)[:, None] + np.array(self.configuration.horizons)
        inside = place < len(truth)
        return np.where(inside, truth[np.minimum(place, len(truth) - 1)], np.nan)

    def _fit_blend(self, features, targets):
        """Out-of-fold members, weights, gate, intervals on their errors, and the last fit on all."""
        settings = self.configuration
        scaled = self.transform.forward(targets)
        folds = contiguous_folds(len(targets), settings.folds)
        members = self._out_of_fold(features, scaled, folds)
        grams = error_grams(members, targets, folds)
        horizons = np.array(settings.horizons)
        prior = self._prior(len(horizons))
        weights = fit_weights(grams, horizons, prior)
        baselines = [self.members().index(n) for n in ("persistence", "damped")]
        self.weights, self.passed = gate(grams, horizons, prior, weights, baselines)
        centre = np.einsum("nhm,hm->nh", members, self.weights)
        self._fit_intervals(features, scaled, self.transform.forward(centre))
        self._fit_learners(features, scaled)

    def members(self):
        """Names of the members, in the order of the weights."""
        model = ["model"] if self.hydrology else []
        return ["persistence", "damped", "climatology"] + model + list(LEARNERS)

    def _prior(self, count):
        prior = np.array([1.0 / len(LEARNERS) if m in LEARNERS else 0.0 for m in self.members()])
        return np.tile(prior, (count, 1))

    def _out_of_fold(self, features, scaled, folds):
        """Members (n, H, M) in the target's unit, each row by models that saw neither its block nor the
        steps next to it."""
        out = np.full((*scaled.shape, len(self.members())), np.nan)
        embargo = 2 * max(self.configuration.horizons)
        for k in range(folds.max() + 1):
            held = folds == k
            block = features.cells[held]
            apart = (features.cells < block[0] - embargo) | (features.cells > block[-1] + embargo)
            self._fit_learners(features.take(apart), scaled[apart])
            out[held] = self._member_values(features.take(held))
        return out

    def _fit_learners(self, features, scaled):
        """Damping, kernel and boosters on features (n) and transformed targets (n, H)."""
        settings = self.configuration
        last = features.last[:, None]
        self.damping = np.array([damping(features.last, features.normal[:, h], scaled[:, h])
                                 for h in range(scaled.shape[1])])
        stride = -(-len(scaled) // MAX_KERNEL_ROWS)
        count = scaled.shape[1]
        self.scale = 1.0 if settings.hydro else float(np.nanstd(scaled)) or 1.0
        change = (scaled - last) / self.scale
        # The kernel learns changes of the flow's root: between the log, which neglects floods, and the
        # flow itself, which neglects all else. A later horizon has more noise, so a larger ridge.
        bent = self._bend(scaled) - self._bend(last)
        ridges = [min(0.1 * h, 0.7) if settings.hydro else 2.0 for h in range(1, count + 1)]
        self.kernel = Kernel.fit(self._kernel_matrix(features)[::stride], bent[::stride], ridges,
                                 settings.seed)
        self.linear = [Linear.fit(*self._stack(features, [place], change)) for place in range(count)]
        self.boosters = []
        for places in self.groups:
            matrix, target = self._stack(features, places, change)
            trees = NEAR_TREES if not settings.hydro or places[0] < NEAR_HORIZONS else FAR_TREES
            self.boosters.append(boost(matrix, target, settings, rounds=BOOST_ROUNDS, **trees))

    def _bend(self, values):
        """From the transformed scale to the kernel's: the root of the flow, or standardised values."""
        return np.exp(values / 2.0) if self.configuration.hydro else values / self.scale

    def _unbend(self, values):
        """The reverse of `_bend`."""
        if not self.configuration.hydro:
            return values * self.scale
        return 2.0 * np.log(np.maximum(values, 1e-9))

    def _stack(self, features, places, *targets):
        """Matrix of the horizons `places` on top of each other (with the horizon as a column if there
        are several) and the matching targets, thinned to MAX_ROWS, rows without a target left out."""
        stride = -(-len(features.last) * len(places) // MAX_ROWS)
        parts = [[] for _ in range(1 + len(targets))]
        for i, place in enumerate(places):
            rows = np.arange(i % stride, len(features.last), stride)
            rows = rows[np.isfinite(targets[0][rows, place])]
            parts[0].append(self._matrix(features, place, places)[rows])
            for part, target in zip(parts[1:], targets):
                part.append(target[rows, place])
        return [np.concatenate(p) for p in parts]

    def _matrix(self, features, place, places):
        matrix = features.at(place)
        if len(places) == 1:
            return matrix
        return np.hstack([matrix, np.full((len(matrix), 1), float(self.configuration.horizons[place]))])

    def _kernel_matrix(self, features):
        """Common features, those ahead at the first horizon, and the forecasts at a few later ones."""
        count = features.ahead.shape[1]
        places = np.unique(np.round(np.linspace(0, count - 1, KERNEL_PLACES)).astype(int))
        moving = [i for i, n in enumerate(features.ahead_names)
                  if n.startswith("model_") or n.startswith("same_step") or n.endswith("_ahead")]
        return np.hstack([features.common, features.ahead[:, 0]]
                         + [features.ahead[:, p][:, moving] for p in places[1:]])

    def _fit_intervals(self, features, scaled, centre):
        """Boosters of the errors' quantiles per group and level, shifts (H, Q), and the quantiles of
        the climatology's errors for the fallback."""
        settings = self.configuration
        error = scaled - centre
        levels = settings.quantiles
        self.shifts = np.zeros((scaled.shape[1], len(levels)))
        self.spreads = []
        past = np.full((*scaled.shape, len(levels)), np.nan)
        for places in self.groups:
            matrix, target, rows = self._stack_design(features, places, centre, error)
            for q, level in enumerate(levels):
                spread = cross_fitted(matrix, target, level, settings)
                shift = conformal_shift(target - spread, level)
                self.shifts[places, q] = shift
                if len(places) == 1:
                    past[rows, places[0], q] = centre[rows, places[0]] + spread + shift
            self.spreads.append([fit_level(matrix, target, level, settings) for level in levels])
        self.past_cells, self.past = features.cells[-RECENT:], past[-RECENT:]
        away = scaled - features.normal
        self.fallback = np.nanquantile(away, settings.quantiles, axis=0).T

    def _stack_design(self, features, places, centre, error):
        repeated = [np.repeat(a[:, None], error.shape[1], 1) for a in (features.last, np.arange(len(error)))]
        matrix, target, middle, last, rows = self._stack(features, places, error, centre, *repeated)
        return design(matrix, middle, last), target, rows

    # Forecasting -----------------------------------------------------------------------------

    def _member_values(self, features):
        """Members (n, H, M) in the target's unit."""
        last, normal = features.last[:, None], features.normal
        boosted = np.empty(normal.shape)
        for places, booster in zip(self.groups, self.boosters):
            for place in places:
                boosted[:, place] = booster.predict(self._matrix(features, place, places))
        linear = np.stack([m.predict(features.at(p)) for p, m in enumerate(self.linear)], 1)
        kernel = self._unbend(self._bend(last) + self.kernel.predict(self._kernel_matrix(features)))
        values = [np.repeat(last, normal.shape[1], 1), damped(last, normal, self.damping), normal]
        if self.hydrology:
            values.append(features.model)
        values += [last + self.scale * linear, kernel, last + self.scale * boosted]
        return self._bound(self.transform.inverse(np.stack(values, axis=2)))

    def _bound(self, values):
        settings = self.configuration
        if settings.nonnegative:
            values = np.maximum(values, 0.0)
        return np.minimum(values, settings.capacity) if settings.capacity else values

    def forecast(self, data, instants):
        """Forecast of the issue times `instants` (n,) [s] from what `data` knew at each of them."""
        settings = self.configuration
        instants = np.asarray(instants, np.int64)
        features = self.builder.build(data, instants)
        members = self._member_values(features)
        mean = np.einsum("nhm,hm->nh", np.nan_to_num(members), self.weights)
        quantiles = self._quantiles(features, mean)
        if settings.hydro:
            quantiles = stretch(quantiles, self._adaptation(data, instants, features, quantiles) ** ADAPTATION)
        quantiles = self.transform.inverse(quantiles)
        stale = ~np.isfinite(features.last) | (features.age > settings.stale_steps)
        mean[stale] = self.transform.inverse(features.normal[stale])
        quantiles[stale] = self.transform.inverse(features.normal[stale][:, :, None] + self.fallback)
        quantiles = tidy(quantiles, settings.nonnegative, settings.capacity)
        return Forecast(features.cells, self._bound(mean), quantiles, members, stale, features.age)

    def _quantiles(self, features, mean):
        """Quantiles (n, H, Q) on the transformed scale around the blend's mean (n, H)."""
        centre = self.transform.forward(mean)
        out = np.empty((*mean.shape, len(self.configuration.quantiles)))
        for places, levels in zip(self.groups, self.spreads):
            for place in places:
                matrix = design(self._matrix(features, place, places), centre[:, place], features.last)
                for q, booster in enumerate(levels):
                    out[:, place, q] = centre[:, place] + booster.predict(matrix) + self.shifts[place, q]
        return out

    def _past_quantiles(self, data, first, last, features, quantiles):
        """Quantiles (cells, H, Q) that were issued at the end of each of the cells first..last: kept
        from training, taken from `quantiles` of `features`, or made now from what was known then."""
        out = np.full((last - first + 1, *quantiles.shape[1:]), np.nan)

        def put(cells, values):
            inside = (cells >= first) & (cells <= last)
            out[cells[inside] - first] = values[inside]
        put(features.cells, quantiles)
        trained = int(self.past_cells[-1])
        have = np.zeros(len(out), bool)
        have[features.cells - first] = True
        # Quantiles of training cells are cross-fitted ones: the last fit has seen their truth.
        out[:max(0, trained - first + 1)] = np.nan
        put(self.past_cells, self.past)
        again = np.arange(first, last + 1)[~have]
        again = again[(again > trained) & (again >= data.first)]
        if len(again):
            older = self.builder.build(data, self.clock.issue(again))
            mean = np.einsum("nhm,hm->nh", np.nan_to_num(self._member_values(older)), self.weights)
            put(again, self._quantiles(older, mean))
        return out

    def _adaptation(self, data, instants, features, quantiles):
        """Stretches (n, H) that recent errors call for, with the truth as known at each issue time."""
        settings = self.configuration
        cells, horizons = features.cells, settings.horizons
        first, last = int(cells.min()) - RECENT - max(horizons), int(cells.max())
        past = self._past_quantiles(data, first, last, features, quantiles)
        series = data.versions[settings.target]
        series.settle(int(cells.min()), last, self.builder.width)
        truth = self.transform.forward(series.windows(cells, instants)[:, -RECENT:])
        targets = cells[:, None] + np.arange(1 - RECENT, 1) - first
        level = settings.quantiles[-1] - settings.quantiles[0]
        out = np.empty(quantiles.shape[:2])
        for place, horizon in enumerate(horizons):
            needed = needed_stretch(truth, past[targets - horizon, place])
            out[:, place] = recent_stretch(needed, level, RECENT)
        return out

    def method(self, place, stale, age):
        """How the forecast of a horizon was made, in words."""
        if stale:
            return f"climatology: the last value of {self.configuration.target} is {int(age)} steps old"
        if self.passed[place]:
            return "blend"
        return self.members()[int(np.argmax(self.weights[place]))]

    def importance(self):
        """Rows (horizon, feature, gain share) of the boosters."""
        out = []
        for places, booster in zip(self.groups, self.boosters):
            gain = booster.feature_importance("gain")
            names = self.feature_names + (["horizon"] if len(places) > 1 else [])
            for place in places:
                for i in np.argsort(-gain, kind="stable"):
                    out.append((self.configuration.horizons[place], names[i], gain[i] / max(gain.sum(), 1e-300)))
        return out

    # Keeping ---------------------------------------------------------------------------------

    def save(self, folder):
        """Writes the boosters as LightGBM text and returns the rest as plain values."""
        settings = self.configuration
        for g, (booster, levels) in enumerate(zip(self.boosters, self.spreads)):
            booster.save_model(os.path.join(folder, f"{self.site}.mean.{g}.txt"))
            for q, level in enumerate(levels):
                level.save_model(os.path.join(folder, f"{self.site}.q{settings.quantiles[q]:g}.{g}.txt"))
        return {
            "clock": [self.clock.step, self.clock.phase, self.clock.slack, self.clock.offset], "offset": self.transform.offset,
            "climatology": self.climatology.coefficients.tolist(), "damping": self.damping.tolist(),
            "hydrology": self.hydrology.as_dict() if self.hydrology else None, "scale": self.scale,
            "kernel": self.kernel.as_dict(), "linear": [m.as_dict() for m in self.linear],
            "weights": self.weights.tolist(),
            "passed": self.passed.tolist(), "shifts": self.shifts.tolist(),
            "fallback": self.fallback.tolist(), "features": self.feature_names,
            "members": self.members(),
            "past_cells": self.past_cells.tolist(), "past": encode(self.past),
        }

    @staticmethod
    def load(folder, site, configuration, d):
        """The reverse of `save`."""
        self = SiteModel(site, configuration)
        self.clock = Clock(*d["clock"])
        self.transform = Transform(configuration.hydro, d["offset"])
        self.climatology = Climatology(d["climatology"], configuration.step < 86400)
        self.hydrology = Hydrology.of_dict(d["hydrology"]) if d["hydrology"] else None
        self.builder = FeatureBuilder(configuration, self.transform, self.climatology, self.hydrology)
        self.kernel, self.scale = Kernel.of_dict(d["kernel"]), d["scale"]
        self.linear = [Linear.of_dict(m) for m in d["linear"]]
        for name in ("damping", "weights", "passed", "shifts", "fallback"):
            setattr(self, name, np.array(d[name]))
        self.feature_names = d["features"]
        self.past_cells, self.past = np.array(d["past_cells"]), decode(d["past"])

        def read(kind, g):
            return lgb.Booster(model_file=os.path.join(folder, f"{site}.{kind}.{g}.txt"))
        self.boosters = [read("mean", g) for g in range(len(self.groups))]
        self.spreads = [[read(f"q{level:g}", g) for level in configuration.quantiles]
                        for g in range(len(self.groups))]
        return self


def save_models(folder, models, configuration):
    """Writes model.json and the boosters of all sites."""
    os.makedirs(folder, exist_ok=True)
    sites = {m.site: m.save(folder) for m in models}
    with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
        json.dump({"format": 1, "configuration": configuration.as_dict(), "sites": sites}, file)


def load_models(folder):
    """Mapping from site to `SiteModel`, and the configuration."""
    with open(os.path.join(folder, "model.json"), encoding="utf-8") as file:
        d = json.load(file)
    configuration = Configuration(**d["configuration"])
    return {s: SiteModel.load(folder, s, configuration, m) for s, m in d["sites"].items()}, configuration
