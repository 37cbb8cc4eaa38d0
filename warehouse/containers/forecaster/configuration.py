"""Settings of a forecaster, read from SageMaker hyperparameters (all strings) and kept in the model."""
import argparse
import re
from dataclasses import asdict, dataclass, field

UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


class InputError(ValueError):
    """The input cannot be used; the message names the site, the series and what is missing."""


@dataclass
class Configuration:
    """step in seconds; horizons in steps; capacity in units of the target; seeds and counts plain."""

    target: str = "flow"
    step: int = 86400
    horizons: list = field(default_factory=lambda: list(range(1, 8)))
    quantiles: list = field(default_factory=lambda: [0.1, 0.5, 0.9])
    kind: str = "hydro"
    rain: str = "rain"
    temperature: str = "temperature"
    evaporation: str = "pet"
    ahead: list = field(default_factory=list)
    weather_ahead: bool = False
    covariates: list = field(default_factory=list)
    nonnegative: bool = True
    capacity: float = 0.0
    timezone: str = "Europe/Paris"
    stale_steps: int = 3
    issue_offset: int = 0
    threads: int = 1
    seed: int = 1
    folds: int = 5

    def as_dict(self):
        """Plain values for the model's JSON."""
        return asdict(self)

    @property
    def hydro(self):
        """True where the rainfall-runoff features are wanted."""
        return self.kind == "hydro"

    @property
    def steps_per_day(self):
        """Steps in a day, 0 where the step does not divide a day."""
        return 86400 // self.step if 86400 % self.step == 0 else 0


def parse_step(text):
    """Seconds of a step such as `1d`, `10min`, `1h`, `PT10M` or `900`."""
    iso = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", text)
    if iso and any(iso.groups()):
        return sum(int(v or 0) * u for v, u in zip(iso.groups(), (86400, 3600, 60, 1)))
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip())
    if not match or match.group(2) not in {"": 1, **UNITS} or int(match.group(1)) == 0:
        raise InputError(f"--step {text!r}: write a count and a unit, such as 10min, 1h or 1d")
    return int(match.group(1)) * UNITS.get(match.group(2), 1)


def parse_range(text):
    """Horizons of `1-7`, `1,3,5` or `1-6,12`, ascending and unique."""
    out = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise InputError(f"--horizons {text!r}: write whole steps, such as 1-7 or 1,3,5")
        out.update(range(int(first), int(last or first) + 1))
    if not out or min(out) < 1:
        raise InputError(f"--horizons {text!r}: at least one step, from 1")
    return sorted(out)


def parse_list(text):
    """The non-empty parts of a comma-separated list."""
    return [p.strip() for p in text.split(",") if p.strip()]


def parse_quantiles(text):
    """Levels strictly between 0 and 1, ascending."""
    out = sorted({float(p) for p in parse_list(text)})
    if not out or out[0] <= 0 or out[-1] >= 1:
        raise InputError(f"--quantiles {text!r}: write levels between 0 and 1, such as 0.1,0.5,0.9")
    return out


def parse_bool(text):
    """True for true, yes, 1, on."""
    return str(text).strip().lower() in ("true", "yes", "1", "on")


def add_arguments(parser):
    """Declares the hyperparameters on an argparse parser."""
    default = Configuration()
    parser.add_argument("--target", default=default.target)
    parser.add_argument("--step", default="1d")
    parser.add_argument("--horizons", default="1-7")
    parser.add_argument("--quantiles", default="0.1,0.5,0.9")
    parser.add_argument("--kind", default="hydro", choices=["hydro", "generic"])
    parser.add_argument("--rain", default=default.rain)
    parser.add_argument("--temperature", default=default.temperature)
    parser.add_argument("--evaporation", default=default.evaporation)
    parser.add_argument("--covariates", default="", help="other series whose past values are features")
    parser.add_argument("--ahead", default="", help="series with values for the future, known at issue time")
    parser.add_argument("--weather-ahead", default="false", help="whether weather known for days ahead is used")
    parser.add_argument("--nonnegative", default="true")
    parser.add_argument("--capacity", default="", help="upper bound of the target, in its unit")
    parser.add_argument("--timezone", default=default.timezone)
    parser.add_argument("--issue-offset", default="", help="how long after the end of a step forecasts are issued")
    parser.add_argument("--stale-steps", default=str(default.stale_steps))
    parser.add_argument("--threads", default="1")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--folds", default=str(default.folds))


def from_arguments(args: argparse.Namespace):
    """A Configuration of parsed hyperparameters."""
    return Configuration(
        target=args.target, step=parse_step(args.step), horizons=parse_range(args.horizons),
        quantiles=parse_quantiles(args.quantiles), kind=args.kind, rain=args.rain,
        temperature=args.temperature, evaporation=args.evaporation, ahead=parse_list(args.ahead),
        weather_ahead=parse_bool(args.weather_ahead),
        covariates=parse_list(args.covariates), nonnegative=parse_bool(args.nonnegative),
        capacity=float(args.capacity or 0), timezone=args.timezone, stale_steps=int(args.stale_steps),
        issue_offset=parse_step(args.issue_offset) if args.issue_offset else 0,
        threads=int(args.threads), seed=int(args.seed), folds=int(args.folds))
