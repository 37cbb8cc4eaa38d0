"""CemaNeige, the degree-day snow model, vectorised over columns and elevation layers.

Source: Valéry, Andréassian, Perrin (2014), "As simple as possible but not simpler: what is useful in
a temperature-based snow-accounting routine?", Journal of Hydrology 517. Two parameters: the thermal
inertia of the pack [-] and the melt factor [mm/°C/day]. The layers' elevations are not part of the
input, so a third parameter, `relief` [°C], spreads the layers' temperatures evenly around the mean.
"""
from dataclasses import dataclass

import numpy as np

LAYERS = 5
MELT_MINIMUM = 0.1
# Temperatures between which the solid share of precipitation falls from 1 to 0 (°C).
ALL_SOLID, ALL_LIQUID = -1.0, 3.0


@dataclass
class Pack:
    """water (columns, LAYERS) [mm] and thermal (columns, LAYERS) [°C, <= 0]."""

    water: np.ndarray
    thermal: np.ndarray

    def take(self, rows):
        """The pack of the columns `rows`, copied."""
        return Pack(self.water[rows].copy(), self.thermal[rows].copy())

    def repeat(self, times):
        """Each column `times` times in a row."""
        return Pack(np.repeat(self.water, times, axis=0), np.repeat(self.thermal, times, axis=0))


def empty_pack(columns):
    """No snow and a pack at 0 °C."""
    return Pack(np.zeros((columns, LAYERS)), np.zeros((columns, LAYERS)))


def solid_share(temperature):
    """Share of precipitation that falls as snow, any shape in [°C], out in 0..1."""
    return np.clip((ALL_LIQUID - temperature) / (ALL_LIQUID - ALL_SOLID), 0.0, 1.0)


def annual_solid(rain, temperature):
    """Mean solid precipitation per year [mm] of the daily arrays (steps,)."""
    return float(365.25 * np.mean(rain * solid_share(temperature)))


def step(pack, params, threshold_scale, rain, temperature):
    """Advances `pack` in place by one day; returns liquid water (columns,) [mm/day].

    params (columns, 3): thermal inertia, melt factor, relief. threshold_scale [mm] is the mean annual
    solid precipitation, of which 90% makes full snow cover. rain, temperature broadcast to (columns,).
    """
    inertia, factor, relief = params[:, :1], params[:, 1:2], params[:, 2:3]
    layer_temperature = np.reshape(temperature, (-1, 1)) + relief * np.linspace(1.0, -1.0, LAYERS)
    rain = np.reshape(rain, (-1, 1))
    solid = rain * solid_share(layer_temperature)
    water = pack.water + solid
    thermal = np.minimum(inertia * pack.thermal + (1.0 - inertia) * layer_temperature, 0.0)
    melting = (thermal == 0.0) & (layer_temperature > 0.0)
    potential = np.where(melting, np.minimum(factor * np.maximum(layer_temperature, 0.0), water), 0.0)
    cover = np.minimum(water / max(0.9 * threshold_scale, 1.0), 1.0)
    melt = ((1.0 - MELT_MINIMUM) * cover + MELT_MINIMUM) * potential
    pack.water = water - melt
    pack.thermal = thermal
    return np.mean(rain - solid + melt, axis=1)
