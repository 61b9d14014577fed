"""Windows of the week and time zones."""

from datetime import UTC, datetime

import pytest

from common.time_windows import is_open, next_open, parse_window, time_zone

BERLIN = time_zone("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("window", "moment", "opens"),
    [
        ("22:00-06:00", "2026-01-05 23:00", "2026-01-05 23:00"),
        ("22:00-06:00", "2026-01-05 05:59", "2026-01-05 05:59"),
        ("22:00-06:00", "2026-01-05 06:00", "2026-01-05 22:00"),
        ("mon-fri 22:00-06:00", "2026-01-10 05:00", "2026-01-10 05:00"),  # Friday's window, on Saturday
        ("mon-fri 22:00-06:00", "2026-01-10 22:00", "2026-01-12 22:00"),
        ("fri-mon 09:00-10:00", "2026-01-06 08:00", "2026-01-09 09:00"),
        ("sat,sun 00:00-24:00", "2026-01-09 12:00", "2026-01-10 00:00"),
        ("03:00-04:00", "2026-03-28 12:00", "2026-03-29 03:00"),  # the clocks go forward that night
    ],
)
def test_a_window_opens_at_its_local_time(window: str, moment: str, opens: str) -> None:
    windows = [parse_window(window)]
    assert is_open(windows, BERLIN, at(moment)) == (moment == opens)
    assert next_open(windows, BERLIN, at(moment)) == at(opens)


def test_without_windows_every_moment_is_open() -> None:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    assert is_open([], BERLIN, now)
    assert next_open([], BERLIN, now) == now


def test_several_windows_open_with_the_first_of_them() -> None:
    windows = [parse_window("20:00-21:00"), parse_window("12:00-13:00")]
    assert next_open(windows, BERLIN, at("2026-01-05 14:00")) == at("2026-01-05 20:00")


@pytest.mark.parametrize(
    "text",
    ["", "22-06", "22:00", "25:00-06:00", "10:60-11:00", "10:00-24:01", "10:00-10:00", "foo 10:00-11:00"],
)
def test_another_text_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="not a time window"):
        parse_window(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../UTC", "/etc/passwd"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"not a time zone: .*accepted: names such as UTC or Europe/Berlin"):
        time_zone(name)
