"""Observations and forecasts with two times: when a value holds and from when it was known.

Everything the features read goes through `Versions.as_of` or `Versions.windows`, which never return a
value whose `known_at` is later than the issue time. A time step is a whole number, its *cell*:
cell c covers [phase + c * step, phase + (c + 1) * step) in seconds since 1970, UTC.
"""
import csv
import io
from datetime import datetime, timezone

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from configuration import InputError

COLUMNS = ("site", "series", "at", "known_at", "value")
NEVER = np.int64(2 ** 62)
FOREVER = np.int64(-(2 ** 62))


def parse_instants(texts, what):
    """ISO instants (n,) as int64 seconds since 1970 UTC; an instant without an offset is UTC."""
    try:
        plain = [t[:-1] if t.endswith("Z") else t for t in texts]
        # The fast path reads only instants without an offset: a "+" or a late "-" is an offset.
        if any("+" in t or "-" in t[10:] for t in plain):
            raise ValueError
        return np.array(plain, dtype="datetime64[s]").astype(np.int64)
    except ValueError:
        return np.array([_parse_slowly(t, what) for t in texts], dtype=np.int64)


def _parse_slowly(text, what):
    try:
        instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InputError(f"{what}: {text!r} is not an ISO instant such as 2024-01-31T06:00:00Z") from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=timezone.utc)
    return int(instant.timestamp())


def format_instant(seconds):
    """ISO text in UTC of seconds since 1970."""
    return str(np.datetime64(int(seconds), "s")) + "Z"


class Records:
    """Rows of the input as arrays (n,): site, series as text; at, known as seconds; value as float."""

    def __init__(self, site, series, at, known, value):
        self.site, self.series = np.asarray(site), np.asarray(series)
        self.at, self.known, self.value = at, known, value

    def sites(self):
        """Names of the sites, sorted."""
        return [str(s) for s in np.unique(self.site)]

    def take(self, mask):
        """The rows where `mask` holds."""
        return Records(self.site[mask], self.series[mask], self.at[mask], self.known[mask],
                       self.value[mask])


def records_of_columns(columns):
    """Records of a mapping from column name to a list of texts (values may be numbers or None)."""
    missing = [c for c in COLUMNS if c not in columns]
    if missing:
        raise InputError(f"the input lacks the column(s) {', '.join(missing)}; needed: {', '.join(COLUMNS)}")
    sizes = {len(columns[c]) for c in COLUMNS}
    if len(sizes) != 1:
        raise InputError("the columns of the input differ in length")
    if sizes == {0}:
        raise InputError("the input has no rows")
    value = np.array([_number(v, i) for i, v in enumerate(columns["value"])])
    return Records(columns["site"], columns["series"], parse_instants(columns["at"], "at"),
                   parse_instants(columns["known_at"], "known_at"), value)


def _number(text, row):
    if text is None or text == "":
        return np.nan
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InputError(f"row {row + 1}: the value {text!r} is not a number") from None


def read_csv(text):
    """Columns of a CSV text as a mapping from header to a list of texts."""
    rows = csv.reader(io.StringIO(text))
    header = [h.strip().lstrip("\ufeff") for h in next(rows, [])]
    body = [r for r in rows if r]
    short = next((i for i, r in enumerate(body) if len(r) != len(header)), None)
    if short is not None:
        raise InputError(f"line {short + 2} has {len(body[short])} fields, the header {len(header)}")
    return {h: [r[i] for r in body] for i, h in enumerate(header)}


def read_files(paths):
    """Records of several CSV files, joined."""
    columns = {c: [] for c in COLUMNS}
    for path in paths:
        with open(path, newline="", encoding="utf-8") as file:
            part = read_csv(file.read())
        for name in COLUMNS:
            if name not in part:
                raise InputError(f"{path}: lacks the column {name}; needed: {', '.join(COLUMNS)}")
            columns[name].extend(part[name])
    return records_of_columns(columns)


