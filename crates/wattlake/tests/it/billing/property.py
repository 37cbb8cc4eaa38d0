#!/usr/bin/env python3
"""Property test of the billing flow: what goes out equals an independent calculation, or a control names why not.

Each sequence is made from a seed: a new warehouse of the example (`wattlake init --billing`), random contracts, prices,
meters and producers' files, and a random order of arrivals, corrections, jobs, kills and reruns. Whenever the register of
statements has grown, the new statements are compared with amounts that this program calculates from the files that had
arrived, in exact fractions, by the rules of docs/billing.md. At the end the whole chain is run again, and then each
producer's month must be issued with these amounts, line by line, or be held back by a control that the facts explain.

    billing_property.py --wattlake target/debug/wattlake --work /tmp/property --seed 1 --sequences 30

The facts and the steps of a seed are always the same; at which instruction a kill hits depends on the machine. R with its
packages data.table and jsonlite must be installed, as for the example. Exit code 1: a sequence failed; its folder is kept.
"""

import argparse
import collections
import csv
import dataclasses
import datetime
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
QUARTER = 900
HOUR = 3600
STEP_NAMES = {900: "PT15M", 1800: "PT30M", 3600: "PT60M"}
OPERATOR = ("DSO_CORRECTED", "DSO_RAW")
MARKET_KINDS = ("SPOT_PASSTHROUGH", "M0_MINUS_FEE", "FIXED_PPA")
TARIFF_KINDS = ("FIXED_PPA", "OA", "CR")
FEES = ("fee", "fee_power")


# ---------------------------------------------------------------------------------------------------- time and money


def midnight(day):
    """The first instant of a local day, in seconds since 1970."""
    return int(datetime.datetime(day.year, day.month, day.day, tzinfo=PARIS).timestamp())


def local(instant):
    return datetime.datetime.fromtimestamp(instant, PARIS)


