"""``consumer.framing.timestamps``: from what a header says to a moment, or to none."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from babel import localedata
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.clock import isoformat, local_zone, zone_of
from consumer.framing import months
from consumer.framing.timestamps import LOOK_AHEAD, Timestamps
from tests.budget import examples

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def us(*parts: int, micros: int = 0, zone: tzinfo = UTC) -> int:
    """Return a moment in microseconds since 1970 UTC."""
    return int(datetime(*parts, tzinfo=zone).timestamp()) * 1_000_000 + micros  # type: ignore[arg-type,misc]


def read(stamp: str, *, zone: tzinfo = UTC, reference: datetime = NOW, first_year: int | None = None) -> int | None:
    """Read one stamp, with nothing before it."""
    return Timestamps(reference, zone, first_year).microseconds(stamp)


TEN = us(2026, 11, 22, 10, 0, 7)

#: What the stamps of every framing mean where the zone that was asked for is UTC.
FORMS: dict[str, int | None] = {
    "2026-11-22T10:00:07.892585+00:00": TEN + 892_585,
    "2026-11-22T10:00:07.892585Z": TEN + 892_585,
    "2026-11-22T10:00:07Z": TEN,
    "2026-11-22T10:00:07": TEN,
    "2026-11-22 10:00:07": TEN,
    "2026-11-22T10:00:07.5": TEN + 500_000,
    "2026-11-22T10:00:07,892": TEN + 892_000,
    "2026-11-22T10:00:07.892585123Z": TEN + 892_585,
    "2026-11-22T10:00:07+0000": TEN,
    "2026-11-22T11:00:07+0100": TEN,
    "2026-11-22T11:00:07+01:00": TEN,
    "2026-11-22T04:30:07.000001-05:30": TEN + 1,
    "2026-11-22 04:00:07.801612-0600": TEN + 801_612,
    "Sun 2026-11-22 10:00:07 UTC": TEN,
    "Sun 2026-11-22 10:00:07 GMT": TEN,
    "1795341607.831349": TEN + 831_349,
    "1795341607": TEN,
    "Nov 22 10:00:07": TEN,
    "Nov 22 10:00:07.892585": TEN + 892_585,
    "Nov 22 2024 10:00:07": us(2024, 11, 22, 10, 0, 7),
    "Nov 22 10:00:07 2024": us(2024, 11, 22, 10, 0, 7),
    "Nov  2 10:00:07": us(2026, 11, 2, 10, 0, 7),
    "Nov 02 10:00:07": us(2026, 11, 2, 10, 0, 7),
    "2024 Nov 22 10:00:07": us(2024, 11, 22, 10, 0, 7),
    "nov 22 10:00:07": TEN,
    # A leap second is the first of the next minute.
    "2016-12-31T23:59:60Z": us(2017, 1, 1),
    "2016-12-31T23:59:60.250000+00:00": us(2017, 1, 1) + 250_000,
    "Dec 31 23:59:60 2016": us(2017, 1, 1),
    # No such moment.
    "2026-02-29T10:00:00+00:00": None,
    "2026-11-31T10:00:00Z": None,
    "2026-13-01T10:00:00Z": None,
    "2026-11-22T24:00:00Z": None,
    "2026-11-22T10:60:00Z": None,
    "2026-11-22T10:00:61Z": None,
    "2026-11-22T10:00:07+25:00": None,
    "0000-01-01T00:00:00Z": None,
    "Nov 31 10:00:07": None,
    "Nvo 22 10:00:07": None,
    "22 10:00:07": None,
    "13\xe6\x9c\x88 22 10:00:07": None,  # there is no thirteenth month
    "0\xe6\x9c\x88 22 10:00:07": None,
    "": None,
    "-": None,
    "yesterday": None,
    # What rsyslog 8.2302 makes of a fraction of nine digits.
    "2026-11-22T10:00:07.\xb289Z": None,
    "2026-11-22T10:00:07.\x8189+00:00": None,
    "2026-11-22T10:00:07.Z": None,
    "2026-11-22T10:00:07.12x456Z": None,
    "2026-11-22T10:00:07.1234567890Z": None,
}


@pytest.mark.parametrize(("stamp", "moment"), FORMS.items())
def test_every_form(stamp: str, moment: int | None) -> None:
    """Each form of a stamp names its moment; one that names none gives None, and never an exception."""
    assert read(stamp) == moment


@pytest.mark.parametrize(
    ("stamp", "utc"),
    [
        ("2026-07-01T12:00:00", us(2026, 7, 1, 10)),  # summer
        ("2026-11-22T12:00:00", us(2026, 11, 22, 11)),  # winter
        ("Jul  1 12:00:00", us(2026, 7, 1, 10)),
        ("Nov 22 12:00:00", us(2026, 11, 22, 11)),
        ("2026-07-01T12:00:00Z", us(2026, 7, 1, 12)),  # what is said in the stamp wins
        ("Wed 2026-07-01 12:00:00 CEST", us(2026, 7, 1, 10)),
        ("Sun 2026-11-22 12:00:00 CET", us(2026, 11, 22, 11)),
        ("Sun 2026-11-22 12:00:00 UTC", us(2026, 11, 22, 12)),
        ("1795341607", TEN),
    ],
)
def test_the_zone_is_of_stamps_that_name_none(stamp: str, utc: int) -> None:
    """A stamp without a zone is local time of the zone that was asked for, daylight saving included."""
    assert read(stamp, zone=BERLIN) == utc


@pytest.mark.parametrize(
    ("stamp", "utc"),
    [("Sun 2026-11-22 09:00:07 -03", us(2026, 11, 22, 12, 0, 7)), ("Sun 2026-11-22 15:45:07 +0545", TEN)],
)
def test_zones_without_letters(stamp: str, utc: int) -> None:
    """``journalctl -o short-full`` names zones that have no letters by their offset: São Paulo is -03, Kathmandu +0545."""
    assert read(stamp) == utc


@pytest.mark.parametrize("zone", [BERLIN, ZoneInfo("America/New_York"), local_zone(), timezone(timedelta(hours=5, minutes=45))])
def test_hours_that_do_not_exist_or_come_twice(zone: tzinfo) -> None:
    """Around a change of daylight saving every stamp has a moment, within an hour of what was meant."""
    for month, day in [(3, 29), (10, 25), (3, 8), (11, 1)]:
        for hour in range(5):
            stamp = f"2026-{month:02d}-{day:02d}T{hour:02d}:30:00"
            moment = read(stamp, zone=zone)
            plain = datetime(2026, month, day, hour, 30, tzinfo=zone)
            assert moment is not None
            assert abs(moment - int(plain.timestamp()) * 1_000_000) <= 3_600_000_000


def test_the_repeated_hour_keeps_its_order() -> None:
    """The hour that comes twice is read as its first pass: lines within it keep their distances."""
    stamps = Timestamps(NOW, BERLIN)
    first, second = stamps.microseconds("Oct 25 02:10:00"), stamps.microseconds("Oct 25 02:50:30")
    assert first == us(2026, 10, 25, 0, 10)
    assert second == us(2026, 10, 25, 0, 50, 30)


@pytest.mark.parametrize(
    ("stamp", "reference", "moment"),
    [
        ("Dec 31 23:59:59", datetime(2026, 1, 2, tzinfo=UTC), us(2025, 12, 31, 23, 59, 59)),
        ("Jan  2 09:00:00", datetime(2026, 1, 2, 8, tzinfo=UTC), us(2026, 1, 2, 9)),
        # One day of look-ahead, and not a second more.
        ("Jan  3 08:00:00", datetime(2026, 1, 2, 8, tzinfo=UTC), us(2026, 1, 3, 8)),
        ("Jan  3 08:00:01", datetime(2026, 1, 2, 8, tzinfo=UTC), us(2025, 1, 3, 8, 0, 1)),
        # Written at midnight by a clock that runs ahead.
        ("Jan  1 00:00:01", datetime(2025, 12, 31, 23, 59, tzinfo=UTC), us(2026, 1, 1, 0, 0, 1)),
        # A leap day belongs to the last year that has one.
        ("Feb 29 10:00:00", datetime(2026, 11, 23, tzinfo=UTC), us(2024, 2, 29, 10)),
        ("Feb 29 10:00:00", datetime(2024, 2, 28, 12, tzinfo=UTC), us(2024, 2, 29, 10)),
        ("Feb 29 10:00:00", datetime(2024, 2, 28, 9, tzinfo=UTC), us(2020, 2, 29, 10)),
        ("Feb 29 10:00:00", datetime(2103, 6, 1, tzinfo=UTC), us(2096, 2, 29, 10)),
        ("Feb 30 10:00:00", datetime(2026, 6, 1, tzinfo=UTC), None),
        # A leap second does not move a line into another year.
        ("Dec 31 23:59:60", datetime(2017, 1, 1, tzinfo=UTC), us(2017, 1, 1)),
    ],
)
def test_the_year_is_the_latest_that_is_not_in_the_future(stamp: str, reference: datetime, moment: int | None) -> None:
    """Without a year, a stamp lies at most a day after the file's last change, and as little as possible before it."""
    assert timedelta(days=1) == LOOK_AHEAD
    assert read(stamp, reference=reference) == moment


