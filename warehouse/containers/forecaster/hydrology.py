"""GR4J with CemaNeige for one site: calibration, states at issue times, forecasts with past weather.

The weather of the days ahead is unknown. It is replaced by that of the same season in the other years
of the training record, one simulation per year (the ensemble of Day 1985, "Extended streamflow
forecasting using NWSRFS"); an issue time never sees its own year.
"""
import numpy as np

import gr4j
import snow

WARMUP = 365
BLOCK = 730
SNOW_SHARE = 0.03
# Bounds of the calibration: x1, x3 in mm and x4 in days on a logarithmic scale, x2 in mm/day.
LOWER = np.array([np.log(20.0), -6.0, np.log(2.0), np.log(0.6), 0.0, 0.5, 0.0])
UPPER = np.array([np.log(3000.0), 6.0, np.log(4000.0), np.log(10.0), 0.98, 8.0, 9.0])


def physical(vectors):
    """Parameters (n, 7) of search vectors (n, 7): x1, x2, x3, x4, inertia, melt factor, relief."""
    out = np.array(vectors, float)
    out[:, [0, 2, 3]] = np.exp(out[:, [0, 2, 3]])
    return out


def harmonics(day_of_year, order=2):
    """Design matrix (n, 1 + 2 * order) of the annual cycle; day_of_year is a fraction of the year."""
    angle = 2 * np.pi * np.asarray(day_of_year)[:, None] * np.arange(1, order + 1)
    return np.hstack([np.ones((len(angle), 1)), np.sin(angle), np.cos(angle)])


