"""
The time of a record, in microseconds since 1970 UTC, from what stands in its header.

Years and zones are settled here and nowhere else. A stamp is self-describing:

* ``2026-11-22T09:47:07.892585+00:00`` and its relatives (blank for T; no zone, Z, +0000; 0 to 9 fraction digits);
* ``Nov 22 09:47:07`` with no year, or with one before the month, before or behind the time; local time of the machine that wrote
  the file. The month may stand in another language (``months.py``);
* ``Sun 2026-11-22 09:57:28 UTC`` (journalctl short-full);
* ``1795341448.831349`` (seconds since 1970).

A stamp that names no possible moment (Feb 29 of another year, a damaged fraction) gives None: the record is kept, without a time.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo

from consumer.framing.months import months_of

_MONTHS = {
    name: n for n, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1)
}
_ISO = re.compile(
    r"(?:[A-Z][a-z]{2} )?(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)"
    r"(?:[.,](\d{1,9}))? ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?( [A-Z]{2,5})?\Z"
)
_BSD = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?:(\d{4}) )?"
    r"((?:\d{1,2})?[^\d: ][^:]*?) +(\d{1,2})(?: (\d{4}))? (\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?: (UTC|GMT))?(?: (\d{4}))?\Z"
)
_EPOCH = re.compile(r"(\d{9,11})(?:\.(\d{1,9}))?\Z")
# A line may be this much later than the file it stands in: clocks differ, and zones may have been guessed wrong.
LOOK_AHEAD = timedelta(days=1)
# A fall of so many months inside a file is a new year; smaller ones are lines out of order.
_ROLL_OVER_MONTHS = 6
# A day behind the begin of the year 1, and a day before the end of 9999: outside, not every zone can write the date.
_BEGIN_US = -62_135_596_800_000_000 + 86_400_000_000
_END_US = 253_402_300_800_000_000 - 86_400_000_000
# Offsets to remember; a file has one or two.
_ZONE_LIMIT = 64


class Timestamps:
    """
    Turns the stamps of one file, in order, into microseconds.

    Args:
        reference: when the file was last written to, or now. A stamp without a year gets the latest year in which it is not later
            than this, plus one day.
        zone: of stamps that name none.
        first_year: the year of the first stamp without one; later ones follow the months.
    """

    def __init__(self, reference: datetime, zone: tzinfo, first_year: int | None = None) -> None:
        self._latest = reference + LOOK_AHEAD
        self._zone = zone
        self._year = first_year
        self._month = self._day = self._turns = 0
        self._languages = frozenset[str]()  # in which all names of months so far have a meaning; empty: any
        self._minute = "none"
        self._rest = ""
        self._start = 0
        self._zones: dict[str, tzinfo] = {}

    def set_reference(self, reference: datetime) -> None:
        """Move on with the clock, so that a process that runs over New Year knows the year."""
        self._latest = reference + LOOK_AHEAD

    def microseconds(self, stamp: str) -> int | None:
        """Return the moment that ``stamp`` names, or None."""
        # This is on the way of every line, and lines of one minute differ in seconds and fraction alone: "07.892585", "07".
        if stamp[:17] == self._minute:
            digits = stamp[17:19] + stamp[20:26]
            if stamp[26:] == self._rest and stamp[19:20] == "." and digits.isdecimal() and len(digits) == 8 and digits < "60":
                return self._start + int(digits)
        elif stamp[:13] == self._minute:
            digits = stamp[13:]
            if len(digits) == 2 and digits.isdecimal() and digits < "60":
                return self._start + int(digits) * 1_000_000
        try:
            moment = self._parse(stamp)
        except (ValueError, OverflowError):
            return None
        if moment is None or not _BEGIN_US <= moment < _END_US:
            return None
        self._remember(stamp, moment)
        return moment

    def _remember(self, stamp: str, moment: int) -> None:
        """Note the minute of a stamp in one of the two common forms, so that others in it need not be parsed."""
        if stamp[13:15] == "60" or stamp[17:19] == "60":
            return  # a leap second belongs to the next minute
        if stamp[10:11] == "T" and stamp[19:20] == "." and stamp[20:26].isdecimal() and len(stamp) >= 26:
            self._minute, self._rest = stamp[:17], stamp[26:]
        elif len(stamp) == 15 and stamp[12] == ":":
            self._minute = stamp[:13]
        else:
            return
        self._start = moment - moment % 60_000_000

    def _parse(self, stamp: str) -> int | None:
        if match := _ISO.match(stamp):
            year, month, day, hour, minute, second, fraction, zone, _name = match.groups()
            return _epoch(int(year), int(month), int(day), int(hour), int(minute), int(second), fraction, self._offset(zone))
        if match := _BSD.match(stamp):
            year_first, name, day, year_before, hour, minute, second, fraction, zone, year_behind = match.groups()
            rest = int(day), int(hour), int(minute), int(second)
            number = _MONTHS.get(name) or self._month_of(name, *rest)
            if number is None:
                return None
            given = year_first or year_before or year_behind
            date = number, *rest
            year = int(given) if given else self._year_of(*date)
            return None if year is None else _epoch(year, *date, fraction, self._offset(zone))
        if match := _EPOCH.match(stamp):
            return int(match[1]) * 1_000_000 + _fraction(match[2])
        return None

    def _offset(self, zone: str | None) -> tzinfo:
        if not zone:
            return self._zone
        if zone in {"Z", "UTC", "GMT"}:
            return UTC
        found = self._zones.get(zone)
        if found is None:
            if len(self._zones) >= _ZONE_LIMIT:
                self._zones.clear()
            # Not strptime: at its first call it imports a module, when the process may no longer be able to read a file.
            found = self._zones[zone] = datetime.fromisoformat(f"1970-01-01T00:00{zone}").tzinfo or UTC
        return found

    def _year_of(self, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
        if self._year is not None:
            if self._month - month >= _ROLL_OVER_MONTHS:
                self._year += 1
                self._turns += 1
            elif self._month and month - self._month >= _ROLL_OVER_MONTHS:
                # Out of order: the year had turned for a single line, or turns now. In the first year it is a gap.
                is_turning = self._month == 1 and month == 12 and self._day <= day
                if self._turns > 0 or is_turning:
                    self._year -= 1
                    self._turns -= 1
            self._month, self._day = month, day
            return self._year
        latest = self._latest_of(month, day, hour, minute, second)
        return None if latest is None else latest.year

    def _latest_of(self, month: int, day: int, hour: int, minute: int, second: int) -> datetime | None:
        """Return the latest moment that a stamp without a year can mean; None where there is none."""
        # Eight years back are enough for Feb 29, also around 1900 and 2100.
        for year in range(self._latest.year, self._latest.year - 9, -1):
            try:
                moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=self._zone)
            except ValueError:
                continue
            if moment <= self._latest:
                return moment
        return None

    def _month_of(self, name: str, day: int, hour: int, minute: int, second: int) -> int | None:
        """
        Return the month of a name that is not English.

        Where it means two, the other names in the file tell the language. Before there are any, the latest moment counts that
        is not yet to come.
        """
        months = months_of(name)
        known = {month: languages for month, languages in months.items() if languages & self._languages} or months
        if len(known) == 1:
            ((month, languages),) = known.items()
            self._languages = languages & self._languages or languages
            return month
        moments = [(moment, month) for month in known if (moment := self._latest_of(month, day, hour, minute, second))]
        return max(moments)[1] if moments else None


def _epoch(year: int, month: int, day: int, hour: int, minute: int, second: int, fraction: str | None, zone: tzinfo) -> int:
    leap = second == 60  # a leap second is the first of the next minute
    moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=zone)
    return (int(moment.timestamp()) + leap) * 1_000_000 + _fraction(fraction)


def _fraction(digits: str | None) -> int:
    return int(f"{digits:0<6}"[:6]) if digits else 0
