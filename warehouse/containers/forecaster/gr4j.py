"""GR4J, the daily rainfall-runoff model with four parameters, vectorised over columns.

Source: Perrin, Michel, Andréassian (2003), "Improvement of a parsimonious model for streamflow
simulation", Journal of Hydrology 279, 275-289. The order of operations is that of the paper.

A column is one simulation: a parameter set during calibration, an issue time during forecasting.
All stores and fluxes are in mm and mm/day. Parameters are an array (columns, 4):
x1 production store capacity [mm], x2 exchange coefficient [mm/day], x3 routing store capacity [mm],
x4 time base of the unit hydrographs [day].
"""
from dataclasses import dataclass

import numpy as np

UH1_STEPS = 12
UH2_STEPS = 24
X4_MAX = 11.0
PERCOLATION = (4.0 / 9.0) ** 4


@dataclass
class State:
    """Stores after a step: s, r (columns,) [mm]; uh1 (columns, UH1_STEPS), uh2 (columns, UH2_STEPS)
    [mm]; qd (columns,) [mm/day], the direct branch's outflow of the last step."""

    s: np.ndarray
    r: np.ndarray
    uh1: np.ndarray
    uh2: np.ndarray
    qd: np.ndarray

    def copy(self):
        """An independent copy."""
        return State(*(a.copy() for a in self.arrays()))

    def arrays(self):
        """The five arrays in declaration order."""
        return (self.s, self.r, self.uh1, self.uh2, self.qd)

    def take(self, rows):
        """The state of the columns `rows`, copied."""
        return State(*(a[rows].copy() for a in self.arrays()))

    def repeat(self, times):
        """Each column `times` times in a row."""
        return State(*(np.repeat(a, times, axis=0) for a in self.arrays()))


def initial_state(params):
    """The usual start: production store 30% full, routing store 50% full, empty hydrographs."""
    n = len(params)
    return State(0.3 * params[:, 0], 0.5 * params[:, 2], np.zeros((n, UH1_STEPS)),
                 np.zeros((n, UH2_STEPS)), np.zeros(n))


def unit_hydrographs(x4):
    """Ordinates (columns, UH1_STEPS) and (columns, UH2_STEPS), each row summing to 1."""
    x4 = np.minimum(np.asarray(x4, float), X4_MAX)[:, None]
    t1 = np.arange(UH1_STEPS + 1.0)[None]
    s1 = np.minimum(t1 / x4, 1.0) ** 2.5
    t2 = np.arange(UH2_STEPS + 1.0)[None]
    rising = 0.5 * np.minimum(t2 / x4, 1.0) ** 2.5
    falling = 1.0 - 0.5 * np.clip(2.0 - t2 / x4, 0.0, 1.0) ** 2.5
    s2 = np.where(t2 <= x4, rising, falling)
    return np.diff(s1, axis=1), np.diff(s2, axis=1)


def step(state, params, ordinates, rain, pet):
    """Advances `state` in place by one day and returns the flow (columns,) [mm/day].

    rain and pet broadcast to (columns,) [mm/day] and must be finite.
    """
    x1, x2, x3 = params[:, 0], params[:, 1], params[:, 2]
    net = rain - pet
    fill = state.s / x1
    # tanh saturates long before 13; the bound keeps the arithmetic free of overflow.
    w = np.tanh(np.minimum(np.abs(net) / x1, 13.0))
    wet = net > 0.0
    gain = x1 * (1.0 - fill * fill) * w / (1.0 + fill * w)
    loss = state.s * (2.0 - fill) * w / (1.0 + (1.0 - fill) * w)
    s = np.maximum(state.s + np.where(wet, gain, -loss), 0.0)
    ratio = s / x1
    percolation = s * (1.0 - (1.0 + PERCOLATION * ratio ** 4) ** -0.25)
    state.s = s - percolation
    routed = percolation + np.where(wet, net - gain, 0.0)
    _shift_and_add(state.uh1, ordinates[0], 0.9 * routed)
    _shift_and_add(state.uh2, ordinates[1], 0.1 * routed)
    exchange = x2 * (state.r / x3) ** 3.5
    r = np.maximum(state.r + state.uh1[:, 0] + exchange, 0.0)
    outflow = r * (1.0 - (1.0 + (r / x3) ** 4) ** -0.25)
    state.r = r - outflow
    state.qd = np.maximum(state.uh2[:, 0] + exchange, 0.0)
    return outflow + state.qd


def _shift_and_add(store, ordinates, water):
    store[:, :-1] = store[:, 1:]
    store[:, -1] = 0.0
    store += ordinates * water[:, None]


def run(params, rain, pet, state=None):
    """Simulates (steps,) or (steps, columns) inputs [mm/day]; returns flow (steps, columns), state."""
    state = initial_state(params) if state is None else state
    ordinates = unit_hydrographs(params[:, 3])
    flow = np.empty((len(rain), len(params)))
    for t in range(len(rain)):
        flow[t] = step(state, params, ordinates, rain[t], pet[t])
    return flow, state


_TABLE = np.linspace(0.0, 6.0, 1200)
_TABLE_OUT = _TABLE * (1.0 - (1.0 + _TABLE ** 4) ** -0.25)


def routing_store_for(flow, state, x3):
    """Routing store level (columns,) [mm] that would have given the observed `flow` [mm/day].

    The store before its outflow is found by inverting outflow(level), tabulated per unit of x3;
    this is the update of GRP (Berthet 2010), the forecasting variant of the GR models.
    """
    wanted = np.maximum(flow - state.qd, 0.0) / x3
    level = np.interp(wanted, _TABLE_OUT, _TABLE)
    return np.maximum(level - wanted, 0.0) * x3