class Hydrology:
    """A calibrated model of one site. weather (days, 3) holds rain [mm], temperature [°C] and
    evaporation [mm] of the training record from cell `first` on, without gaps."""

    def __init__(self, first, weather, cycles, params=None):
        self.first, self.weather, self.cycles = int(first), weather, cycles
        self.params = params
        self.solid = snow.annual_solid(weather[:, 0], weather[:, 1])
        self.snowy = self.solid > SNOW_SHARE * 365.25 * np.mean(weather[:, 0])

    def as_dict(self):
        """Plain values for the model's JSON."""
        return {"first": self.first, "weather": np.round(self.weather, 4).tolist(),
                "cycles": self.cycles.tolist(), "params": self.params.tolist()}

    @staticmethod
    def of_dict(d):
        """The reverse of `as_dict`."""
        return Hydrology(d["first"], np.array(d["weather"]), np.array(d["cycles"]),
                         np.array(d["params"]))

    @staticmethod
    def of_record(first, day_of_year, weather):
        """An uncalibrated model; gaps in weather (days, 3) are filled by the mean annual cycle."""
        cycles = []
        for column in weather.T:
            known = np.isfinite(column)
            if known.sum() < 30:
                cycles.append(np.zeros(5))
                continue
            cycles.append(np.linalg.lstsq(harmonics(day_of_year[known]), column[known], rcond=None)[0])
        model = Hydrology.__new__(Hydrology)
        model.cycles = np.array(cycles)
        # Rounded, so that the model read back from JSON is the same to the bit.
        return Hydrology(first, np.round(model.fill(weather, day_of_year), 4), model.cycles)

    def fill(self, weather, day_of_year):
        """weather (days, 3) without gaps: no rain, and the annual cycle for temperature, evaporation."""
        out = np.array(weather, float)
        normal = harmonics(day_of_year) @ self.cycles.T
        normal[:, 0] = 0.0
        out = np.where(np.isfinite(out), out, normal)
        out[:, [0, 2]] = np.maximum(out[:, [0, 2]], 0.0)
        return out

    def calibrate(self, flow, seed, population=48, generations=28):
        """Fits the parameters to flow (days,) [mm], NaN where missing, by differential evolution
        (Storn and Price 1997) on the Nash-Sutcliffe efficiency of the square root of the flow."""
        rng = np.random.default_rng(seed)
        lower, upper = LOWER.copy(), UPPER.copy()
        if not self.snowy:
            lower[4:], upper[4:] = [0.5, 3.0, 0.0], [0.5, 3.0, 0.0]
        vectors = lower + (upper - lower) * rng.random((3 * population, 7))
        blocks = _blocks(self.weather, flow)
        scores = self._scores(vectors, blocks)
        keep = np.argsort(scores, kind="stable")[:population]
        vectors, scores = vectors[keep], scores[keep]
        for _ in range(generations):
            trial = _evolve(vectors, vectors[np.argmin(scores)], lower, upper, rng)
            trial_scores = self._scores(trial, blocks)
            better = trial_scores < scores
            vectors[better], scores[better] = trial[better], trial_scores[better]
        self.params = physical(vectors[np.argmin(scores)][None])[0]
        return 1.0 - float(scores.min())

    def _scores(self, vectors, blocks):
        weather, observed = blocks
        columns = weather.shape[1]
        params = np.repeat(physical(vectors), columns, axis=0)
        tiled = np.tile(weather, (1, len(vectors), 1))
        simulated = self.simulate(params, tiled)[WARMUP:]
        simulated = np.sqrt(np.maximum(simulated, 0.0)).reshape(len(observed), len(vectors), columns)
        error = np.nansum((simulated - observed[:, None]) ** 2, axis=(0, 2))
        return error / np.nansum((observed - np.nanmean(observed)) ** 2)

    def simulate(self, params, weather):
        """Flow (days, columns) [mm] for weather (days, columns, 3)."""
        state, pack = gr4j.initial_state(params), snow.empty_pack(len(params))
        ordinates = gr4j.unit_hydrographs(params[:, 3])
        flow = np.empty(weather.shape[:2])
        for t, today in enumerate(weather):
            flow[t] = self.advance(state, pack, params, ordinates, today)
        return flow

    def advance(self, state, pack, params, ordinates, weather):
        """One day in place for weather (columns, 3); returns flow (columns,) [mm]."""
        water = weather[:, 0]
        if self.snowy:
            water = snow.step(pack, params[:, 4:], self.solid, water, weather[:, 1])
        return gr4j.step(state, params, ordinates, water, weather[:, 2])

    def follow(self, weather, state=None, pack=None):
        """Simulates weather (days, columns, 3) and keeps each day's state, pack and flow.

        Returns lists of `gr4j.State` and `snow.Pack` and flow (days, columns) [mm].
        """
        columns = weather.shape[1]
        params = np.tile(self.params, (columns, 1))
        state = gr4j.initial_state(params) if state is None else state
        pack = snow.empty_pack(columns) if pack is None else pack
        ordinates = gr4j.unit_hydrographs(params[:, 3])
        states, packs, flow = [], [], np.empty(weather.shape[:2])
        for t, today in enumerate(weather):
            flow[t] = self.advance(state, pack, params, ordinates, today)
            states.append(state.copy())
            packs.append(snow.Pack(pack.water.copy(), pack.thermal.copy()))
        return states, packs, flow

    def forecast(self, state, pack, weather):
        """Flow (steps, columns) [mm] from the given columns on, weather (steps, columns, 3)."""
        params = np.tile(self.params, (len(state.s), 1))
        ordinates = gr4j.unit_hydrographs(params[:, 3])
        return np.array([self.advance(state, pack, params, ordinates, today) for today in weather])

    def sample(self, cells, steps, members):
        """Weather (steps, n, members, 3) of the days after `cells` in other years of the record: the
        same day of the year and nine days before and after it, spread evenly over what there is."""
        years = max(1, int(len(self.weather) / 365.25))
        # A whole number of records is added, so that times far after the record find its years too.
        turns = np.maximum(0, (np.asarray(cells) - self.first) // 365.25 - years + 1)[:, None]
        span = np.arange(-years, years + 1)
        span = np.repeat(span[span != 0], 3)
        jitter = np.resize([-9, 0, 9], len(span))
        start = np.asarray(cells)[:, None] - self.first + np.round(365.25 * (span - turns)).astype(int) + jitter
        usable = (start >= 0) & (start + steps < len(self.weather))
        order = np.argsort(~usable, axis=1, kind="stable")
        count = np.maximum(usable.sum(axis=1), 1)[:, None]
        pick = ((np.arange(members) + 0.5) * count / members).astype(int)
        chosen = np.take_along_axis(start, np.take_along_axis(order, pick, 1), 1)
        chosen = np.clip(chosen, 0, len(self.weather) - steps - 1)
        return self.weather[chosen[None] + np.arange(1, steps + 1)[:, None, None]]


def _blocks(weather, flow):
    """Splits the record into columns of a warm-up year and BLOCK days, so that the loop over time is
    short: weather (WARMUP + BLOCK, columns, 3) and observed root flow (BLOCK, columns)."""
    days = len(flow)
    starts = np.arange(WARMUP, max(days - BLOCK // 2, WARMUP + 1), BLOCK)
    rows = starts[None] + np.arange(-WARMUP, BLOCK)[:, None]
    observed = np.where(rows < days, flow[np.minimum(rows, days - 1)], np.nan)[WARMUP:]
    return weather[np.minimum(rows, days - 1)], np.sqrt(observed)


def _evolve(vectors, best, lower, upper, rng):
    """Trial vectors of the strategy current-to-best/1/bin, reflected into the bounds."""
    n, width = vectors.shape
    a, b = rng.integers(0, n, n), rng.integers(0, n, n)
    weight = rng.uniform(0.4, 0.9, (n, 1))
    mutant = vectors + weight * (best - vectors) + weight * (vectors[a] - vectors[b])
    cross = rng.random((n, width)) < 0.9
    trial = np.where(cross, mutant, vectors)
    trial = np.where(trial < lower, np.minimum(2 * lower - trial, upper), trial)
    return np.where(trial > upper, np.maximum(2 * upper - trial, lower), trial)