def utc_text(instant):
    return datetime.datetime.fromtimestamp(instant, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Month:
    def __init__(self, text):
        year, month = map(int, text.split("-"))
        self.text, self.year = text, year
        self.first_day = datetime.date(year, month, 1)
        self.day_after = datetime.date(year + month // 12, month % 12 + 1, 1)
        self.begins, self.ends = midnight(self.first_day), midnight(self.day_after)
        self.days = (self.day_after - self.first_day).days
        self.days_of_year = (datetime.date(year + 1, 1, 1) - datetime.date(year, 1, 1)).days
        self.year_begins = midnight(datetime.date(year, 1, 1))
        self.settlement_step = 900 if text >= "2025-01" else 1800
        self.day_ahead_step = 900 if text >= "2025-10" else 3600
        self.step = min(self.settlement_step, self.day_ahead_step)
        self.hours_have_a_mean = text >= "2025-10"

    def day(self, number):
        return self.first_day + datetime.timedelta(days=number)


def rounded(value, digits=0):
    """Rounds half away from zero: docs/billing.md, "Amounts"."""
    scaled = abs(Fraction(value)) * 10**digits
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if value >= 0 else -whole, 10**digits)


def number(text):
    return Fraction(text) if text else None


# ------------------------------------------------------------------------------------------------------------- files


@dataclasses.dataclass(frozen=True)
class File:
    """A file as its sender writes it. `fault`: why its layout must quarantine it."""

    kind: str
    name: str
    data: bytes
    rows: tuple
    fault: str = ""
    producer: str = ""
    month: str = ""

    @property
    def path(self):
        return ("production/" if self.kind == "production" else "reference/") + self.name


CONTRACT_COLUMNS = (
    "contract_id producer_id producer siret vat_number address postcode city iban site_id site technology prm perimeter "
    "pmax_kw kind valid_from valid_to price_eur_mwh fee_eur_mwh fee_eur_mw_month management_premium_eur_mwh nbcapa_mw "
    "imbalance_share go_eur_mwh negative_premium cap_mwh_year cap_mwh_life vat vat_rate_pct fee_vat fee_vat_rate_pct known_at"
).split()
PRICE_COLUMNS = ["series", "starts_at", "step", "price", "known_at"]
METER_COLUMNS = ["prm", "source", "starts_at", "step", "energy_wh", "withdrawal_wh", "quality", "known_at"]
PRECEDENCE_COLUMNS = ["kind", "source", "rank", "valid_from", "valid_to", "known_at"]
PRODUCTION_HEADER = (
    "schema_version;producteur_id;contrat_id;site_id;prm;mois;horodate_debut;pas;energie_injectee_kwh;"
    "energie_soutiree_auxiliaires_kwh;disponibilite_pct;code_evenement;source;statut;commentaire"
)

Price = collections.namedtuple("Price", "series start step price known_at")
Meter = collections.namedtuple("Meter", "prm source start step energy withdrawal quality known_at")
Rank = collections.namedtuple("Rank", "kind source rank known_at")
Declared = collections.namedtuple("Declared", "contract prm start step energy aux")


def csv_bytes(columns, rows):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue().encode()


def contracts_file(rows):
    rows = tuple(dict(row) for row in rows)
    return File(
        "contracts",
        "contracts.csv",
        csv_bytes(CONTRACT_COLUMNS, [[r[c] for c in CONTRACT_COLUMNS] for r in rows]),
        rows,
    )


def prices_file(name, rows, decimal_comma=False):
    def cells(row):
        price = row.price.replace(".", ",") if decimal_comma else row.price
        return [row.series, utc_text(row.start), STEP_NAMES.get(row.step, row.step), price, row.known_at]

    fault = "decimal mark" if decimal_comma else ""
    return File("prices", name, csv_bytes(PRICE_COLUMNS, map(cells, rows)), tuple(rows), fault)


def meters_file(name, rows):
    def cells(row):
        values = ["" if value is None else value for value in (row.energy, row.withdrawal)]
        return [row.prm, row.source, utc_text(row.start), STEP_NAMES[row.step], *values, row.quality, row.known_at]

    return File("meters", name, csv_bytes(METER_COLUMNS, map(cells, rows)), tuple(rows))


def precedence_file(rows):
    cells = [[row.kind, row.source, row.rank, "2020-01-01", "", row.known_at] for row in rows]
    return File("precedence", "precedence.csv", csv_bytes(PRECEDENCE_COLUMNS, cells), tuple(rows))


def kwh(wh):
    return (f"{wh // 1000},{wh % 1000:03d}".rstrip("0").rstrip(",")) if wh % 1000 else str(wh // 1000)


def production_file(name, producer, month, rows, rng, fault=""):
    """A producer's file, in one of the forms that are allowed, or with a fault that its layout must find."""
    total = sum(row.energy for row in rows)
    lines = []
    for row in rows:
        at = local(row.start).isoformat()
        lines.append(
            f"1;{producer};{row.contract};S-{row.prm[-3:]};{row.prm};{month};{at};{STEP_NAMES[row.step]};"
            f"{kwh(row.energy)};{kwh(row.aux)};100,0;;COMPTEUR;DEFINITIF;relevé"
        )
    written = len(lines)
    if fault == "total":
        total += 1
    elif fault == "decimal mark":
        cells = lines[-1].split(";")
        lines[-1] = ";".join(cells[:8] + ["0.5"] + cells[9:])
    elif fault == "gap":
        removed = rows[written // 2]
        del lines[written // 2]
        written, total = written - 1, total - removed.energy
    end = rng.choice(["\n", "\r\n"])
    text = end.join([PRODUCTION_HEADER, *lines, f"#TOTAL;{written};{kwh(total)}", ""])
    data = text.encode(rng.choice(["utf-8", "utf-8-sig", "latin-1"]))
    return File("production", name, data, tuple(rows), fault, producer, month)


# -------------------------------------------------------------------------------------------- what is known, and when


class Facts:
    """What the accepted files say, each row with the order in which it came."""

    def __init__(self):
        self.arrivals = 0
        self.contracts = collections.defaultdict(list)
        self.prices = collections.defaultdict(list)
        self.meters = collections.defaultdict(list)
        self.ranks = collections.defaultdict(list)
        # Files of producers in the order of their arrival, also those in quarantine.
        self.production = []
        self.reference_verdicts = {}

    def arrive(self, file):
        self.arrivals += 1
        if file.kind == "production":
            self.production.append(file)
            return
        self.reference_verdicts[file.kind, file.name] = file.fault
        if file.fault:
            return
        for row in file.rows:
            if file.kind == "contracts":
                key, table, known_at = (
                    (row["contract_id"], row["prm"], row["valid_from"]),
                    self.contracts,
                    row["known_at"],
                )
            elif file.kind == "prices":
                key, table, known_at = (
                    (row.series, row.start, row.step in ("P1M", "P1Y") and row.step),
                    self.prices,
                    row.known_at,
                )
            elif file.kind == "meters":
                key, table, known_at = (row.prm, row.source, row.start), self.meters, row.known_at
            else:
                key, table, known_at = (row.kind, row.source), self.ranks, row.known_at
            table[key].append((known_at, self.arrivals, row, file.name))

    @staticmethod
    def last(entries):
        """Of each key the row that its source knew last, and of these the one that came last."""
        return max(entries, key=lambda entry: entry[:2])[2]

    def contracts_in_force(self):
        rows = (self.last(entries) for entries in self.contracts.values())
        return sorted(
            (row for row in rows if row["valid_to"] != row["valid_from"]),
            key=lambda row: (row["contract_id"], row["prm"], row["valid_from"]),
        )

    def price(self, series, start, period=False):
        entries = self.prices.get((series, start, period))
        return self.last(entries) if entries else None

    def counted_file(self, producer, prm, month):
        """Of each metering point's month the producer's file that arrived last counts, under whatever name."""
        for file in reversed(self.production):
            if (
                not file.fault
                and (file.producer, file.month) == (producer, month)
                and any(r.prm == prm for r in file.rows)
            ):
                return file
        return None


class Source:
    """The folder from which files are fetched, and which of them the ingests have seen."""

    def __init__(self, folder, facts):
        self.folder, self.facts = folder, facts
        self.files, self.seen = {}, {}
        self.written = 0

    def write(self, file, seconds_ago):
        path = self.folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        # An ingest leaves a file alone that changed just now. The fraction keeps any two files apart.
        self.written += 1
        modified = time.time() - 100_000 - seconds_ago + self.written / 1000
        os.utime(path, (modified, modified))
        self.files[file.path] = (modified, file)

    def ingested(self, kind):
        """An ingest has looked: of files that are found together, the one that was written last arrives last."""
        found = [
            (at, file)
            for at, file in self.files.values()
            if file.kind == kind and self.seen.get(file.path) != file.data
        ]
        for _, file in sorted(found, key=lambda item: item[0]):
            self.seen[file.path] = file.data
            self.facts.arrive(file)
        return len(found)


# ----------------------------------------------------------------------------------------- the independent calculation

Line = collections.namedtuple("Line", "rule quantity price amount vat rate")
Reason = collections.namedtuple("Reason", "producer controls why sure", defaults=[True])


class Incomplete(Exception):
    """A contract that can't be billed."""


class PriceMissing(Exception):
    """An error of the run."""


@dataclasses.dataclass
class Version:
    """A version of a contract for a metering point, and its days in the month."""

    row: dict
    first_day: datetime.date
    day_after: datetime.date

    def __getattr__(self, name):
        return self.row[name]

    @property
    def days(self):
        return (self.day_after - self.first_day).days

    @property
    def begins(self):
        return midnight(self.first_day)

    @property
    def ends(self):
        return midnight(self.day_after)

    def term(self, name):
        return number(self.row[name])

    def needed(self, name):
        if self.term(name) is None:
            raise Incomplete(f"{name} is missing")
        return self.term(name)


class Oracle:
    """A month's bills by docs/billing.md, from the facts, and the reasons for which a bill is held back."""

    def __init__(self, facts, month, mistake=0):
        self.facts, self.month, self.mistake = facts, month, mistake
        self.series = {}
        self.versions = self.versions_of_the_month()
        self.bills, self.incomplete, self.price_missing = {}, {}, None
        self.from_operator, self.energy = collections.Counter(), collections.Counter()
        for key, versions in self.by_contract().items():
            try:
                self.bills[key] = self.bill(versions)
            except Incomplete as why:
                self.incomplete[key] = str(why)
            except PriceMissing as why:
                self.price_missing = str(why)

    def versions_of_the_month(self):
        versions = []
        for row in self.facts.contracts_in_force():
            first = max(datetime.date.fromisoformat(row["valid_from"]), self.month.first_day)
            after = min(datetime.date.fromisoformat(row["valid_to"] or "9999-12-31"), self.month.day_after)
            if first < after:
                versions.append(Version(row, first, after))
        return versions

    def by_contract(self):
        contracts = collections.defaultdict(list)
        for version in self.versions:
            contracts[version.producer_id, version.contract_id].append(version)
        return contracts

    # Energy.

    def readings(self, producer, prm, source):
        """The values of a source, as (start, step, energy, withdrawal); energy is None where it is invalid or missing."""
        if source == "PRODUCER_DECLARED":
            file = self.facts.counted_file(producer, prm, self.month.text)
            return [(r.start, r.step, r.energy, r.aux) for r in file.rows if r.prm == prm] if file else []
        rows = (self.facts.last(entries) for (p, s, _), entries in self.facts.meters.items() if (p, s) == (prm, source))
        valid = lambda row: row.quality not in ("invalid", "missing") and row.energy is not None
        return [(r.start, r.step, r.energy if valid(r) else None, r.withdrawal) for r in rows]

    def by_step(self, producer, prm, source):
        """The values of a source for the month's steps: longer ones are divided, shorter ones added up, exact to the Wh."""
        key = (producer if source == "PRODUCER_DECLARED" else None, prm, source)
        if key not in self.series:
            values, parts = {}, collections.defaultdict(list)
            for start, step, energy, withdrawal in self.readings(producer, prm, source):
                if energy is None:
                    continue
                if step >= self.month.step:
                    count = step // self.month.step
                    assert energy % count == 0 and (withdrawal or 0) % count == 0, (
                        "the generator keeps to parts without remainder"
                    )
                    for part in range(count):
                        values[start + part * self.month.step] = (energy // count, withdrawal and withdrawal // count)
                else:
                    parts[start - start % self.month.step].append((step, energy, withdrawal))
            for start, found in parts.items():
                if sum(step for step, _, _ in found) == self.month.step:
                    withdrawals = [withdrawal for _, _, withdrawal in found]
                    values[start] = (sum(e for _, e, _ in found), None if None in withdrawals else sum(withdrawals))
            self.series[key] = values
        return self.series[key]

    def sources(self, kind):
        """A rank of the contract's kind stands in place of one for all."""
        ranks = {}
        for wanted in ("*", kind):
            for (of_kind, source), entries in self.facts.ranks.items():
                if of_kind == wanted:
                    ranks[source] = int(self.facts.last(entries).rank)
        return sorted(ranks, key=ranks.get)

    def energies(self, version):
        """Of each step the energy of the first source that has a valid value, and the first auxiliaries that one has."""
        sources = [(s, self.by_step(version.producer_id, version.prm, s)) for s in self.sources(version.kind)]
        found = {}
        for start in range(version.begins, version.ends, self.month.step):
            values = [(source, *values[start]) for source, values in sources if start in values]
            if not values:
                raise Incomplete(f"{version.prm} has no energy at {utc_text(start)}")
            source, energy, _ = values[0]
            withdrawals = [withdrawal for _, _, withdrawal in values if withdrawal is not None]
            if version.kind == "CR" and not withdrawals:
                raise Incomplete(f"no source says what the auxiliaries of {version.prm} took at {utc_text(start)}")
            found[start] = (energy, withdrawals[0] if withdrawals else 0)
            self.from_operator[version.producer_id, version.contract_id, version.prm] += source in OPERATOR
            self.energy[version.producer_id, version.contract_id, version.prm, local(start).date().isoformat()] += (
                energy
            )
        return found

    # Prices.

    def step_price(self, series, start, step):
        start -= start % step
        found = self.facts.price(series, start)
        if found is None or found.step != step:
            raise PriceMissing(f"{series} at {utc_text(start)}")
        return Fraction(found.price) + Fraction(self.mistake, 10_000)

    def day_ahead(self, start):
        return self.step_price("DAY_AHEAD_FR", start, self.month.day_ahead_step)

    def price_of_hour(self, hour):
        """For CR hours count: since 2025-10-01 at the mean of their quarters to two decimals."""
        if not self.month.hours_have_a_mean:
            return self.day_ahead(hour)
        return rounded(sum(self.day_ahead(hour + part * QUARTER) for part in range(4)) / 4, 2)

    def reference_price(self, version, of_year=False):
        series = "M0_" + version.technology.upper()
        if of_year:
            found = self.facts.price(series, self.month.year_begins, "P1Y")
            if found:
                return Fraction(found.price)
        found = self.facts.price(series, self.month.begins, "P1M")
        if found is None:
            raise Incomplete(f"{series} is not published")
        return Fraction(found.price)

    # Lines.

    def bill(self, versions):
        """The lines of a contract by metering point, version and rule."""
        lines = {}
        points = collections.defaultdict(list)
        for version in versions:
            points[version.prm].append(version)
        self.check_overlaps(points)
        for prm, of_point in points.items():
            paid = 0
            for version in of_point:
                for line in self.lines(version, paid):
                    lines[prm, version.valid_from, line.rule] = line
                    paid += line.quantity if line.rule == "cr" else 0
        return lines

    @staticmethod
    def check_overlaps(points):
        for of_point in points.values():
            for one, another in zip(of_point, of_point[1:]):
                if another.first_day < one.day_after:
                    raise Incomplete("versions overlap")

    def lines(self, version, paid):
        energies = self.energies(version)
        made = []

        def line(rule, quantity, price, amount):
            vat, rate = version.vat, version.vat_rate_pct
            if rule in FEES and version.fee_vat:
                vat, rate = version.fee_vat, version.fee_vat_rate_pct
            if rule == "guarantee_of_origin" and vat == "standard":
                vat = "reverse_charge"
            rate = Fraction(rate) if vat == "standard" else Fraction(0)
            made.append(Line(rule, quantity, price, rounded(amount, 2), vat, rate))

        def per_mwh(rule, energy, price):
            price += Fraction(self.mistake, 10_000)
            line(rule, energy, price, Fraction(energy, 10**6) * price)

        if version.kind == "CR":
            self.complement(version, energies, paid, line, per_mwh)
            return made
        energy = sum(e for e, _ in energies.values())
        if version.kind == "SPOT_PASSTHROUGH":
            line("spot", energy, None, sum(e * self.day_ahead(at) for at, (e, _) in energies.items()) / 10**6)
        elif version.kind == "M0_MINUS_FEE":
            per_mwh("m0", energy, self.reference_price(version))
        else:
            per_mwh("ppa" if version.kind == "FIXED_PPA" else "oa", energy, version.needed("price_eur_mwh"))
        if version.kind in MARKET_KINDS:
            self.market_terms(version, energies, energy, line, per_mwh)
        return made

    def market_terms(self, version, energies, energy, line, per_mwh):
        fee = version.term("fee_eur_mwh") if version.kind == "FIXED_PPA" else version.needed("fee_eur_mwh")
        # A fee of nothing makes no line.
        if fee:
            per_mwh("fee", energy, -fee)
        fee = version.term("fee_eur_mw_month")
        if fee:
            share = Fraction(version.days, self.month.days)
            line("fee_power", int(version.term("pmax_kw") * 1000), -fee, -version.term("pmax_kw") / 1000 * fee * share)
        share = version.term("imbalance_share")
        if share:
            forecast = self.by_step(version.producer_id, version.prm, "FORECAST")
            if any(start not in forecast for start in energies):
                raise Incomplete(f"{version.prm} has no forecast")
            differences = {start: e - forecast[start][0] for start, (e, _) in energies.items()}
            step = self.month.settlement_step
            amount = sum(d * self.step_price("IMBALANCE_FR", at, step) for at, d in differences.items()) / 10**6 * share
            line("imbalance", sum(differences.values()), None, amount)
        price = version.term("go_eur_mwh")
        if price:
            per_mwh("guarantee_of_origin", energy, price)

    def complement(self, version, energies, paid, line, per_mwh):
        month, tariff = self.month, version.needed("price_eur_mwh")
        premium = version.needed("management_premium_eur_mwh")
        begun, last = self.first_and_last_year(version)
        of_year = version.technology == "hydro" and month.year not in (begun, last)
        rate = tariff - self.reference_price(version, of_year)
        net, negative, injected = 0, 0, collections.Counter()
        for start, (energy, withdrawal) in energies.items():
            hour = start - start % HOUR
            injected[hour] += energy
            if self.price_of_hour(hour) >= 0:
                net += energy - withdrawal
            else:
                # The documents say "the energy injected"; like all energy of the complement it is net of auxiliaries.
                negative += energy - withdrawal
        # What is above the tariff is owed beyond the cap, too.
        caps = [version.term(name) for name in ("cap_mwh_year", "cap_mwh_life") if version.row[name]]
        capped = min([net, *(max(int(cap * 10**6) - paid, 0) for cap in caps)])
        within = capped if rate >= 0 else net
        per_mwh("cr", within, rate)
        per_mwh("cr_management", capped, premium)
        per_mwh("cr_beyond_cap", net - within, Fraction(0))
        per_mwh("cr_negative_price", negative, Fraction(0))
        capacity = version.term("nbcapa_mw")
        if capacity:
            price = self.facts.price("PREFCAPA", month.year_begins, "P1Y")
            if price is None:
                raise Incomplete("PREFCAPA is not published")
            price, share = Fraction(price.price), Fraction(version.days, month.days_of_year)
            line("cr_capacity", int(capacity * 10**6), -price, -capacity * price * share)
        if version.technology == "solar" and version.negative_premium == "yes":
            of_month = range(month.begins, month.ends, HOUR)
            if month.text >= "2025-10" and any(8 <= local(h).hour < 20 and self.price_of_hour(h) < 0 for h in of_month):
                raise Incomplete("the premium follows the order of 8 September 2025")
            hours = self.premium_hours(version, injected)
            share = Fraction(1, 2) * version.term("pmax_kw") / 1000 * tariff
            line("cr_negative_premium", hours * HOUR, tariff, share * hours)

    def first_and_last_year(self, version):
        """Of the whole contract, whatever its versions."""
        rows = [r for r in self.facts.contracts_in_force() if r["contract_id"] == version.contract_id]
        ends = [r["valid_to"] for r in rows]
        last = None if "" in ends else (datetime.date.fromisoformat(max(ends)) - datetime.timedelta(days=1)).year
        return int(min(r["valid_from"] for r in rows)[:4]), last

    def premium_hours(self, version, injected):
        """Hours from 8 to 20 h of negative price, beyond the year's first 15, in which nothing was injected."""
        # The generator has such contracts only where its first month is January, so that all prices of the year are there.
        hours = [
            hour
            for hour in range(self.month.year_begins, self.month.ends, HOUR)
            if 8 <= local(hour).hour < 20 and self.price_of_hour(hour) < 0
        ]
        return sum(version.begins <= hour < version.ends and injected[hour] == 0 for hour in hours[15:])

    # Totals of a statement.

    def statement(self, producer):
        """The amount, and the VAT: of each document, regime and rate the sum of its lines, rounded once."""
        bills = [bill for (p, _), bill in self.bills.items() if p == producer]
        bases = collections.Counter()
        for bill in bills:
            for line in bill.values():
                bases[self.document(line, bill), line.vat, line.rate] += line.amount
        amounts = (line.amount for bill in bills for line in bill.values())
        vat = (rounded(base * rate / 100, 2) for (_, _, rate), base in bases.items())
        return sum(amounts, Fraction(0)), sum(vat, Fraction(0))

    def document(self, line, bill):
        """What is outside the scope of VAT, and fees whose VAT is not that of the energy, are on documents of their own."""
        if line.vat == "none":
            return "CR"
        energy = [(other.vat, other.rate) for other in bill.values() if other.rule not in FEES]
        return "F" if line.rule in FEES and (line.vat, line.rate) not in energy else ""

    def producers(self):
        return {version.producer_id for version in self.versions}

    # Why something is held back: the table of controls in docs/billing.md.

    def reasons(self):
        found = []
        for check in (
            self.missing_prices,
            self.incomplete_contracts,
            self.quarantined_files,
            self.quarantined_reference,
            self.foreign_files,
            self.wrong_days,
            self.steps_without_contract,
            self.contracts_that_overlap,
            self.gaps_between_versions,
            self.passed_over_operator,
            self.known_twice,
            self.caps,
        ):
            found.extend(check())
        return found

    def caps(self):
        """What a cap leaves to a month depends on which months were billed, in which order."""
        for version in self.versions:
            if any(version.row[name] for name in ("cap_mwh_year", "cap_mwh_life")):
                yield Reason(version.producer_id, {"caps_used_out_of_order"}, f"{version.contract_id} has a cap", False)

    def missing_prices(self):
        kinds = {version.kind for version in self.versions}
        needed = [("DAY_AHEAD_FR", self.month.day_ahead_step)] if kinds & {"SPOT_PASSTHROUGH", "CR"} else []
        if any(version.term("imbalance_share") for version in self.versions):
            needed.append(("IMBALANCE_FR", self.month.settlement_step))
        for series, step in needed:
            prices = [self.facts.price(series, start) for start in range(self.month.begins, self.month.ends, step)]
            if any(price is None or price.step != step for price in prices):
                yield Reason(None, {"prices_complete"}, f"{series} is not complete")

    def incomplete_contracts(self):
        for (producer, contract), why in self.incomplete.items():
            yield Reason(producer, {"everyone_is_billed", "contract_terms"}, f"{contract}: {why}")

    def producers_of(self, prm):
        return {version.producer_id for version in self.versions if version.prm == prm}

    def quarantined_files(self):
        """A quarantined file whose metering points' month no accepted file has since."""
        waiting = {}
        for file in self.facts.production:
            for prm in {row.prm for row in file.rows} if file.month == self.month.text else ():
                if file.fault:
                    waiting[prm] = file.name
                else:
                    waiting.pop(prm, None)
        for prm, name in waiting.items():
            for producer in self.producers_of(prm):
                yield Reason(producer, {"files_quarantined"}, f"{name} is in quarantine")

    def quarantined_reference(self):
        for (_, name), fault in self.facts.reference_verdicts.items():
            if fault:
                yield Reason(None, {"reference_quarantined"}, f"{name} is in quarantine")

    def counted_files(self):
        keys = {
            (file.producer, row.prm)
            for file in self.facts.production
            if file.month == self.month.text
            for row in file.rows
        }
        for producer, prm in keys:
            file = self.facts.counted_file(producer, prm, self.month.text)
            if file:
                yield producer, prm, [row for row in file.rows if row.prm == prm]

    def foreign_files(self):
        """A metering point declared by somebody else: it holds back the contract's producer."""
        for producer, prm, rows in self.counted_files():
            for version in self.versions:
                if (
                    version.prm == prm
                    and version.producer_id != producer
                    and any(version.begins <= row.start < version.ends and (row.energy or row.aux) for row in rows)
                ):
                    yield Reason(version.producer_id, {"file_of_another_producer"}, f"{producer} declares {prm}")

    def wrong_days(self):
        """Declared steps that are not those of the contract's days."""
        for producer, prm, rows in self.counted_files():
            mine = [version for version in self.versions if (version.producer_id, version.prm) == (producer, prm)]
            seconds = sum(version.ends - version.begins for version in mine)
            declared = sum(sum(v.begins <= row.start < v.ends for v in mine) * row.step for row in rows)
            if mine and declared != seconds:
                yield Reason(producer, {"steps_complete"}, f"{prm} is not declared on all its days", declared > 0)

    def steps_without_contract(self):
        for producer, prm, rows in self.counted_files():
            for row in rows:
                holds = any(
                    (v.prm, v.contract_id) == (prm, row.contract) and v.begins <= row.start < v.ends
                    for v in self.versions
                )
                if not holds and (row.energy or row.aux):
                    yield Reason(producer, {"contract_at_each_step"}, f"{prm} declares energy without {row.contract}")
                    break

    def contracts_that_overlap(self):
        for one in self.versions:
            for another in self.versions:
                if one.prm == another.prm and one is not another:
                    if one.first_day < another.day_after and another.first_day < one.day_after:
                        control = "contract_terms" if one.contract_id == another.contract_id else "one_contract_a_point"
                        yield Reason(
                            one.producer_id,
                            {control},
                            f"{one.contract_id} and {another.contract_id} overlap on {one.prm}",
                        )

    def gaps_between_versions(self):
        points = collections.defaultdict(list)
        for version in self.versions:
            points[version.contract_id, version.prm].append(version)
        for (contract, prm), versions in points.items():
            for one, another in zip(versions, versions[1:]):
                if one.day_after < another.first_day:
                    yield Reason(one.producer_id, {"contract_gaps"}, f"{contract} has a gap at {prm}")

    def passed_over_operator(self):
        """More than 2% of the steps are not billed from the operator's meter, which has values of the month."""
        measured = {
            p for (p, s, at) in self.facts.meters if s in OPERATOR and self.month.begins <= at < self.month.ends
        }
        steps = collections.Counter()
        for version in self.versions:
            if (version.producer_id, version.contract_id) in self.bills and version.prm in measured:
                key = (version.producer_id, version.contract_id, version.prm)
                steps[key] += (version.ends - version.begins) // self.month.step
        for key, count in steps.items():
            others = count - self.from_operator[key]
            if 50 * others >= count:
                yield Reason(
                    key[0], {"operator_passed_over"}, f"{others} of {count} steps of {key[2]}", 50 * others > count
                )

    def known_twice(self):
        """Two files with different values that became known at the same instant, and no later one."""
        for (series, start, period), entries in self.facts.prices.items():
            if self.month.begins <= start < self.month.ends or period == "P1Y" and start == self.month.year_begins:
                if self.told_twice(entries, lambda row: Fraction(row.price)):
                    for version in self.versions:
                        if self.needs(version, series):
                            yield Reason(
                                version.producer_id, {"known_twice"}, f"two values of {series} at {utc_text(start)}"
                            )
        for (prm, source, start), entries in self.facts.meters.items():
            if self.month.begins <= start < self.month.ends:
                if self.told_twice(entries, lambda row: (row.energy, row.withdrawal, row.quality)):
                    for producer in self.producers_of(prm):
                        yield Reason(producer, {"known_twice"}, f"two values of {source} of {prm} at {utc_text(start)}")

    @staticmethod
    def told_twice(entries, value):
        if len(entries) < 2:
            return False
        known_at = max(entry[0] for entry in entries)
        newest = [(value(row), name) for at, _, row, name in entries if at == known_at]
        return len({v for v, _ in newest}) > 1 and len({name for _, name in newest}) > 1

    @staticmethod
    def needs(version, series):
        return (
            (series == "DAY_AHEAD_FR" and version.kind in ("SPOT_PASSTHROUGH", "CR"))
            or (series == "IMBALANCE_FR" and bool(version.term("imbalance_share")))
            or (series == "M0_" + version.technology.upper() and version.kind in ("M0_MINUS_FEE", "CR"))
            or (series == "PREFCAPA" and version.kind == "CR")
        )


# ------------------------------------------------------------------------------------------------------ the warehouse

Ended = collections.namedtuple("Ended", "code text killed seconds")


class Warehouse:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        # Nothing connects to the platform; its variable is set so that no command misses it.
        self.environment = {**os.environ, "PLATFORM_URL": "postgresql://nobody@127.0.0.1:1/none", "NO_COLOR": "1"}
        self.environment.pop("WATTLAKE_WAREHOUSE", None)

    @staticmethod
    def prepare(binary, folder):
        """Makes the warehouse that all sequences begin with a copy of: the layers of R take a while to pack."""
        made = Warehouse(binary, folder)
        subprocess.run([binary, "init", folder, "--billing"], check=True, capture_output=True, env=made.environment)
        made.ok("layer", "build")
        made.fill_in_the_company()
        return made

    def fill_in_the_company(self):
        """Without it statements that charge VAT are refused."""
        path = self.folder / "statements/producers.toml"
        text = path.read_text()
        company = {"name": "Agrégateur", "siren": siren(732829320), "address": "1 rue du Lac", "postcode": "69001"}
        for key, value in {**company, "city": "Lyon", "legal": "SAS"}.items():
            text, count = re.subn(rf'^{key} = ""', f'{key} = "{value}"', text, flags=re.M)
            assert count == 1, f"statements/producers.toml has no {key} to fill in"
        path.write_text(text)

    def copy(self, folder):
        def link(source, target):
            # Packed layers are never changed: they are shared, and need not be copied.
            (os.link if "/functions/" in source and "/.wattlake/" in source else shutil.copy2)(source, target)

        shutil.copytree(self.folder, folder, copy_function=link, symlinks=True)
        return Warehouse(self.binary, folder)

    def command(self, *arguments):
        return [str(self.binary), "-C", str(self.folder), *arguments]

    def ok(self, *arguments):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.environment)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *arguments):
        return subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=self.environment, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments, kill_after=None, kill_all=False):
        """Runs a command, and kills it after so many seconds: itself alone, or with all processes of its group."""
        begun = time.monotonic()
        process = self.start(*arguments)
        try:
            text, _ = process.communicate(timeout=600 if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            assert kill_after is not None, f"{arguments} does not end"
            if kill_all:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            text, _ = process.communicate(timeout=60)
        killed = process.returncode == -signal.SIGKILL
        return Ended(process.returncode, text, killed, time.monotonic() - begun)

    def has(self, table):
        return (self.folder / "lake" / table.replace(".", "/") / "_delta_log").exists()

    def sql(self, query):
        return json.loads(self.ok("sql", "--format", "json", query))

    def blocking_controls(self):
        """The controls that block, each with whether its findings hold back only the producer whom they name."""
        found = {"inputs_changed": True}
        for path in (self.folder / "controls/billing").glob("*.sql"):
            head = "\n".join(line[3:] for line in path.read_text().splitlines() if line.startswith("--|"))
            if re.search(r'severity\s*=\s*"block"', head):
                found[path.stem] = re.search(r'holds\s*=\s*"producer"', head) is not None
        return found


def siren(first_eight):
    """A SIREN of nine digits, the last of which makes its checksum right."""
    digits = str(first_eight)[:8]
    for check in range(10):
        if luhn(digits + str(check)):
            return digits + str(check)


def siret(first_eight):
    for establishment in range(10, 100):
        if luhn(siren(first_eight) + f"{establishment:05d}"):
            return siren(first_eight) + f"{establishment:05d}"


def luhn(digits):
    doubled = [int(d) * (2 if at % 2 else 1) for at, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


# ------------------------------------------------------------------------------------------- what happens in the world


def decimal(rng, low, high, digits):
    """A random decimal as a text without needless zeros."""
    value = rng.randint(int(low * 10**digits), int(high * 10**digits))
    sign, value = "-" if value < 0 else "", abs(value)
    text = f"{value // 10**digits}.{value % 10**digits:0{digits}d}" if digits else str(value)
    return sign + (text.rstrip("0").rstrip(".") if digits else text)


class World:
    """Contracts, plants and the market, as those who send files know them: what the next file will say."""

    PRODUCERS = {n: f"PRD{n:04d}" for n in range(1, 6)}

    def __init__(self, rng, months):
        self.rng, self.months = rng, months
        self.ticks = 0
        self.contracts, self.prices, self.meters, self.declared, self.ranks = {}, {}, {}, {}, []
        self.declared_step, self.meter_plan, self.pmax = {}, {}, {}
        self.names = collections.Counter()
        self.repairs = []
        self.make_contracts()
        self.make_ranks()
        self.make_prices()
        self.make_energies()

    def known(self, early=False):
        """An instant later than all before; early: before the first one."""
        self.ticks += 1
        base = 1_775_376_000 - (10_000_000 if early else 0)
        return utc_text(base + self.ticks)

    def name(self, stem, end):
        self.names[stem] += 1
        return f"{stem}-{self.names[stem]}{end}"

    # The first state.

    def make_contracts(self):
        rng, month = self.rng, self.months[0]
        owners, points = rng.randint(2, 4), 0
        for n in range(1, owners + 1):
            for c in range(1 if rng.random() < 0.7 else 2):
                count = min(1 if rng.random() < 0.75 else 2, 6 - points)
                prms = [f"{30000000000000 + points + k + 1:014d}" for k in range(count)]
                points += count
                if prms:
                    self.make_contract(n, f"CTR-2024-{n}{c}", prms, owners, month)

    def make_contract(self, owner, contract, prms, owners, month):
        rng = self.rng
        kind = rng.choice(["SPOT_PASSTHROUGH", "M0_MINUS_FEE", "FIXED_PPA", "OA", "CR", "CR"])
        technology = rng.choice(["wind", "solar", "hydro"])
        for prm in prms:
            self.pmax[prm] = decimal(rng, 300, 9000, rng.choice([0, 1, 3]))
        begins = rng.choice(["2024-01-01", "2022-06-15", f"{month.year}-01-01"])
        days = sorted(rng.sample(range(1, month.days), 2))
        change, end = (month.day(day).isoformat() for day in days)
        fate = rng.choices(["whole", "begins", "ends", "changes", "twice", "hands"], [40, 10, 10, 20, 8, 12])[0]
        add = lambda *when: self.add_version(owner, contract, prms, kind, technology, *when)
        if fate == "whole":
            add(
                begins,
                rng.choice(
                    [
                        "",
                        "",
                        f"{month.year + 3}-01-01",
                        f"{month.year}-12-01" if month.text < f"{month.year}-11" else "",
                    ]
                ),
            )
        elif fate == "begins":
            add(change, "")
        elif fate == "ends":
            add(begins, change)
        elif fate == "changes":
            add(begins, change)
            add(change, "")
        elif fate == "twice":
            add(begins, change)
            add(change, end)
            add(end, "")
        else:
            buyer = owner % owners + 1
            kind_then = rng.choice(["SPOT_PASSTHROUGH", "FIXED_PPA", "OA", kind])
            add(begins, change)
            self.add_version(buyer, f"CTR-2025-{owner}{buyer}", prms, kind_then, technology, change, "")

    def add_version(self, owner, contract, prms, kind, technology, valid_from, valid_to):
        terms, known_at = self.terms(kind, technology), self.known()
        for prm in prms:
            row = dict.fromkeys(CONTRACT_COLUMNS, "")
            row.update(terms)
            row.update(
                contract_id=contract, producer_id=self.PRODUCERS[owner], producer=f"Producteur {owner}", siret=siret(41223300 + owner),
                address="2 rue du Port", postcode="69002", city="Lyon", site_id=f"S-{prm[-3:]}", site=f"Site {prm[-3:]}",
                technology=technology, prm=prm, perimeter="17X0000000000001", pmax_kw=self.pmax[prm], kind=kind,
                valid_from=valid_from, valid_to=valid_to, known_at=known_at,
            )  # fmt: skip
            self.contracts[contract, prm, valid_from] = row

    def terms(self, kind, technology):
        rng, terms = self.rng, {}
        often = lambda chance: rng.random() < chance
        if kind in TARIFF_KINDS:
            terms["price_eur_mwh"] = decimal(rng, 35, 120, rng.choice([0, 2, 4]))
        if kind in ("SPOT_PASSTHROUGH", "M0_MINUS_FEE") or kind == "FIXED_PPA" and often(0.5):
            terms["fee_eur_mwh"] = decimal(rng, 0, 6, rng.choice([1, 3, 4]))
        if kind in MARKET_KINDS:
            if often(0.4):
                terms["fee_eur_mw_month"] = decimal(rng, 1, 300, 2)
            if often(0.4):
                terms["imbalance_share"] = decimal(rng, 0.1, 1, 3)
            if often(0.3):
                terms["go_eur_mwh"] = decimal(rng, 0, 2, 4)
        if kind == "CR":
            terms["management_premium_eur_mwh"] = decimal(rng, 0, 5, 2)
            if often(0.4):
                terms["nbcapa_mw"] = decimal(rng, 0.1, 3, 3)
            if len(self.months) == 1 and often(0.4):
                terms[rng.choice(["cap_mwh_year", "cap_mwh_life"])] = decimal(rng, 20, 900, 3)
            if technology == "solar" and self.months[0].text.endswith("-01") and often(0.8):
                terms["negative_premium"] = "yes"
        terms["vat"] = "none" if kind == "CR" else rng.choice(["reverse_charge", "reverse_charge", "standard"])
        if terms["vat"] == "standard":
            terms["vat_rate_pct"] = rng.choice(["20", "5.5", "10"])
        elif "fee_eur_mwh" in terms and often(0.4):
            terms.update(fee_vat="standard", fee_vat_rate_pct="20")
        return terms

    def make_ranks(self):
        order = ["DSO_CORRECTED", "DSO_RAW", "PRODUCER_DECLARED", "SCADA"]
        known_at = self.known()
        self.ranks = [Rank("*", source, at + 1, known_at) for at, source in enumerate(order)]
        if self.rng.random() < 0.3:
            order[:2] = reversed(order[:2])
            kind = self.rng.choice(["OA", "CR", "SPOT_PASSTHROUGH"])
            self.ranks += [Rank(kind, source, at + 1, known_at) for at, source in enumerate(order)]

    def market_price(self):
        rng = self.rng
        of = rng.random()
        if of < 0.12:
            return decimal(rng, -0.04, 0.04, 2)
        return decimal(rng, *((-60, 0) if of < 0.3 else (0, 140)), rng.choice([2, 2, 2, 4]))

    def make_prices(self):
        rng = self.rng
        for month in self.months:
            for series, step in (("DAY_AHEAD_FR", month.day_ahead_step), ("IMBALANCE_FR", month.settlement_step)):
                negative = {hour for hour in range(month.begins, month.ends, HOUR) if rng.random() < 0.12}
                for start in range(month.begins, month.ends, step):
                    # Hours of negative price, also where each has four of them.
                    below = start - start % HOUR in negative
                    price = decimal(rng, -60, -1, 2) if below else self.market_price()
                    self.set_price(series, start, step, price, self.known())
            for series in ("M0_WIND", "M0_SOLAR", "M0_HYDRO"):
                self.set_price(series, month.begins, "P1M", decimal(rng, 20, 95, 2), self.known())
        year = self.months[0].year_begins
        self.set_price("PREFCAPA", year, "P1Y", decimal(rng, 5000, 40000, 2), self.known())
        if rng.random() < 0.5:
            self.set_price("M0_HYDRO", year, "P1Y", decimal(rng, 20, 95, 2), self.known())

    def set_price(self, series, start, step, price, known_at):
        self.prices[series, start, step if step in ("P1M", "P1Y") else ""] = Price(series, start, step, price, known_at)

    def make_energies(self):
        rng = self.rng
        for prm in self.pmax:
            metered = rng.random() < 0.5
            declared = not metered or rng.random() < 0.7
            steps = [900, 1800, 3600]
            self.declared_step[prm] = rng.choice(steps) if declared else None
            longer = [step for step in steps if step >= self.months[0].step]
            plan = {}
            if metered:
                plan["DSO_RAW"] = rng.choice(longer)
                if rng.random() < 0.5:
                    plan["DSO_CORRECTED"] = plan["DSO_RAW"]
            if rng.random() < 0.3:
                plan["SCADA"] = rng.choice(longer)
            if any(row["imbalance_share"] for row in self.contracts.values() if row["prm"] == prm):
                plan["FORECAST"] = self.months[0].settlement_step
            self.meter_plan[prm] = plan
            for month in self.months:
                for source, step in plan.items():
                    self.make_readings(prm, source, step, month)
        for month in self.months:
            for producer, prm in {(row["producer_id"], row["prm"]) for row in self.contracts.values()}:
                if self.declared_step[prm]:
                    self.declare(producer, prm, month)

    def energy(self, prm, step, start):
        """Parts of a quarter of an hour have no remainder, as the documents do not say which one gets it."""
        parts = step // QUARTER
        most = int(Fraction(self.pmax[prm]) * step / 3600 * 1000 * Fraction(97, 100)) // parts
        # A plant stands still for whole hours, as the premium for negative prices asks of it.
        still = (start // HOUR * 2654435761 + int(prm)) % 2**32 < 2**32 // 4 and step <= HOUR
        drawn = self.rng.randint(0, most) * parts
        return 0 if still or self.rng.random() < 0.15 else drawn

    def auxiliaries(self, step):
        return self.rng.choice([0, 0, 1, 250, 1001]) * (step // QUARTER)

    def make_readings(self, prm, source, step, month):
        rng, known_at = self.rng, self.known()
        said = rng.random() < 0.5 or not self.declared_step[prm]
        # Without another source an invalid value leaves a contract incomplete: now and then is enough.
        alone = not self.declared_step[prm] and "SCADA" not in self.meter_plan[prm]
        bad = rng.choice([0] * 9 + [0.004] if alone else [0, 0, 0, 0.004, 0.01, 0.05]) if source in OPERATOR else 0
        only = None
        if source == "DSO_CORRECTED":
            first = rng.randrange(month.days)
            only = (midnight(month.day(first)), midnight(month.day(min(first + 3, month.days))))
        for start in range(month.begins, month.ends, step):
            if only and not only[0] <= start < only[1]:
                continue
            quality, energy = rng.choice(["measured", "measured", "corrected", "estimated"]), self.energy(prm, step, start)
            withdrawal = self.auxiliaries(step) if said and source != "FORECAST" else None
            if rng.random() < bad:
                quality = rng.choice(["invalid", "missing"])
                energy = energy if quality == "invalid" else None
            self.meters[prm, source, start] = Meter(prm, source, start, step, energy, withdrawal, quality, known_at)

    def days_of(self, producer, prm, month):
        """The days on which a contract holds, each with the contract."""
        for row in self.contracts.values():
            if (row["producer_id"], row["prm"]) == (producer, prm):
                first = max(datetime.date.fromisoformat(row["valid_from"]), month.first_day)
                after = min(datetime.date.fromisoformat(row["valid_to"] or "9999-12-31"), month.day_after)
                for number in range((after - first).days):
                    yield first + datetime.timedelta(days=number), row["contract_id"]

    def declare(self, producer, prm, month):
        """Writes down what a producer declares for the days of the contract; what was declared before stays."""
        before = {row.start: row for row in self.declared.get((producer, prm, month.text), [])}
        step, rows, last = self.declared_step[prm], [], None
        for day, contract in sorted(set(self.days_of(producer, prm, month))):
            for start in range(midnight(day), midnight(day + datetime.timedelta(days=1)), step):
                old = before.get(start)
                energy, aux = (old.energy, old.aux) if old else (self.energy(prm, step, start), self.auxiliaries(step))
                rows.append(Declared(contract, prm, start, step, energy, aux))
        if rows and self.rng.random() < 0.15:
            # Further days without energy are no fault.
            last = rows[-1].start + step
            rows += [Declared(rows[-1].contract, prm, start, step, 0, 0) for start in range(last, month.ends, step)]
        self.declared[producer, prm, month.text] = rows

    # Files of it.

    def first_files(self):
        rng = self.rng
        files = [contracts_file(self.contracts.values()), precedence_file(self.ranks)]
        incomplete = rng.random() < 0.2
        files += [self.file_without_a_price(m) if incomplete else self.file_of_prices(m) for m in self.months] + [
            self.file_of_years()
        ]
        files += [self.file_of_meters(prm, month) for prm in self.pmax for month in self.months if self.meter_plan[prm]]
        for producer, month in sorted({(producer, month) for producer, _, month in self.declared}):
            prms = sorted(
                prm for p, prm, m in self.declared if (p, m) == (producer, month) and self.declared[p, prm, m]
            )
            groups = [prms] if rng.random() < 0.5 else [[prm] for prm in prms]
            for group in groups:
                if group:
                    files.append(self.file_of_production(producer, group, month))
        rng.shuffle(files)
        return files

    def file_of_prices(self, month):
        rows = [p for p in self.prices.values() if month.begins <= p.start < month.ends and p.step != "P1Y"]
        return prices_file(f"prices-{month.text}.csv", rows)

    def file_without_a_price(self, month):
        """The first file of a month's prices lacks one of them, which comes later, or never."""
        file = self.file_of_prices(month)
        missing = self.rng.choice(file.rows)
        if self.rng.random() < 0.3:
            missing = self.rng.choice([row for row in file.rows if row.step == "P1M"])
        key = next(key for key, row in self.prices.items() if row == missing)
        self.repairs.append(lambda: self.prices_said_again([key]))
        return prices_file(file.name, [row for row in file.rows if row != missing])

    def file_of_years(self):
        return prices_file("prices-year.csv", [p for p in self.prices.values() if p.step == "P1Y"])

    def file_of_meters(self, prm, month):
        rows = [m for m in self.meters.values() if m.prm == prm and month.begins <= m.start < month.ends]
        return meters_file(f"meters-{month.text}-{prm}.csv", rows)

    def file_of_production(self, producer, prms, month, name=None, fault=""):
        rows = [row for prm in prms for row in self.declared[producer, prm, month]]
        name = name or f"{producer}-{month}-{prms[0][-2:]}-{len(prms)}.csv"
        return production_file(name, producer, month, rows, self.rng, fault)

    # Corrections. Each returns what happened and its files, or None where there is nothing to correct.

    def some_declared(self):
        """A producer's month, with one or all of its metering points."""
        keys = sorted(key for key, rows in self.declared.items() if rows)
        if not keys:
            return None
        producer, prm, month = self.rng.choice(keys)
        return producer, [prm], month

    def declared_again(self):
        found = self.some_declared()
        if not found:
            return None
        producer, (prm,), month = found
        rows = self.declared[producer, prm, month]
        first = self.rng.randrange(len(rows))
        for at in range(first, min(first + self.rng.choice([1, 5, 200]), len(rows))):
            if rows[at].energy or rows[at].aux or self.rng.random() < 0.2:
                rows[at] = rows[at]._replace(energy=self.energy(prm, rows[at].step, rows[at].start))
        name = self.rng.choice([None, None, self.name(f"corrige-{producer}-{month}", ".csv")])
        return f"{producer} corrects {prm} of {month}" + (f" as {name}" if name else ""), [
            self.file_of_production(producer, [prm], month, name)
        ]

    def declared_with_a_fault(self):
        found = self.some_declared()
        if not found:
            return None
        producer, prms, month = found
        fault = self.rng.choice(["total", "decimal mark", "gap"])
        name = self.rng.choice([None, self.name(f"corrige-{producer}-{month}", ".csv")])
        self.repairs.append(
            lambda: (
                f"{producer} corrects {prms} of {month}",
                [self.file_of_production(producer, prms, month, self.rng.choice([name, None]))],
            )
        )
        return f"{producer} sends {prms} of {month} with a wrong {fault}", [
            self.file_of_production(producer, prms, month, name, fault)
        ]

    def declared_by_another(self):
        found = self.some_declared()
        if not found:
            return None
        producer, (prm,), month = found
        owners = {row["producer_id"] for row in self.contracts.values() if row["prm"] == prm}
        others = sorted({row["producer_id"] for row in self.contracts.values()} - owners)
        if not others:
            return None
        other, name = self.rng.choice(others), self.name(f"autre-{month}", ".csv")
        rows = list(self.declared[producer, prm, month])

        def withdrawn():
            zeros = [row._replace(energy=0, aux=0) for row in rows]
            return f"{other} takes back {prm} of {month}", [production_file(name, other, month, zeros, self.rng)]

        self.repairs.append(withdrawn)
        return f"{other} declares {prm} of {month}", [production_file(name, other, month, rows, self.rng)]

    def price_again(self):
        """A price is published again: later, as of an earlier instant that came late, or at the same instant."""
        rng = self.rng
        count = rng.choice([1, 1, 4, 30])
        first = rng.randrange(len(self.prices))
        keys = sorted(self.prices, key=str)[first : first + count]
        how = rng.choices(["later", "late", "same instant", "in its file"], [60, 15, 10, 15])[0]
        rows = []
        for key in keys:
            old = self.prices[key]
            price = self.market_price() if old.step in STEP_NAMES else decimal(rng, 20, 95, 2)
            known_at = {
                "late": self.known(early=True),
                "same instant": old.known_at,
                "in its file": rng.choice([old.known_at, self.known()]),
            }.get(how) or self.known()
            rows.append(old._replace(price=price, known_at=known_at))
            if how in ("later", "in its file"):
                self.prices[key] = rows[-1]
        what = f"{len(rows)} prices from {keys[0][0]} are published again ({how})"
        if how == "same instant":
            self.repairs.append(lambda: self.prices_said_again(keys))
        if how == "in its file":
            months = [
                month
                for month in self.months
                if any(month.begins <= r.start < month.ends and r.step != "P1Y" for r in rows)
            ]
            files = [self.file_of_prices(month) for month in months]
            return what, files + ([self.file_of_years()] if any(r.step == "P1Y" for r in rows) else [])
        return what, [prices_file(self.name("prices-fix", ".csv"), rows)]

    def prices_said_again(self, keys):
        for key in keys:
            self.prices[key] = self.prices[key]._replace(known_at=self.known())
        return "the prices are published again", [
            prices_file(self.name("prices-fix", ".csv"), [self.prices[key] for key in keys])
        ]

    def price_of_another_step(self):
        key = self.rng.choice(sorted((key for key in self.prices if key[0] == "DAY_AHEAD_FR"), key=str))
        row = self.prices[key]._replace(step=3600 if self.prices[key].step == 900 else 900, known_at=self.known())
        self.repairs.append(lambda: self.prices_said_again([key]))
        return f"the price of {utc_text(row.start)} comes with another step", [
            prices_file(self.name("prices-fix", ".csv"), [row])
        ]

    def prices_with_a_fault(self):
        keys = self.rng.sample(sorted(self.prices, key=str), 1)
        name = self.name("prices-bad", ".csv")
        rows = [self.prices[key]._replace(price="12.50", known_at=self.known()) for key in keys]

        def corrected():
            for key, row in zip(keys, rows):
                self.prices[key] = row._replace(known_at=self.known())
            return f"{name} is corrected", [prices_file(name, [self.prices[key] for key in keys])]

        self.repairs.append(corrected)
        return f"{name} has a decimal comma", [prices_file(name, rows, decimal_comma=True)]

    def meter_again(self):
        rng = self.rng
        plans = sorted((prm, source) for prm, plan in self.meter_plan.items() for source in plan)
        if not plans:
            return None
        prm, source = rng.choice(plans)
        starts = sorted(start for p, s, start in self.meters if (p, s) == (prm, source))
        first = rng.randrange(len(starts))
        how = rng.choices(["later", "late", "same instant"], [75, 15, 10])[0]
        rows = []
        for start in starts[first : first + rng.choice([1, 10, 300])]:
            old = self.meters[prm, source, start]
            known_at = {"later": self.known(), "late": self.known(early=True), "same instant": old.known_at}[how]
            quality = "measured" if rng.random() > 0.02 or source not in OPERATOR else "invalid"
            rows.append(old._replace(energy=self.energy(prm, old.step, start), quality=quality, known_at=known_at))
            if how == "later":
                self.meters[prm, source, start] = rows[-1]
        if how == "same instant":
            self.repairs.append(lambda: self.readings_said_again(prm, source, [row.start for row in rows]))
        return f"{len(rows)} values of {source} of {prm} come again ({how})", [
            meters_file(self.name("meters-fix", ".csv"), rows)
        ]

    def readings_said_again(self, prm, source, starts):
        rows = [self.meters[prm, source, start]._replace(known_at=self.known()) for start in starts]
        self.meters.update({(prm, source, row.start): row for row in rows})
        return f"values of {source} of {prm} are said again", [meters_file(self.name("meters-fix", ".csv"), rows)]

    def operator_is_late(self):
        """An operator's corrected values come for some days, also for a point that had none of its meters."""
        rng = self.rng
        metered = sorted(prm for prm, plan in self.meter_plan.items() if "DSO_RAW" in plan)
        if not metered:
            return None
        prm, month = rng.choice(metered), rng.choice(self.months)
        step = self.meter_plan[prm].setdefault("DSO_CORRECTED", self.meter_plan[prm]["DSO_RAW"])
        first, known_at = rng.randrange(month.days), self.known()
        said = not self.declared_step[prm] or rng.random() < 0.3
        rows = []
        for start in range(midnight(month.day(first)), midnight(month.day(min(first + 2, month.days))), step):
            withdrawal = self.auxiliaries(step) if said else None
            row = Meter(prm, "DSO_CORRECTED", start, step, self.energy(prm, step, start), withdrawal, "corrected", known_at)
            self.meters[prm, "DSO_CORRECTED", start] = row
            rows.append(row)
        return f"the operator corrects {prm} of {month.day(first)}", [
            meters_file(self.name("meters-fix", ".csv"), rows)
        ]

    def versions(self):
        """Of each contract the versions in force, the first one first."""
        found = collections.defaultdict(list)
        for contract, prm, valid_from in sorted(self.contracts):
            row = self.contracts[contract, prm, valid_from]
            if row["valid_to"] != valid_from and valid_from not in found[contract]:
                found[contract].append(valid_from)
        return {contract: versions for contract, versions in found.items() if versions}

    def change(self, contract, valid_from, **columns):
        known_at = self.known()
        for key, row in self.contracts.items():
            if key[0] == contract and key[2] == valid_from:
                row.update(columns, known_at=known_at)

    def ranks_again(self):
        """Another order of the operator's two sources, and sometimes what producers declare before SCADA or after it."""
        known_at = self.known()
        ranks = dict(zip(("DSO_CORRECTED", "DSO_RAW"), self.rng.sample([1, 2], 2)))
        ranks.update(zip(("PRODUCER_DECLARED", "SCADA"), self.rng.sample([3, 4], 2)))
        kind = self.rng.choice(sorted({rank.kind for rank in self.ranks}))
        self.ranks = [
            rank._replace(rank=ranks[rank.source], known_at=known_at) if rank.kind == kind else rank
            for rank in self.ranks
        ]
        return f"the ranks of {kind} are {ranks}", [precedence_file(self.ranks)]

    def contract_withdrawn(self):
        """A contract was entered by mistake. Where its points were declared, this is taken back by another file."""
        versions = self.versions()
        if len(versions) < 3:
            return None
        contract = self.rng.choice(sorted(versions))
        for valid_from in versions[contract]:
            self.change(contract, valid_from, valid_to=valid_from)

        def taken_back():
            files = []
            for (producer, prm, month), rows in sorted(self.declared.items()):
                if any(row.contract == contract and (row.energy or row.aux) for row in rows):
                    self.declared[producer, prm, month] = [
                        row._replace(energy=0, aux=0) if row.contract == contract else row for row in rows
                    ]
                    files.append(self.file_of_production(producer, [prm], month))
            return f"what was declared for {contract} is taken back", files

        self.repairs.append(taken_back)
        return f"{contract} is withdrawn", [contracts_file(self.contracts.values())]

    def term_corrected(self):
        versions = self.versions()
        contract = self.rng.choice(sorted(versions))
        valid_from = self.rng.choice(versions[contract])
        old = next(row for key, row in self.contracts.items() if key[0] == contract and key[2] == valid_from)
        columns = [
            c
            for c in (
                "price_eur_mwh",
                "fee_eur_mwh",
                "fee_eur_mw_month",
                "go_eur_mwh",
                "management_premium_eur_mwh",
                "nbcapa_mw",
            )
            if old[c]
        ]
        column = self.rng.choice(columns)
        value = decimal(self.rng, 0.1, 3 if column == "nbcapa_mw" else 110, 3)
        self.change(contract, valid_from, **{column: value})
        return f"{contract} of {valid_from} gets {column} {value}", [contracts_file(self.contracts.values())]

    def contract_changes(self):
        """The last version ends in the month, and another one follows on it."""
        versions = self.versions()
        contract, month = self.rng.choice(sorted(versions)), self.rng.choice(self.months)
        last, day = versions[contract][-1], month.day(self.rng.randrange(1, month.days)).isoformat()
        rows = [row for key, row in self.contracts.items() if key[0] == contract and key[2] == last]
        if any(row["valid_to"] for row in rows) or day <= last or (contract, rows[0]["prm"], day) in self.contracts:
            return None
        terms = self.terms(rows[0]["kind"], rows[0]["technology"])
        if "FORECAST" not in self.meter_plan[rows[0]["prm"]]:
            terms.pop("imbalance_share", None)
        self.change(contract, last, valid_to=day)
        for row in rows:
            new = {**dict.fromkeys(CONTRACT_COLUMNS, ""), **{c: row[c] for c in CONTRACT_COLUMNS[:17]}, **terms}
            if "FORECAST" not in self.meter_plan[row["prm"]]:
                new["imbalance_share"] = ""
            self.contracts[contract, row["prm"], day] = {
                **new,
                "valid_from": day,
                "valid_to": "",
                "known_at": self.known(),
            }
        return f"{contract} has a version from {day}", [contracts_file(self.contracts.values())]

    def version_withdrawn(self):
        """The last version was a mistake; with `heal` the one before it goes on, without it a fault is left."""
        versions = {contract: found for contract, found in self.versions().items() if len(found) > 1}
        if not versions:
            return None
        contract = self.rng.choice(sorted(versions))
        before, last = versions[contract][-2:]
        rows = [row for key, row in self.contracts.items() if key[0] == contract and key[2] == last]
        ended = rows[0]["valid_to"]
        self.change(contract, last, valid_to=last)
        what = f"{contract}'s version of {last} is withdrawn"
        if self.rng.random() < 0.7:
            self.change(contract, before, valid_to=ended)
            return what, [contracts_file(self.contracts.values())]

        def restored():
            self.change(contract, before, valid_to=ended)
            return f"{contract}'s version of {before} goes on", [contracts_file(self.contracts.values())]

        self.repairs.append(restored)
        return what + " and nothing follows", [contracts_file(self.contracts.values())]

    def versions_overlap(self):
        versions = {contract: found for contract, found in self.versions().items() if len(found) > 1}
        if not versions:
            return None
        contract = self.rng.choice(sorted(versions))
        before, last = versions[contract][-2:]
        self.change(contract, before, valid_to="")

        def ended():
            self.change(contract, before, valid_to=last)
            return f"{contract}'s version of {before} ends", [contracts_file(self.contracts.values())]

        self.repairs.append(ended)
        return f"{contract}'s version of {before} does not end", [contracts_file(self.contracts.values())]

    def contract_moves(self):
        """A contract's first day, or its last one, is another: files may have other days then."""
        moved = []
        for contract, versions in sorted(self.versions().items()):
            for row in self.contracts.values():
                if row["contract_id"] == contract and row["valid_from"] == versions[-1] and row["valid_to"]:
                    if any(
                        month.first_day.isoformat() < row["valid_to"] < month.day_after.isoformat()
                        for month in self.months
                    ):
                        moved.append(contract)
        if not moved:
            return None
        contract = self.rng.choice(moved)
        last, month = self.versions()[contract][-1], self.rng.choice(self.months)
        day = month.day(self.rng.randrange(1, month.days)).isoformat()
        if day <= last:
            return None
        self.change(contract, last, valid_to=day)

        def declared():
            files = []
            for producer, prm, text in sorted(self.declared):
                if any(row["contract_id"] == contract and row["prm"] == prm for row in self.contracts.values()):
                    self.declare(producer, prm, next(month for month in self.months if month.text == text))
                    if self.declared[producer, prm, text]:
                        files.append(self.file_of_production(producer, [prm], text))
            return f"the days of {contract} are declared again", files

        self.repairs.append(declared)
        return f"{contract} ends on {day}", [contracts_file(self.contracts.values())]

    CORRECTIONS = {
        declared_again: 8,
        declared_with_a_fault: 2,
        declared_by_another: 1,
        price_again: 5,
        prices_with_a_fault: 0.7,
        meter_again: 4,
        operator_is_late: 2,
        term_corrected: 3,
        contract_changes: 3,
        version_withdrawn: 2,
        contract_withdrawn: 1,
        ranks_again: 1,
        price_of_another_step: 0.5,
        versions_overlap: 0.7,
        contract_moves: 1.5,
    }


# ------------------------------------------------------------------------------------------------------- the sequence

INGESTS = ["contracts", "precedence", "prices", "meters", "production"]
LOADS = ["contracts", "precedence", "prices", "meters", "declared"]
MONTHLY = ["function:billing-extract", "load:days", "load:lines", "control:billing", "statement:producers"]
# Other lengths of steps of prices and settlement, days of 23 and 25 hours, a year's first month, two months.
MONTHS = [
    ["2024-04"], ["2024-10"], ["2025-02"], ["2025-03"], ["2025-10"], ["2026-01"], ["2026-02"], ["2026-03"], ["2024-03", "2024-04"],
    ["2026-01", "2026-02"],
]  # fmt: skip


class Failed(Exception):
    """Something that goes against docs/billing.md."""


def euros(value):
    return f"{float(value):.2f}"


class Sequence:
    # Of all sequences: how long each job takes, to kill it while it works.
    SECONDS = collections.defaultdict(lambda: 0.3)

    def __init__(self, seed, warehouse, counts, mistake):
        self.rng = random.Random(seed)
        self.warehouse, self.counts, self.mistake = warehouse, counts, mistake
        self.months = [Month(text) for text in self.rng.choice(MONTHS)]
        self.world = World(self.rng, self.months)
        self.facts = Facts()
        self.source = Source(warehouse.folder / "inbox", self.facts)
        self.pending = self.world.first_files()
        self.written, self.register, self.history = [], {}, []
        self.compared, self.held = 0, collections.Counter()

    def note(self, text):
        self.history.append(text)

    def run(self):
        for _ in range(self.rng.randint(3, 7)):
            self.happens()
        if self.pending:
            self.arrives(len(self.pending))
        self.settle()
        for _ in range(self.rng.randint(2, 5)):
            self.happens()
        self.settle()

    def happens(self):
        choices = {
            self.arrives: 5 if self.pending else 0,
            self.corrected: 5,
            self.chain: 2.5,
            self.single: 2,
            self.beside: 0.5,
            self.sent_again: 1.5,
        }
        self.rng.choices(list(choices), list(choices.values()))[0]()

    # Arrivals.

    def arrives(self, count=None):
        self.note("first files come:")
        for _ in range(self.rng.randint(1, len(self.pending)) if count is None else count):
            self.write(self.pending.pop())

    def write(self, file):
        # Mostly in the order of their writing; now and then one that was written long before.
        seconds_ago = 0 if self.rng.random() < 0.75 else self.rng.randint(1, 90_000)
        self.source.write(file, seconds_ago)
        self.written.append(file)
        self.note(
            f"  {file.path} is written"
            + (f", {seconds_ago} s ago" if seconds_ago else "")
            + (f" ({file.fault})" if file.fault else "")
        )

    def corrected(self):
        names = list(World.CORRECTIONS)
        correction = self.rng.choices(names, list(World.CORRECTIONS.values()))[0]
        done = correction(self.world)
        if done:
            self.counts[f"correction {correction.__name__}"] += 1
            self.note(done[0])
            for file in done[1]:
                self.write(file)

    def repaired(self):
        """What was wrong is put right, so that everybody's statement can go out."""
        repairs, self.world.repairs = self.world.repairs, []
        for repair in repairs:
            what, files = repair()
            self.note(what)
            self.counts["correction repaired"] += 1
            for file in files:
                self.source.write(file, 0)
                self.written.append(file)

    def sent_again(self):
        """A file unchanged before: A, then B, then A again; of producers also under another name."""
        files = [file for file in self.written if file.kind in ("contracts", "production")]
        if files:
            file = self.rng.choice(files)
            if file.kind == "production" and not file.fault and self.rng.random() < 0.4:
                file = dataclasses.replace(file, name=self.world.name(f"copie-{file.producer}", ".csv"))
            self.note("unchanged before:")
            self.write(file)
            self.counts["correction sent_again"] += 1

    # Jobs.

    def job(self, job, month=None, may_be_killed=True):
        arguments = ["run", job] + (["--for", month.text] if month else [])
        kill_after = self.rng.random() * 1.1 * self.SECONDS[job] if may_be_killed and self.rng.random() < 0.2 else None
        ended = self.warehouse.run(*arguments, kill_after=kill_after, kill_all=self.rng.random() < 0.3)
        self.counts[f"job {job}"] += 1
        self.note(
            f"{' '.join(arguments)}: "
            + (f"killed after {kill_after:.3f} s" if ended.killed else f"exit code {ended.code}")
        )
        if "panicked" in ended.text:
            raise Failed(f"{arguments} panicked:\n{ended.text}")
        if kill_after is not None:
            self.counts["kills tried"] += 1
            self.counts["kills that hit a running job"] += ended.killed
            self.counts[f"killed {job}"] += ended.killed
        else:
            self.SECONDS[job] = 0.7 * self.SECONDS[job] + 0.3 * ended.seconds
        if job == "statement:producers":
            self.look_at_the_register()
        if ended.killed:
            # What a killed ingest has seen is unknown until it has run again; other jobs may wait.
            if job.startswith("ingest:") or self.rng.random() < 0.75:
                return self.job(job, month, may_be_killed=self.rng.random() < 0.3)
        elif job.startswith("ingest:"):
            self.source.ingested(job.removeprefix("ingest:"))
        return ended

    def chain(self):
        self.note("the chain, in part")
        jobs = [(f"ingest:{name}", None) for name in INGESTS] + [(f"load:{name}", None) for name in LOADS]
        jobs += [(job, month) for month in self.months for job in MONTHLY]
        skips = self.rng.choice([0, 0, 0.1, 0.3])
        for job, month in jobs:
            if self.rng.random() >= skips:
                self.job(job, month)

    def rerun_as_of(self):
        """What was known at an earlier instant is asked for again: the loads go on with the newest answer."""
        month = self.rng.choice(self.months)
        instants = self.warehouse.sql(
            f"SELECT started_at FROM system.runs WHERE job = '{MONTHLY[0]}' AND \"for\" = '{month.text}' AND state = 'succeeded'"
        )
        if instants:
            at = self.rng.choice(sorted(row["started_at"] for row in instants))
            ended = self.warehouse.run("run", MONTHLY[0], "--for", month.text, "--as-of", at)
            self.counts["reruns as of an earlier instant"] += 1
            self.note(f"run {MONTHLY[0]} --for {month.text} --as-of {at}: exit code {ended.code}")
            for job in self.rng.choice([[], MONTHLY[1:3], MONTHLY[1:]]):
                self.job(job, month)

    def single(self):
        if self.rng.random() < 0.25:
            self.rerun_as_of()
        for _ in range(self.rng.randint(1, 4)):
            kind = self.rng.choice(["ingest", "load", "month", "month"])
            if kind == "month":
                self.job(self.rng.choice(MONTHLY), self.rng.choice(self.months))
            else:
                self.job(f"{kind}:{self.rng.choice(INGESTS if kind == 'ingest' else LOADS)}")

    def beside(self):
        """Two jobs at the same time."""
        jobs = [(f"load:{name}", None) for name in LOADS] + [(job, self.rng.choice(self.months)) for job in MONTHLY]
        two = [self.rng.choice(jobs), self.rng.choice(jobs)]
        commands = [["run", job] + (["--for", month.text] if month else []) for job, month in two]
        processes = [self.warehouse.start(*command) for command in commands]
        for command, process in zip(commands, processes):
            text, _ = process.communicate(timeout=600)
            self.counts["jobs beside each other"] += 1
            self.note(f"{' '.join(command)} beside another: exit code {process.returncode}")
            if "panicked" in text:
                raise Failed(f"{command} panicked:\n{text}")
        self.look_at_the_register()

    # What must hold at any time.

    def look_at_the_register(self):
        """New statements are compared with the facts that had arrived; older ones have not changed; numbers have no gap."""
        if not self.warehouse.has("billing.statements"):
            return
        rows = self.warehouse.sql(
            "SELECT period, producer_id, number, version, replaces, amount::text AS amount, vat_amount::text AS vat_amount, "
            "due::text AS due, is_credit_note, inputs_sha256, page_sha256 FROM billing.statements ORDER BY period, producer_id, version"
        )
        numbers = collections.Counter(row["number"] for row in rows)
        if rows and numbers.most_common(1)[0][1] > 1:
            raise Failed(f"a number was given twice: {numbers.most_common(1)}")
        new = [row for row in rows if row["number"] not in self.register]
        for number, row in self.register.items():
            if row not in rows:
                raise Failed(f"the issued statement {number} has changed: {row}")
        self.register = {row["number"]: row for row in rows}
        self.check_numbers(rows)
        for row in new:
            self.check_issued(row)

    @staticmethod
    def check_numbers(rows):
        before = {}
        for row in rows:
            key = row["period"], row["producer_id"]
            last = before.get(key)
            expected = (last["version"] + 1 if last else 1, last and last["number"])
            if (row["version"], row["replaces"]) != expected or row["number"] != f"{key[0]}-{key[1]}-{row['version']}":
                raise Failed(f"after {last} comes {row}")
            if last and last["inputs_sha256"] == row["inputs_sha256"]:
                raise Failed(f"the same content was issued twice: {last['number']} and {row['number']}")
            before[key] = row

    def oracle(self, period):
        return Oracle(self.facts, next(month for month in self.months if month.text == period), self.mistake)

    def check_issued(self, row):
        self.counts["statements issued"] += 1
        oracle = self.oracle(row["period"])
        found = [reason for reason in oracle.reasons() if reason.sure and reason.producer in (None, row["producer_id"])]
        if found:
            raise Failed(f"{row['number']} was issued, although {found}")
        self.compare_amounts(row, oracle)

    def compare_amounts(self, row, oracle):
        amount, vat = oracle.statement(row["producer_id"])
        expected = [amount, vat, amount + vat, amount + vat < 0]
        found = [Fraction(row["amount"]), Fraction(row["vat_amount"]), Fraction(row["due"]), row["is_credit_note"]]
        if expected[:3] != found[:3]:
            raise Failed(
                f"{row['number']}: expected {', '.join(map(euros, expected[:3]))}, found {', '.join(map(euros, found[:3]))}\n"
                + self.differences(row["period"], oracle, row["producer_id"])
            )
        self.counts["statements compared equal"] += 1

    # What must hold after the whole chain.

    def settle(self):
        if self.rng.random() < 0.7:
            self.repaired()
        self.note("the whole chain")
        for job in [f"ingest:{name}" for name in INGESTS] + [f"load:{name}" for name in LOADS]:
            self.must_succeed(job)
        for month in self.months:
            self.settle_month(month)

    def must_succeed(self, job, month=None):
        ended = self.job(job, month, may_be_killed=False)
        if ended.code != 0:
            raise Failed(f"{job} ended with {ended.code}:\n{ended.text[-3000:]}")

    def settle_month(self, month):
        oracle = self.oracle(month.text)
        reasons = oracle.reasons()
        extracted = self.job("function:billing-extract", month, may_be_killed=False)
        if (extracted.code == 0) == bool(oracle.price_missing) and not oracle.incomplete:
            raise Failed(
                f"the function ended with {extracted.code}; prices missing: {oracle.price_missing}\n{extracted.text[-3000:]}"
            )
        if extracted.code == 0:
            self.must_succeed("load:days", month)
            self.must_succeed("load:lines", month)
            self.compare_bills(oracle)
            self.check_entries(month)
        if self.rng.random() < 0.5:
            # The statements evaluate the controls themselves.
            self.job("control:billing", month, may_be_killed=False)
        before = set(self.register)
        issued = self.job("statement:producers", month, may_be_killed=False)
        findings = self.findings(month)
        new = {row["producer_id"] for number, row in self.register.items() if number not in before}
        for producer in sorted(
            oracle.producers() | {row["producer_id"] for row in self.register.values() if row["period"] == month.text}
        ):
            self.check_outcome(oracle, producer, reasons, findings, issued, producer in new)
        self.check_documents(month)

    def findings(self, month):
        """The blocking findings of the last run of the statements: of each producer (or None for all) the controls."""
        controls = self.warehouse.blocking_controls()
        run = self.warehouse.sql(
            f"SELECT id FROM system.runs WHERE job = 'statement:producers' AND \"for\" = '{month.text}' ORDER BY started_at DESC LIMIT 1"
        )[0]["id"]
        broken = self.warehouse.sql(
            f"SELECT control, error FROM controls.results WHERE run_id = '{run}' AND state = 'broken'"
        )
        if broken:
            raise Failed(f"controls are broken: {broken}")
        names = ", ".join(f"'{name}'" for name in controls)
        rows = self.warehouse.sql(
            f"SELECT control, finding FROM controls.findings WHERE run_id = '{run}' AND waiver IS NULL AND control IN ({names})"
        )
        found = collections.defaultdict(set)
        for row in rows:
            producer = json.loads(row["finding"]).get("producer_id") if controls[row["control"]] else None
            found[producer].add(row["control"])
        return found

    def check_outcome(self, oracle, producer, reasons, findings, issued, is_new):
        """Issued with the oracle's amounts, or held back by a control that the facts explain."""
        period = oracle.month.text
        why = [reason for reason in reasons if reason.producer in (None, producer)]
        held_by = findings[None] | findings[producer]
        rows = [row for row in self.register.values() if (row["period"], row["producer_id"]) == (period, producer)]
        if held_by:
            expected = set().union(*(reason.controls for reason in why)) if why else set()
            if not held_by & expected:
                raise Failed(
                    f"{producer} of {period} is held back by {held_by}; the facts only explain {why}\n{issued.text[-3000:]}"
                )
            if is_new:
                raise Failed(f"{producer} of {period} was issued, although {held_by} found something")
            self.counts["statements held"] += 1
            for control in held_by:
                self.counts[f"held by {control}"] += 1
                self.held[control] += 1
            return
        if any(reason.sure for reason in why):
            raise Failed(f"nothing holds {producer} of {period} back, although {why}\n{issued.text[-3000:]}")
        if not rows:
            if any(p == producer for p, _ in oracle.bills):
                raise Failed(f"{producer} has no statement of {period}, and nothing says why\n{issued.text[-3000:]}")
            return
        self.compare_amounts(max(rows, key=lambda row: row["version"]), oracle)
        self.counts["final states compared equal"] += 1
        self.compared += 1

    def check_documents(self, month):
        folder = self.warehouse.folder / "outbox/statements" / month.text
        for number, row in self.register.items():
            if row["period"] == month.text:
                page = folder / f"{number}.html"
                if not page.exists() or not (folder / f"{number}.xlsx").exists():
                    raise Failed(f"{number} is in the register, and its page or its workbook is not in {folder}")
                if hashlib.sha256(page.read_bytes()).hexdigest() != row["page_sha256"].removeprefix("sha256:"):
                    raise Failed(f"{page} is not the page of the register")
                self.check_sums_of_documents(folder, number, Fraction(row["due"]))

    def check_sums_of_documents(self, folder, number, due):
        """The page and the e-invoices say what the register says; invoices of fees are the company's own."""
        text = re.sub(r"\s", "", (folder / f"{number}.html").read_text())
        cents = abs(int(due * 100))
        if f"{cents // 100},{cents % 100:02d}" not in text:
            raise Failed(f"{number}.html does not have the sum {euros(due)}")
        for syntax, tag in (("ubl", "cbc:PayableAmount"), ("cii", "ram:DuePayableAmount")):
            sums = {}
            for part in ("", "-CR", "-F"):
                path = folder / f"{number}{part}.{syntax}.xml"
                if path.exists():
                    sums[part] = Fraction(re.search(rf"<{tag}[^>]*>([-0-9.]+)<", path.read_text())[1])
            total = sums.get("", 0) + sums.get("-CR", 0) - sums.get("-F", 0)
            if total != due:
                raise Failed(
                    f"the {syntax} of {number} have {sums}, together {euros(Fraction(total))} in place of {euros(due)}"
                )
            self.counts["e-invoices"] += len(sums)

    # Lines.

    def found_lines(self, period):
        if not self.warehouse.has("billing.lines"):
            return []
        return self.warehouse.sql(
            "SELECT producer_id, contract_id, prm, valid_from, rule, quantity, price::text AS price, amount::text AS amount, vat, "
            f"vat_rate_pct::text AS rate, vat_amount::text AS vat_amount FROM billing.bills WHERE period = '{period}'"
        )

    def differences(self, period, oracle, producer=None):
        """Where the lines in force differ from the oracle's. A line of nothing may be left out."""
        texts = []
        found = {
            (r["producer_id"], r["contract_id"], r["prm"], r["valid_from"], r["rule"]): r
            for r in self.found_lines(period)
        }
        wanted = {
            (*contract, prm, since, rule): line
            for contract, bill in oracle.bills.items()
            for (prm, since, rule), line in bill.items()
        }
        for key in sorted(found.keys() | wanted.keys()):
            if producer in (None, key[0]):
                expected, came = self.shown(wanted.get(key)), self.shown_row(found.get(key))
                if expected != came:
                    texts.append(f"  {' '.join(key)}: expected {expected}, found {came}")
        return "\n".join(texts)

    @staticmethod
    def shown(line):
        if line is None or (line.quantity == 0 and line.amount == 0):
            return None
        vat = rounded(line.amount * line.rate / 100, 2)
        price = None if line.price is None else str(line.price)
        return line.quantity, euros(line.amount), line.vat, euros(line.rate), euros(vat), price

    @staticmethod
    def shown_row(row):
        if row is None or (row["quantity"] == 0 and Fraction(row["amount"]) == 0):
            return None
        price = None if row["price"] is None else str(Fraction(row["price"]))
        amount, rate, vat = (euros(Fraction(row[name])) for name in ("amount", "rate", "vat_amount"))
        return row["quantity"], amount, row["vat"], rate, vat, price

    def compare_bills(self, oracle):
        texts = self.differences(oracle.month.text, oracle)
        if texts:
            raise Failed(f"the lines of {oracle.month.text} differ:\n{texts}")
        self.compare_days(oracle)
        self.counts.update(
            f"line {line.rule}" for bill in oracle.bills.values() for line in bill.values() if line.quantity
        )
        self.counts["contracts compared line by line"] += len(oracle.bills)
        self.counts["contracts incomplete"] += len(oracle.incomplete)

    def compare_days(self, oracle):
        """The energy of each day, of which the charts of statements are made."""
        expected = {key: energy for key, energy in oracle.energy.items() if key[:2] in oracle.bills}
        rows = []
        if self.warehouse.has("billing.days"):
            rows = self.warehouse.sql(
                "SELECT producer_id, contract_id, prm, day, sum(energy_wh) AS energy_wh FROM billing.days "
                f"WHERE period = '{oracle.month.text}' GROUP BY 1, 2, 3, 4 HAVING sum(CASE WHEN reverses IS NULL THEN 1 ELSE -1 END) > 0"
            )
        found = {
            (row["producer_id"], row["contract_id"], row["prm"], row["day"]): int(row["energy_wh"]) for row in rows
        }
        if found != expected:
            first = next(key for key in sorted(found.keys() | expected.keys()) if found.get(key) != expected.get(key))
            raise Failed(f"billing.days has {found.get(first)} Wh for {first}, expected {expected.get(first)}")

    def check_entries(self, month):
        """The sum of all entries is what is in force, and each reversal takes one entry back."""
        if not self.warehouse.has("billing.lines"):
            return
        rows = self.warehouse.sql(
            "SELECT document, entry, reverses, producer_id, contract_id, prm, valid_from, rule, quantity, amount::text AS amount, "
            f"vat_amount::text AS vat_amount FROM billing.lines WHERE period = '{month.text}'"
        )
        entries, reversed_by, sums = {}, {}, collections.defaultdict(lambda: [0, Fraction(0), Fraction(0)])
        for row in rows:
            if entries.setdefault((row["document"], row["entry"]), row) is not row:
                raise Failed(f"an entry is there twice: {row}")
            values = [row["quantity"], Fraction(row["amount"]), Fraction(row["vat_amount"])]
            key = row["producer_id"], row["contract_id"], row["prm"], row["valid_from"], row["rule"]
            sums[key] = [a + b for a, b in zip(sums[key], values)]
        for row in rows:
            if row["reverses"] is not None:
                taken = entries.get((row["document"], row["reverses"]))
                if taken is None or reversed_by.setdefault((row["document"], row["reverses"]), row) is not row:
                    raise Failed(f"a reversal of no entry, or a second one: {row}")
                if row["quantity"] != -taken["quantity"] or Fraction(row["amount"]) != -Fraction(taken["amount"]):
                    raise Failed(f"a reversal is not the negative of its entry: {row}, {taken}")
        bills = {
            (r["producer_id"], r["contract_id"], r["prm"], r["valid_from"], r["rule"]): [
                r["quantity"],
                Fraction(r["amount"]),
                Fraction(r["vat_amount"]),
            ]
            for r in self.found_lines(month.text)
        }
        for key in sums.keys() | bills.keys():
            if sums.get(key, [0, 0, 0]) != bills.get(key, [0, 0, 0]):
                raise Failed(f"the entries of {key} add up to {sums.get(key)}, and in force is {bills.get(key)}")
        self.counts["entries"] += len(rows)
        self.counts["reversals"] += len(reversed_by)


# --------------------------------------------------------------------------------------------------------------- main


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wattlake", type=Path, required=True, help="the binary")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the warehouses")
    parser.add_argument("--seed", type=int, default=1, help="of the first sequence")
    parser.add_argument("--sequences", type=int, default=10)
    parser.add_argument("--keep", action="store_true", help="keeps the folders of sequences that passed, too")
    parser.add_argument("--prepared", type=Path, help="a warehouse to copy, with its layers, in place of a new one")
    parser.add_argument(
        "--with-mistake",
        action="store_true",
        help="prices of the oracle are 0.0001 too high: every sequence with a bill must fail",
    )
    given = parser.parse_args()
    # A stop by SIGTERM leaves no running job behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = given.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    template = work / f"template-{os.getpid()}"
    if given.prepared:
        prepared = Warehouse(given.wattlake.absolute(), given.prepared.absolute())
    else:
        prepared = Warehouse.prepare(given.wattlake.absolute(), template)
    counts, failed = collections.Counter(), 0
    try:
        for seed in range(given.seed, given.seed + given.sequences):
            failed += not one_sequence(seed, prepared, work, counts, given)
    finally:
        shutil.rmtree(template, ignore_errors=True)
    for name, count in sorted(counts.items()):
        print(f"{count:8} {name}")
    print(f"{given.sequences} sequences, {failed} failed")
    sys.exit(1 if failed else 0)


def one_sequence(seed, prepared, work, counts, given):
    folder, begun = work / f"seed-{seed}", time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    sequence = Sequence(seed, prepared.copy(folder), counts, int(given.with_mistake))
    try:
        sequence.run()
    except Exception as error:
        print(f"seed {seed}: FAILED; its warehouse is {folder}")
        print("\n".join(f"    {line}" for line in sequence.history))
        print(error if isinstance(error, Failed) else traceback.format_exc(), flush=True)
        return False
    held = ", ".join(f"{control} {count}" for control, count in sorted(sequence.held.items()))
    print(
        f"seed {seed}: {'+'.join(month.text for month in sequence.months)}, {len(sequence.history)} steps, "
        f"{len(sequence.register)} statements, {sequence.compared} final states equal"
        + (f", held: {held}" if held else "") + f"; {time.monotonic() - begun:.0f} s",
        flush=True,
    )  # fmt: skip
    if not given.keep:
        shutil.rmtree(folder)
    return True


if __name__ == "__main__":
    main()
