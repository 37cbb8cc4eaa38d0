"""Calendar of local time for cells."""
from datetime import datetime, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from configuration import InputError


def offsets(instants, name):
    """Seconds (n,) to add to UTC instants (n,) [s] for local time in the zone `name`."""
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f"--timezone {name!r} is not a known time zone") from None
    # Offsets change on whole hours, so one look-up per hour is enough.
    hours, place = np.unique(np.asarray(instants) // 3600, return_inverse=True)
    found = [datetime.fromtimestamp(int(h) * 3600, timezone.utc).astimezone(zone).utcoffset().total_seconds()
             for h in hours]
    return np.array(found, np.int64)[place.reshape(np.shape(instants))]


class Calendar:
    """Local time of instants (n,): day_of_year and hour as fractions (of year, of day), weekday 0..6."""

    def __init__(self, instants, name):
        local = np.asarray(instants) + offsets(instants, name)
        days = local // 86400
        year = days.astype("datetime64[D]").astype("datetime64[Y]")
        self.day_of_year = (days - year.astype("datetime64[D]").astype(np.int64)) / 365.25
        self.hour = (local % 86400) / 86400.0
        self.weekday = (days + 3) % 7
