"""A subscriber: where to send, what to send, how to behave."""

from datetime import datetime
from typing import Literal

import msgspec

from relay.core.signing import Scheme

Format = Literal["standard", "cloudevents"]
Ordering = Literal["none", "entity"]


class Filter(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Conditions on an event; an empty list means any, and all that are not empty must hold."""

    sources: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    lab_profile_ids: tuple[str, ...] = ()
    activity_ids: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    to: tuple[str, ...] = ()


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How deliveries to a subscriber have been going."""

    status: Literal["ok", "failing", "disabled"] = "ok"
    reason: str | None = None
    failing_since: str | None = None


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One signing secret, or one key pair, at rest."""

    sealed: str
    """The secret or the private key, encrypted with the subscriber's id as associated data."""
    until: str | None = None
    """RFC 3339; from then on it no longer signs. None: it is the current one."""
    public_key: str | None = None
    """`whpk_…`, what a receiver verifies `v1a` with; None for `v1`."""


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """A registered receiver. `max_in_flight` counts attempts; times are in seconds."""

    id: str
    url: str
    description: str = ""
    enabled: bool = True
    event_types: tuple[str, ...] = ("*",)
    filter: Filter = Filter()
    headers: dict[str, str] = {}
    format: Format = "standard"
    signature: Scheme = "v1"
    ordering: Ordering = "none"
    max_in_flight: int = 16
    rate_per_s: float | None = None
    timeout_s: float = 15.0
    retry_schedule_s: tuple[float, ...] | None = None
    include_pii: bool = False
    state: State = State()
    notices: int = 0
    """How many of the relay's own events have told of its state; not part of an answer."""
    created_at: str = ""
    updated_at: str = ""
    secrets: tuple[StoredSecret, ...] = ()
    """Newest first, all of the scheme that `signature` names. Never part of an answer, but for public keys."""


_NO_MEND = frozenset({"description", "ordering", "retry_schedule_s", "state", "notices", "created_at", "updated_at"})
"""What can change about a subscriber without any hope that it now takes what it refused."""


def may_be_mended(old: Subscriber, new: Subscriber) -> bool:
    """Whether a subscriber that was failing may be well again, for what was changed about it.

    Its owner may have mended whatever is sent, where, how fast and with which secrets, or have enabled it. That it is
    failing, or in which order and how often again its events go, changes nothing about it.
    """
    return any(getattr(old, one) != getattr(new, one) for one in Subscriber.__struct_fields__ if one not in _NO_MEND)


def moment_ms(text: str) -> int:
    """Unix milliseconds of a subscriber's RFC 3339 time; 0 if it has none."""
    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
