"""
The time of a record, in microseconds since 1970 UTC, from the stamp in its header.

Only this module decides about years and zones. A stamp has one of these forms:

* ``2026-11-22T09:47:07.892585+00:00`` and its variants (blank for T; no zone, Z, +0000; 0 to 9 fraction digits);
* ``Nov 22 09:47:07`` without a year, or with one before the month, before or after the time; in the local time of the machine
  that wrote the file. The month may be in another language (``months.py``);
* ``Sun 2026-11-22 09:57:28 UTC`` (journalctl short-full);
* ``1795341448.831349`` (seconds since 1970).

An impossible stamp (Feb 29 of a year without one, a damaged fraction) gives None: sshbell keeps the record, without a time.
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
# The two common forms: up to the hour, minutes and seconds, fraction, zone.
_WITH_HOUR = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:)(\d\d:\d\d)(?:\.(\d{6}))?(|Z|[+-]\d\d:?\d\d)\Z"
)
_SIXTY = [f"{number:02d}" for number in range(60)]
_WITHIN_HOUR = {
    f"{m}:{s}": (60 * minute + second) * 1_000_000 for minute, m in enumerate(_SIXTY) for second, s in enumerate(_SIXTY)
}
# A line may be this much later than its file: clocks differ, and the guess of the zone may be wrong.
LOOK_AHEAD = timedelta(days=1)
# If the month falls by this many within a file, a new year has begun. After a smaller fall, the lines are only out of order.
_ROLL_OVER_MONTHS = 6
# A day after the beginning of the year 1, and a day before the end of 9999: outside, some zones cannot express the date.
_BEGIN_US = -62_135_596_800_000_000 + 86_400_000_000
_END_US = 253_402_300_800_000_000 - 86_400_000_000
# Zone offsets to remember; a file has one or two.
_ZONE_LIMIT = 64

# The year, month and day of the last stamp without a year, and how often the year has turned since the first.
Reached = tuple[int, int, int, int]
# What the meaning of a stamp can depend on: where the stamps before it have got to (None if their order decides no year), and the
# languages of their months.
StampState = tuple[Reached | None, frozenset[str]]
# What the stamps of a block did depend on: the month and day of the first one whose year the order decided, and whether the name
# of a month was in another language than English.
Needed = tuple[tuple[int, int] | None, bool]


class Timestamps:
    """
    Turns the stamps of one file, in order, into microseconds.

    Args:
        reference: when the file was last written to, or now. A stamp without a year gets the latest year that puts it no later
            than one day after this.
        zone: for stamps without one.
        first_year: the year of the first stamp without one. For later stamps, the order of the months decides.
    """

    def __init__(self, reference: datetime, zone: tzinfo, first_year: int | None = None) -> None:
        self._latest = reference + LOOK_AHEAD
        self._zone = zone
        self._reached: Reached | None = None if first_year is None else (first_year, 0, 0, 0)
        self._languages = frozenset[str]()  # those that have all names of months so far; empty: any
        self._first: tuple[int, int] | None = None
        self._is_foreign = False
        # The hour of the last stamp, the moment of its beginning, and the zone after the time.
        self._hour = "none"
        self._width = len(self._hour)
        self._length = 0  # of a whole stamp with microseconds
        self._start = 0
        self._rest = ""
        self._zones: dict[str, tzinfo] = {}

    def set_reference(self, reference: datetime) -> None:
        """Follow the clock, so that a process that runs over New Year knows the year."""
        self._latest = reference + LOOK_AHEAD
        self._hour = "none"  # its year may be another one now

    def begin(self, reference: datetime, state: StampState) -> None:
        """Go on behind other stamps, perhaps those of another file, which left ``state``."""
        self.set_reference(reference)
        self._reached, self._languages = state
        self._first, self._is_foreign = None, False

    @property
    def state(self) -> StampState:
        """What the next stamp can depend on."""
        return self._reached, self._languages

    @property
    def needed(self) -> Needed:
        """What the stamps since ``begin`` did depend on."""
        return self._first, self._is_foreign

    def microseconds(self, stamp: str) -> int | None:
        """Return the moment of ``stamp``; None if it is impossible."""
        # Every line passes here, and lines of one hour differ only in minutes, seconds and fraction: "47:07.892585", "47:07".
        width = self._width
        if stamp[:width] == self._hour:
            within = _WITHIN_HOUR.get(stamp[width : width + 5])
            if within is not None:
                if len(stamp) == self._length:
                    digits = stamp[width + 6 : width + 12]
                    if digits.isdecimal() and stamp[width + 5] == "." and stamp[width + 12 :] == self._rest:
                        return self._start + within + int(digits)
                elif stamp[width + 5 :] == self._rest:
                    return self._start + within
        self._hour = "none"  # the stamp may turn the year, even if sshbell cannot remember its hour
        try:
            moment = self._parse(stamp)
            if moment is None or not _BEGIN_US <= moment < _END_US:
                return None
            self._remember(stamp, moment)
        except (ValueError, OverflowError):
            return None
        return moment

    def _remember(self, stamp: str, moment: int) -> None:
        """Remember the hour of a stamp in one of the two common forms, so that others of that hour need no parsing."""
        found = _WITH_HOUR.match(stamp)
        within = None if found is None else _WITHIN_HOUR.get(found[2])
        if found is None or within is None:
            return  # a leap second belongs to the next minute
        hour, _clock, fraction, rest = found.groups("")
        start = moment - within - _fraction(fraction)
        # An hour in which the clock changes, or the year that a stamp without one means, has no single beginning.
        if rest or (self._parse(f"{hour}00:00") == start and self._parse(f"{hour}59:59") == start + _WITHIN_HOUR["59:59"]):
            self._hour, self._width, self._start, self._rest = hour, len(hour), start, rest
            self._length = len(f"{hour}00:00.000000{rest}")

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
            # Not strptime: its first call imports a module, and by then the process may no longer be able to read a file.
            found = self._zones[zone] = datetime.fromisoformat(f"1970-01-01T00:00{zone}").tzinfo or UTC
        return found

    def _year_of(self, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
        if self._reached is not None:
            if self._first is None:
                self._first = month, day
            self._reached = _turned(self._reached, month, day)
            return self._reached[0]
        latest = self._latest_of(month, day, hour, minute, second)
        return None if latest is None else latest.year

    def _latest_of(self, month: int, day: int, hour: int, minute: int, second: int) -> datetime | None:
        """Return the latest moment that a stamp without a year can mean; None if there is none."""
        # Going back eight years is enough for Feb 29, even around 1900 and 2100.
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

        If it can mean two, the other names in the file show the language. Before there are others, the latest moment counts that
        is not in the future.
        """
        self._is_foreign = True
        months = months_of(name)
        known = {month: languages for month, languages in months.items() if languages & self._languages} or months
        if len(known) == 1:
            ((month, languages),) = known.items()
            self._languages = languages & self._languages or languages
            return month
        moments = [(moment, month) for month in known if (moment := self._latest_of(month, day, hour, minute, second))]
        return max(moments)[1] if moments else None