class Clock:
    """Turns instants into cells. phase [s] is the start of cell 0 after 1970; slack [s] is 3600 where
    days start at local midnight, so at two times of the day in UTC; offset [s] is how long after the end
    of a cell forecasts are issued that have it as their last one."""

    def __init__(self, step, phase, slack=0, offset=0):
        self.step, self.phase, self.slack, self.offset = int(step), int(phase), int(slack), int(offset)

    @staticmethod
    def of(at, step, offset=0):
        """The clock on whose cells most of the starts `at` (n,) lie."""
        values, counts = np.unique(np.asarray(at) % step, return_counts=True)
        slack = 3600 if step % 86400 == 0 and len(values) > 1 else 0
        return Clock(step, values[np.argmax(counts)], slack, offset)

    def cells(self, at):
        """Cells (n,) of starts. Rounded, since days of local time start an hour apart in summer."""
        return (np.asarray(at) - self.phase + self.step // 2) // self.step

    def off_grid(self, at):
        """True (n,) for starts that lie on no cell, but for the slack of local days."""
        return np.abs(np.asarray(at) - self.start(self.cells(at))) > self.slack

    def start(self, cells):
        """Start of each cell in seconds since 1970."""
        return self.phase + np.asarray(cells) * self.step

    def issue(self, cells):
        """When the forecasts after each cell are issued, in seconds since 1970."""
        return self.start(np.asarray(cells) + 1) + self.offset

    def last_complete(self, instants):
        """The last cell (n,) that has ended at each instant."""
        return (np.asarray(instants) + self.slack - self.phase) // self.step - 1


class Versions:
    """All versions of one series of one site, looked up by cell and issue time."""

    def __init__(self, clock, at, known, value):
        self.clock = clock
        cells = clock.cells(at)
        order = np.lexsort((np.arange(len(at)), known, cells))
        cells, known, value = cells[order], np.asarray(known)[order], np.asarray(value, float)[order]
        # Of two rows with equal cell and known_at the later in the file counts.
        last = np.ones(len(cells), bool)
        last[:-1] = (cells[1:] != cells[:-1]) | (known[1:] != known[:-1])
        self.cell, self.known, self.value = cells[last], known[last], value[last]
        self.known0 = int(self.known.min()) if len(self.known) else 0
        self.cell0 = int(self.cell.min()) if len(self.cell) else 0
        self.keys = self._key(self.cell, self.known)

    def _key(self, cells, known):
        # One sortable number per (cell, known): 34 bits of seconds cover 540 years.
        seconds = np.clip(np.asarray(known) - self.known0 + 1, 0, 2 ** 34 - 1)
        return (np.asarray(cells) - self.cell0).astype(np.int64) * 2 ** 34 + seconds

    @property
    def last_cell(self):
        """The last cell that has a row at all."""
        return int(self.cell[-1]) if len(self.cell) else -1

    def as_of(self, cells, instants):
        """Values of `cells` as known at `instants` (broadcast), NaN where nothing was known."""
        cells, instants = np.broadcast_arrays(cells, instants)
        if not len(self.cell):
            return np.full(cells.shape, np.nan)
        place = np.searchsorted(self.keys, self._key(cells, instants), side="right") - 1
        found = (place >= 0) & (self.cell[np.maximum(place, 0)] == cells)
        return np.where(found, self.value[np.maximum(place, 0)], np.nan)

    def latest(self, first, last):
        """Newest values of the cells first..last, for use as truth, never as a feature."""
        cells = np.arange(first, last + 1)
        return self.as_of(cells, np.full(len(cells), 2 ** 33, np.int64))

    def settle(self, first, last, width):
        """Prepares `windows` over the cells first..last.

        base holds for each cell the version known at the end of its step (a forecast of the step that
        was replaced before counts no more), or else the first one after, if it came within `width`
        steps. An issue time is plain where its whole window equals base. Plainness is decided by
        known_at alone, so it cannot depend on a value that came later.
        """
        self.width, self.first = width, first - width + 1
        n = last - self.first + 1
        self.base = np.full(n, np.nan)
        born, revised = np.full(n, FOREVER), np.full(n, NEVER)
        end = self.clock.start(self.cell + 1)
        same = np.append(self.cell[1:] == self.cell[:-1], False)[:len(self.cell)]
        after = np.append(self.known[1:], NEVER)[:len(self.cell)]
        in_time = (self.known <= end) & ~(same & (after <= end))
        first_row = np.append(True, self.cell[1:] != self.cell[:-1])[:len(self.cell)]
        chosen = in_time | (first_row & (self.known > end))
        chosen &= (self.cell >= self.first) & (self.cell <= last)
        place = self.cell[chosen] - self.first
        born[place] = self.known[chosen]
        revised[place] = np.where(same[chosen], after[chosen], NEVER)
        soon = self.known[chosen] <= self.clock.start(self.cell[chosen] + width)
        self.base[place] = np.where(soon, self.value[chosen], np.nan)
        origin = (width - 1) // 2
        self.last_born = maximum_filter1d(born, width, origin=origin, mode="constant", cval=int(FOREVER))
        self.first_revised = minimum_filter1d(revised, width, origin=origin, mode="constant",
                                              cval=int(NEVER))

    def plain(self, cells, instants):
        """True (n,) where the window ending at `cells` is the same as in base at `instants`."""
        place = cells - self.first
        return (self.last_born[place] <= instants) & (self.first_revised[place] > instants)

    def windows(self, cells, instants):
        """Values (n, width) of the cells up to and including `cells`, as known at `instants`."""
        view = sliding_window_view(self.base, self.width)
        out = view[cells - self.first - self.width + 1]
        other = ~self.plain(cells, instants)
        if other.any():
            span = cells[other][:, None] + np.arange(1 - self.width, 1)
            out[other] = self.as_of(span, instants[other][:, None])
        return out


def versions_of(records, site, series, clock):
    """Versions of one series; an error where rows lie off the grid, none at all gives an empty one."""
    mask = (records.site == site) & (records.series == series)
    at = records.at[mask]
    off = clock.off_grid(at)
    if off.any():
        raise InputError(f"site {site}, series {series}: {int(off.sum())} row(s) off the {clock.step} s grid, "
                         f"the first at {format_instant(at[off][0])}")
    return Versions(clock, at, records.known[mask], records.value[mask])
