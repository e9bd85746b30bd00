"""A subscriber as it is shown: nothing secret leaves through here."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from pydantic import ConfigDict

from relay.admin.attempt_schema import moment
from relay.admin.examples import SECRET_SUBSCRIBER, SUBSCRIBER
from relay.admin.fields import Described, Moment, example
from relay.admin.subscriber_schema import FilterIn, Number, SubscriberIn
from relay.core.pulse import NO_PULSE, Pulse
from relay.core.rotation import alive
from relay.core.signing import Scheme
from relay.core.subscriber import Format, Subscriber


class PreviousKey(Described):
    """A public key that is being rotated out."""

    public_key: str
    until: Moment


class PreviousSecret(Described):
    """A secret that is being rotated out."""

    until: Moment
    """It signs until then, beside the new one."""


class StateOut(Described):
    """How deliveries have been going."""

    status: Literal["ok", "failing", "disabled"]
    """`failing` as soon as the latest attempt failed; `relay.subscriber.failing` tells of it only after ten minutes
    (`RELAY_RETRY__NOTICE_AFTER_S`) without a success."""
    reason: str | None
    failing_since: Moment | None
    """The first failure since the last success."""
    failures: int
    """Failed attempts in a row, up to now."""
    resting_until: Moment | None
    """Nothing is sent before then, and afterwards one attempt at a time until one succeeds. A `/test` that is
    delivered, `/enable` and any change of the subscriber end the rest at once."""


class SubscriberOut(Described):
    """A subscriber as it is shown."""

    model_config = ConfigDict(json_schema_extra=example(SUBSCRIBER))

    id: str
    url: str
    description: str
    enabled: bool
    event_types: list[str]
    filter: FilterIn
    headers: dict[str, str]
    format: Format
    signature: Scheme
    public_key: str | None
    """`whpk_…`: what verifies `v1a`; null for `v1`."""
    previous_public_keys: list[PreviousKey]
    """After a rotation: those that verify until its overlap ends, the latest first."""
    previous_secrets: list[PreviousSecret]
    """After a rotation with `v1`: the old ones that sign until their own overlaps end, the latest first."""
    ordering: Literal["none", "entity"]
    max_in_flight: int
    rate_per_s: Number | None
    timeout_s: Number
    retry_schedule_s: list[Number] | None
    include_pii: bool
    state: StateOut
    created_at: Moment
    updated_at: Moment


class SecretSubscriber(SubscriberOut):
    """A subscriber with a new secret, which no other answer holds."""

    model_config = ConfigDict(json_schema_extra=example(SECRET_SUBSCRIBER))

    secret: str | None
    """Null for `v1a`: its receiver needs the public key only."""


class PatchedSubscriber(SubscriberOut):
    """A subscriber after a change; with a `secret` only if it has changed from `v1a` to `v1`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    secret: str | None = None


def shown(subscriber: Subscriber, now: datetime, pulse: Pulse = NO_PULSE) -> dict[str, Any]:
    """Everything but the secrets; of the key pairs the public keys that verify at `now`."""
    signing = alive(subscriber.secrets, now)
    keys = [one for one in signing if one.public_key is not None]
    fields = {
        **msgspec.to_builtins(subscriber),
        "public_key": next((one.public_key for one in keys if one.until is None), None),
        "previous_public_keys": [{"public_key": one.public_key, "until": one.until} for one in keys if one.until],
        "previous_secrets": [{"until": one.until} for one in signing if one.until and one.public_key is None],
        "state": shown_state(subscriber, now, pulse),
    }
    document = SubscriberOut.model_validate_json(msgspec.json.encode(fields))
    return document.model_dump(mode="json", by_alias=True)


def shown_state(subscriber: Subscriber, now: datetime, pulse: Pulse) -> dict[str, Any]:
    """How it stands: what was told of it, and what is newer than that."""
    told = subscriber.state
    status, reason, since = told.status, told.reason, told.failing_since
    if status != "disabled" and pulse != NO_PULSE:
        failing = pulse.failing_since_ms is not None
        status, reason = ("failing", pulse.reason) if failing else ("ok", None)
        since = moment(pulse.failing_since_ms)
    resting = subscriber.enabled and (pulse.resting_until_ms or 0) > now.timestamp() * 1000
    return {
        "status": status,
        "reason": reason,
        "failing_since": since,
        "failures": pulse.failures,
        "resting_until": moment(pulse.resting_until_ms) if resting else None,
    }


def settable(subscriber: Subscriber) -> dict[str, Any]:
    """What a merge patch is applied to."""
    document = msgspec.json.decode(msgspec.json.encode(subscriber))
    return {name: document[name] for name in SubscriberIn.model_fields}