def _turned(reached: Reached, month: int, day: int) -> Reached:
    """Return what a file has reached with a stamp of this month and day."""
    year, last_month, last_day, turns = reached
    if last_month - month >= _ROLL_OVER_MONTHS:
        return year + 1, month, day, turns + 1
    if last_month and month - last_month >= _ROLL_OVER_MONTHS:
        # Out of order: a single line had turned the year, or the year turns now. In the first year it is a gap.
        is_turning = last_month == 1 and month == 12 and last_day <= day
        if turns > 0 or is_turning:
            return year - 1, month, day, turns - 1
    return year, month, day, turns


def stamp_state_behind(needed: Needed, assumed: StampState, end: StampState, actual: StampState) -> StampState | None:
    """
    Return the state behind stamps that sshbell has read before the stamps in front of them.

    Args:
        needed: what they depended on.
        assumed: the state from which they were read.
        end: the state to which that led.
        actual: the state that the stamps before them left.

    Returns:
        None if behind ``actual`` they mean something else, so that they have to be read again.
    """
    first, is_foreign = needed
    (reached, languages), (reached_before, languages_before) = actual, assumed
    if is_foreign:
        if languages != languages_before:
            return None
        languages = end[1]
    if first is not None and reached is not None and reached_before is not None:
        if _turned(reached, *first) != _turned(reached_before, *first):
            return None
        reached = end[0]
    return reached, languages


def _epoch(year: int, month: int, day: int, hour: int, minute: int, second: int, fraction: str | None, zone: tzinfo) -> int:
    leap = second == 60  # a leap second is the first of the next minute
    moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=zone)
    return (int(moment.timestamp()) + leap) * 1_000_000 + _fraction(fraction)


def _fraction(digits: str | None) -> int:
    return int(f"{digits:0<6}"[:6]) if digits else 0