@pytest.mark.parametrize(
    ("first_year", "stamps", "years"),
    [
        (2023, ["Nov 30 10:00:00", "Dec 31 23:59:59", "Jan  1 00:00:00", "Jun  1 00:00:00"], [2023, 2023, 2024, 2024]),
        (2020, ["Feb 29 10:00:00", "Mar  1 00:00:00"], [2020, 2020]),
        (2023, ["Jan  1 00:00:02", "Dec 31 23:59:59", "Jan  1 00:00:03"], [2023, 2022, 2023]),  # out of order
        (2023, ["Mar  1 00:00:00", "Feb 28 23:59:59", "Mar  1 00:00:01"], [2023, 2023, 2023]),
        (2020, ["Dec 31 10:00:00", "Jan  1 10:00:00", "Dec 31 10:00:00", "Jan  1 10:00:00"], [2020, 2021, 2020, 2021]),
        (2019, ["Dec  8 10:00:00", "Jan  7 10:00:00", "Dec  8 10:00:00", "Jan  7 10:00:00"], [2019, 2020, 2019, 2020]),
        (2019, ["Nov  1 10:00:00", "Feb 29 10:00:00", "Nov  1 10:00:00"], [2019, 2020, 2019]),
        (2019, ["Jan  2 10:00:00", "Nov  2 10:00:00", "Nov  3 10:00:00", "Jan  1 10:00:00"], [2019, 2019, 2019, 2020]),  # a gap
    ],
)
def test_the_year_follows_the_months(first_year: int, stamps: list[str], years: list[int]) -> None:
    """With the year of the first line given, later ones follow the months: a jump of half a year is a new year, or back."""
    timestamps = Timestamps(NOW, UTC, first_year)
    read_years = []
    for stamp in stamps:
        moment = timestamps.microseconds(stamp)
        assert moment is not None
        read_years.append(datetime.fromtimestamp(moment // 1_000_000, UTC).year)
    assert read_years == years


#: The months of a year as glibc 2.36 abbreviates them, which is what ``journalctl -o short`` writes.
MONTHS = {
    "de_DE": "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "de_AT": "Jän Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "fr_FR": "janv. févr. mars avril mai juin juil. août sept. oct. nov. déc.",
    "pl_PL": "sty lut mar kwi maj cze lip sie wrz paź lis gru",
    "hr_HR": "sij velj ožu tra svi lip srp kol ruj lis stu pro",
    "sv_SE": "jan feb mar apr maj jun jul aug sep okt nov dec",
    "es_ES": "ene feb mar abr may jun jul ago sep oct nov dic",
    "it_IT": "gen feb mar apr mag giu lug ago set ott nov dic",
    "pt_BR": "jan fev mar abr mai jun jul ago set out nov dez",
    "nl_NL": "jan feb mrt apr mei jun jul aug sep okt nov dec",
    "ru_RU": "янв фев мар апр мая июн июл авг сен окт ноя дек",
    "nb_NO": "jan. feb. mars april mai juni juli aug. sep. okt. nov. des.",
    "fi_FI": "tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu",
    "hu_HU": "jan febr márc ápr máj jún júl aug szept okt nov dec",
    "tr_TR": "Oca Şub Mar Nis May Haz Tem Ağu Eyl Eki Kas Ara",
    "el_GR": "Ιαν Φεβ Μαρ Απρ Μαΐ Ιουν Ιουλ Αυγ Σεπ Οκτ Νοε Δεκ",
    "uk_UA": "січ лют бер кві тра чер лип сер вер жов лис гру",
    "ca_ES": "de_gen. de_febr. de_març d’abr. de_maig de_juny de_jul. d’ag. de_set. d’oct. de_nov. de_des.",
    "th_TH": "ม.ค. ก.พ. มี.ค. เม.ย. พ.ค. มิ.ย. ก.ค. ส.ค. ก.ย. ต.ค. พ.ย. ธ.ค.",
    "ja_JP": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
    "vi_VN": "Thg_1 Thg_2 Thg_3 Thg_4 Thg_5 Thg_6 Thg_7 Thg_8 Thg_9 Thg_10 Thg_11 Thg_12",
    "ar_SA": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
}


def logged(month: str) -> str:
    """Return a month's name as a log has it, one character a byte."""
    return month.replace("_", " ").encode().decode("latin-1")


@pytest.mark.parametrize("locale", MONTHS)
def test_months_in_other_languages(locale: str) -> None:
    """A year of journalctl's short output is read in any language: each month, its dot and its case, by name or by number."""
    timestamps = Timestamps(NOW, UTC)
    read_months = [timestamps.microseconds(f"{logged(month)} 05 10:00:07") for month in MONTHS[locale].split()]
    assert read_months == [us(2025 if month > 11 else 2026, month, 5, 10, 0, 7) for month in range(1, 13)]


@pytest.mark.parametrize("locale", MONTHS)
def test_months_of_a_single_line(locale: str) -> None:
    """One line alone names its moment, in any language; only Croatian needs a second line to be told from Polish and Czech."""
    for number, month in enumerate(MONTHS[locale].split(), 1):
        expected = us(2025 if number > 11 else 2026, number, 5, 10, 0, 7)
        for form in (month, month.upper(), month.removesuffix(".")):
            if (form.lower(), locale) not in {("lip", "hr_HR"), ("srp", "hr_HR"), ("lis", "hr_HR")}:
                assert read(f"{logged(form)} 05 10:00:07") == expected, form


def test_a_month_of_two_meanings() -> None:
    """``lis`` is October in Croatian, November in Polish: the file's other names tell, or else the latest past moment counts."""
    october, november = us(2026, 10, 20, 10), us(2026, 11, 20, 10)
    for before, expected in (("ruj", october), ("gru", november)):
        timestamps = Timestamps(NOW, UTC)
        timestamps.microseconds(f"{before} 20 10:00:00")
        assert timestamps.microseconds("lis 20 10:00:00") == expected
    assert read("lis 20 10:00:00") == november
    assert read("lis 20 10:00:00", reference=datetime(2026, 11, 1, tzinfo=UTC)) == october


def test_months_in_iso_8859() -> None:
    """A month of a locale in ISO 8859-1 is read too: its bytes are not UTF-8."""
    assert read("M\xe4r 05 10:00:07") == us(2026, 3, 5, 10, 0, 7)


def test_the_data_of_all_languages_is_not_kept() -> None:
    """Babel keeps what it has read, 170 MB of it; only the names stay with us."""
    months._names.cache_clear()
    months.months_of.cache_clear()
    before = set(localedata._cache)
    assert read("Mai 05 10:00:07") == us(2026, 5, 5, 10, 0, 7)
    assert set(localedata._cache) <= before


def test_english_months_need_no_other_language() -> None:
    """Babel, which takes half a second and the data of all languages, is not imported for what everybody has."""
    code = (
        "import sys; from datetime import UTC, datetime; from consumer.framing.timestamps import Timestamps; "
        "t = Timestamps(datetime.now(UTC), UTC); {}; sys.exit('babel' in sys.modules)"
    )
    for stamp, is_imported in (("Nov 22 10:00:07", False), ("nov. 22 10:00:07", True)):
        done = subprocess.run([sys.executable, "-c", code.format(f"t.microseconds({stamp!r})")], check=False)
        assert bool(done.returncode) == is_imported


def test_a_leap_day_of_the_given_year_that_has_none() -> None:
    """``--year`` is taken at its word: Feb 29 of a year without one is no moment, and what follows is read on."""
    timestamps = Timestamps(NOW, UTC, 2026)
    assert timestamps.microseconds("Feb 29 10:00:00") is None
    assert timestamps.microseconds("Mar  1 10:00:00") == us(2026, 3, 1, 10)


def test_a_year_in_the_stamp_wins() -> None:
    """A year that is written is not guessed, before or behind the time."""
    assert read("Nov 22 2019 10:00:07", first_year=2024) == us(2019, 11, 22, 10, 0, 7)
    assert read("Nov 22 10:00:07 2019", first_year=2024) == us(2019, 11, 22, 10, 0, 7)


def test_a_leap_second_does_not_move_its_minute() -> None:
    """Lines of the minute that had a leap second stay where they are, also when they come after it."""
    timestamps = Timestamps(NOW, UTC)
    leap = timestamps.microseconds("2016-12-31T23:59:60.000000Z")
    late = timestamps.microseconds("2016-12-31T23:59:58.500000Z")
    assert (leap, late) == (us(2017, 1, 1), us(2016, 12, 31, 23, 59, 58) + 500_000)


@pytest.mark.parametrize("digit", ["\xb2", "\xb3", "\xb9"])
def test_a_damaged_fraction_in_a_known_minute(digit: str) -> None:
    """A byte that Python calls a digit, but no number, gives None, and not an exception, whatever came before."""
    timestamps = Timestamps(NOW, UTC)
    assert timestamps.microseconds("2026-11-22T10:00:07.892585+00:00") == TEN + 892_585
    assert timestamps.microseconds(f"2026-11-22T10:00:07.89{digit}585+00:00") is None
    assert timestamps.microseconds("Nov 22 10:00:07") == TEN
    assert timestamps.microseconds(f"Nov 22 10:00:0{digit}") is None


STAMPS = st.one_of(
    st.sampled_from(list(FORMS)),
    st.builds(
        lambda second, fraction, zone: f"2026-11-22T10:00:{second}{fraction}{zone}",
        st.sampled_from(["00", "07", "59", "60", "61", "0\xb2"]),
        st.sampled_from(["", ".8", ".892", ".892585", ".8925851", ".89\xb2585", ".89258x"]),
        st.sampled_from(["", "Z", "+00:00", "+0000", "-05:00", "+01:00", ":00"]),
    ),
    st.builds(lambda second: f"Nov 22 10:00:{second}", st.sampled_from(["00", "07", "59", "60", "61", "\xb25"])),
)


@examples(600)
@given(st.lists(STAMPS, min_size=2, max_size=4), st.data())
def test_a_stamp_means_the_same_whatever_came_before(stamps: list[str], data: st.DataObject) -> None:
    """What is remembered for speed changes nothing: a stamp is read as if it stood alone."""
    positions = st.integers(0, 40)
    mutated = [
        stamp[: (at := data.draw(positions))] + data.draw(st.sampled_from(["", "0", "9", "\xb2", ":", "."])) + stamp[at + 1 :]
        if data.draw(st.booleans())
        else stamp
        for stamp in stamps
    ]
    timestamps = Timestamps(NOW, BERLIN)
    assert [timestamps.microseconds(stamp) for stamp in mutated] == [read(stamp, zone=BERLIN) for stamp in mutated]


@examples(400)
@given(
    st.one_of(
        st.text(st.characters(max_codepoint=255), max_size=40),
        st.from_regex(
            r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](Z|[+-][0-2][0-9]:[0-5][0-9])?", fullmatch=True
        ),
    )
)
@example("0001-01-01T00:00:00+05:00")
@example("9999-12-31T23:59:59-05:00")
@example("9999-12-31T23:59:60Z")
@example("99999999999.999999999")
def test_any_stamp_is_a_moment_that_can_be_written_or_none(stamp: str) -> None:
    """No stamp raises, and each moment that is given can be written as RFC 3339."""
    moment = read(stamp)
    if moment is not None:
        text = isoformat(moment)
        assert text.endswith("Z")
        assert len(text) == len("2026-11-22T10:00:07.892585Z")


@examples(300)
@given(st.datetimes(datetime(1970, 1, 1), datetime(2099, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001 - given a zone below
def test_what_is_written_is_read_back(moment: datetime, offset: int) -> None:
    """RFC 3339 with any offset names the moment it was made of, and ``isoformat`` writes the same one."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    found = read(aware.isoformat())
    assert found == expected
    if expected >= 0:
        assert read(isoformat(expected)) == expected


@pytest.mark.parametrize(
    ("name", "offset_s"),
    [("UTC", 0), ("Z", 0), ("+02:00", 7200), ("-0530", -19800), ("Asia/Tokyo", 32400), ("Europe/Berlin", 3600)],
)
def test_zone_names(name: str, offset_s: int) -> None:
    """A zone is named by the tz database, as UTC, or by an offset."""
    offset = zone_of(name).utcoffset(datetime(2026, 11, 22, tzinfo=zone_of(name)))
    assert offset == timedelta(seconds=offset_s)


@pytest.mark.parametrize("name", ["", "Mars", "../etc/passwd", "+2", "+99:00", "Europe", "\0"])
def test_zones_that_do_not_exist(name: str) -> None:
    """What is no zone is said so with a ValueError, whatever was typed."""
    with pytest.raises(ValueError, match=r"."):
        zone_of(name)


def test_the_local_zone_is_the_machines() -> None:
    """The machine's own zone gives what its clock says, in summer and in winter."""
    for month in (1, 7):
        moment = datetime(2026, month, 15, 12, tzinfo=UTC)
        assert moment.astimezone(local_zone()).replace(tzinfo=None) == moment.astimezone().replace(tzinfo=None)


@pytest.mark.parametrize("between", ["okt 17 12:00:00", "Oct 32 12:00:00", "Oct 17 12:00:00.123"])
def test_a_remembered_hour_is_forgotten_at_any_other_stamp(between: str) -> None:
    """The same hour after it is in the next year: what sshbell remembers must not hide that."""
    timestamps = Timestamps(datetime(2026, 12, 31, tzinfo=UTC), UTC, 2023)
    found = [timestamps.microseconds(stamp) for stamp in ("Jan  1 00:00:01", "Jan  1 00:00:01", between, "Jan  1 00:00:01")]
    year = 365 * 86_400_000_000
    assert found[0] == found[1]
    assert found[3] is not None
    assert found[0] is not None
    assert found[3] - found[0] == year
