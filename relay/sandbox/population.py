"""Labs and sessions that live by themselves: a pure function of the seed and the wall clock.

Entity number n starts at n periods after 1970, has an id made of n and the seed, and follows script n modulo their
number. So two sandboxes started at different moments show the same world, and a restarted one goes on where it was.
Only the last quarter of an hour of it exists, which bounds memory and work.
"""

import uuid
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from relay.sandbox import learnosity_rows, lod_rows
from relay.sandbox.learnosity_query import EPOCH, Session, micros
from relay.sandbox.lod_rows import Lab
from relay.sandbox.scripts import LAB_SCRIPTS, SESSION_SCRIPTS, At, Script

PERIOD_S = 3.0
"""Seconds between two starts of one family; the sessions start in the middle between the labs."""
SESSION_SHIFT_S = 1.5
LIFE_S = 900.0
OUTAGE_EVERY_S, OUTAGE_S = 90.0, 12.0

PROFILES = (5522, 5523, 5610, 6041)
CLASSES = ("class-networks-a", "class-networks-b", "class-cloud-evening", None)
ACTIVITIES = ("algebra-entry-test", "geometry-unit-3", "reading-comprehension-b1", "chemistry-final")
PLACES: tuple[Mapping[str, Any], ...] = (
    {"IpAddress": "192.0.2.44", "Country": "Ireland", "Region": "Leinster", "City": "Dublin"}
    | {"Latitude": 53.35, "Longitude": -6.26},
    {"IpAddress": "198.51.100.7", "Country": "Canada", "Region": "Ontario", "City": "Ottawa"}
    | {"Latitude": 45.42, "Longitude": -75.69},
    {"IpAddress": "2001:db8::17", "Country": "Portugal", "Region": "Lisboa", "City": "Lisbon"}
    | {"Latitude": 38.72, "Longitude": -9.14},
)
"""Addresses from the documentation ranges (RFC 5737, RFC 3849)."""

NAMESPACE = uuid.UUID("5c0a7b52-0a3e-4c52-9f0e-3a8d6f3f5d11")


def labs_at(seed: int, now: datetime) -> dict[int, Lab]:
    """The lab instances that exist at `now`, by id."""
    now_s = now.timestamp()
    return {
        seed * 10**9 + n: _lab(seed, n, _steps_done(LAB_SCRIPTS[n % len(LAB_SCRIPTS)], now_s - n * PERIOD_S))
        for n in _alive(now_s)
    }


def sessions_at(seed: int, now: datetime) -> dict[str, Session]:
    """The sessions that exist at `now`, by id."""
    sessions = (
        _session(seed, n, _steps_done(SESSION_SCRIPTS[n % len(SESSION_SCRIPTS)], age_s))
        for n in _alive(now.timestamp() - SESSION_SHIFT_S)
        if (age_s := (now - _session_start(n)).total_seconds()) >= 0
    )
    return {session.session_id: session for session in sessions}


def outage_at(now: datetime) -> str | None:
    """The fault of LOD's regular outage, so that a degraded and a recovered source can be watched."""
    return "503_html" if now.timestamp() % OUTAGE_EVERY_S >= OUTAGE_EVERY_S - OUTAGE_S else None


def _alive(now_s: float) -> range:
    last = int(now_s // PERIOD_S)
    return range(max(0, last - int(LIFE_S / PERIOD_S) + 1), last + 1)


def _steps_done(script: Script, age_s: float) -> int:
    return sum(offset_s <= age_s for offset_s, _ in script)


def _pick(seed: int, n: int, what: str) -> int:
    """A number that looks random and is always the same for this entity."""
    return zlib.crc32(f"{seed}/{n}/{what}".encode())


@lru_cache(maxsize=4096)
def _lab(seed: int, n: int, steps: int) -> Lab:
    """Lab number n after so many steps; cached, because most of a population does not move between two polls."""
    start_s = int(n * PERIOD_S)
    lab = lod_rows.create(_lab_traits(seed, n), start_s)
    for offset_s, fields in LAB_SCRIPTS[n % len(LAB_SCRIPTS)][:steps]:
        at_s = start_s + offset_s
        changes = {name: at_s + value.delta_s if isinstance(value, At) else value for name, value in fields.items()}
        lab = lod_rows.change(lab, changes, at_s)
    return lab


def _lab_traits(seed: int, n: int) -> dict[str, Any]:
    place = _pick(seed, n, "place")
    return {
        "LabProfileId": PROFILES[_pick(seed, n, "profile") % len(PROFILES)],
        "UserId": f"learner-{_pick(seed, n, 'user') % 40:02}",
        "ClassId": CLASSES[_pick(seed, n, "class") % len(CLASSES)],
        "LabHostId": 40 + place % 12,
        **(PLACES[place // 3 % len(PLACES)] if place % 3 == 0 else {}),
    }


def _session_start(n: int) -> datetime:
    """When session number n starts; its microseconds are its own, as in real updated times."""
    return EPOCH + timedelta(seconds=n * PERIOD_S + SESSION_SHIFT_S, microseconds=n * 7919 % 1_000_000)


@lru_cache(maxsize=4096)
def _session(seed: int, n: int, steps: int) -> Session:
    start = _session_start(n)
    fields: Mapping[str, Any] | None = None
    updated = start
    for offset_s, step in SESSION_SCRIPTS[n % len(SESSION_SCRIPTS)][:steps]:
        updated = start + timedelta(seconds=offset_s)
        changes = {name: _instant(updated, value) for name, value in step.items()}
        fields = learnosity_rows.change(fields, changes if fields else {**_session_traits(seed, n), **changes}, updated)
    return Session(str(uuid.uuid5(NAMESPACE, f"{seed}/{n}")), micros(updated), fields or {})


def _instant(step_at: datetime, value: Any) -> Any:
    return learnosity_rows.iso(step_at + timedelta(seconds=value.delta_s)) if isinstance(value, At) else value


def _session_traits(seed: int, n: int) -> dict[str, Any]:
    activity = ACTIVITIES[_pick(seed, n, "activity") % len(ACTIVITIES)]
    traits: dict[str, Any] = {"user_id": f"learner-{_pick(seed, n, 'user') % 40:02}", "activity_id": activity}
    if n % 2:
        traits["activity_template_id"] = f"{activity}-template"
    return {**traits, "metadata": {"course": CLASSES[n % 3], "attempt_no": 1 + n % 3}}
