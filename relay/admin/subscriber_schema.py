"""What may be said of a subscriber, and its validation."""

import re
from typing import Annotated, Any, Final, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from relay.admin.examples import NEW_SUBSCRIBER, SUBSCRIBER_CHANGE
from relay.admin.fields import Described, Whole, example, whole
from relay.admin.policy import Policy
from relay.core.addresses import MAX_URL_BYTES
from relay.core.catalogue import covers_any, nearest, patterns
from relay.core.rotation import DEFAULT_OVERLAP_S, MAX_OVERLAP_S
from relay.core.signing import InvalidSecretError, Scheme, format_secret, secret_key
from relay.core.subscriber import Filter, Format, Ordering

MAX_WAIT_S: Final = 7 * 86_400
MAX_HEADERS: Final = 20
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""A field name as RFC 9110 (5.6.2) has it."""
NO_HEADER_NAME: Final = "is not a header name of at most 100 characters (RFC 9110)"
ONE_HEADER_TWICE: Final = "names one header twice (case does not count)"
_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?)?")
_RESERVED: Final = frozenset(
    {"connection", "expect", "host", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"user-agent", "accept-encoding"}
)
_MAX_NUMBER: Final = 2**53 - 1
OWN_KEY_PAIR: Final = "is for signature v1: for v1a the relay makes the key pair itself, leave it out"
_RESERVED_PREFIXES: Final = ("content-", "webhook-", "proxy-")
_PATTERN: Final = (
    "A type's name; `*` last stands for one or more segments, `*` first for one, `*` alone for every type."
)
_BASE64: Final = (
    "^(whsec_)?((?:[A-Za-z0-9+/]{4}){8,21}|(?:[A-Za-z0-9+/]{4}){8,20}[A-Za-z0-9+/]{3}="
    "|(?:[A-Za-z0-9+/]{4}){8,21}[A-Za-z0-9+/]{2}==)$"
)
"""Base64 of 24 to 64 bytes."""


def event_type_pattern(value: str) -> str:
    """A pattern that can match; the message says what may have been meant."""
    if covers_any(value):
        return value
    near = nearest(value)
    hint = f"did you mean {' or '.join(near)}?" if near else "GET /v1/event-types lists them"
    raise ValueError(f"matches no event type: {hint}")


def _number_as_text(value: object) -> object:
    number = whole(value)
    fits = isinstance(number, int) and not isinstance(number, bool) and abs(number) <= _MAX_NUMBER
    return str(number) if fits else value


def _header_name(value: str) -> str:
    if not HEADER_NAME.fullmatch(value):
        raise ValueError(NO_HEADER_NAME)
    if value.lower() in _RESERVED or value.lower().startswith(_RESERVED_PREFIXES):
        raise ValueError("is the relay's own or the connection's: choose another name")
    return value


def _header_value(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise ValueError("must be at most 1,024 printable ASCII characters, without spaces at its ends")
    return value


def _source_name(value: str, info: ValidationInfo) -> str:
    """What is shown has no context: it is not judged."""
    policy = cast("Policy | None", info.context)
    return value if policy is None else policy.source(value)


def _status_name(value: str, info: ValidationInfo) -> str:
    policy = cast("Policy | None", info.context)
    return value if policy is None else policy.status(value)


def _secret(value: SecretStr) -> SecretStr:
    try:
        return SecretStr(format_secret(secret_key(value.get_secret_value())))
    except InvalidSecretError as error:
        raise ValueError(f"{error}; leave it out to have one made") from None


def _short(value: float) -> int | float:
    return int(value) if value.is_integer() else value


Number = Annotated[float, PlainSerializer(_short), WithJsonSchema({"type": "number"}, mode="serialization")]
"""Written as 15, not as 15.0."""
Pattern = Annotated[
    str,
    StringConstraints(max_length=100),
    AfterValidator(event_type_pattern),
    WithJsonSchema({"title": "EventTypePattern", "description": _PATTERN, "type": "string", "enum": patterns()}),
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Ids = Annotated[list[Id], Field(max_length=100)]
SourceName = Annotated[Id, AfterValidator(_source_name), Field(json_schema_extra={"format": "source-name"})]
StatusName = Annotated[Id, AfterValidator(_status_name)]
NumberedId = Annotated[
    Id,
    BeforeValidator(_number_as_text),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "minLength": 1,
            "maxLength": 200,
            "minimum": -_MAX_NUMBER,
            "maximum": _MAX_NUMBER,
        },
        mode="validation",
    ),
]
NumberedIds = Annotated[list[NumberedId], Field(max_length=100)]
HeaderName = Annotated[
    str, AfterValidator(_header_name), WithJsonSchema({"type": "string", "pattern": f"^{HEADER_NAME.pattern}$"})
]
HeaderValue = Annotated[
    str, AfterValidator(_header_value), WithJsonSchema({"type": "string", "pattern": f"^{_VALUE.pattern}$"})
]
Wait = Annotated[Number, Field(gt=0, le=MAX_WAIT_S, allow_inf_nan=False)]


class FilterIn(Described):
    """Conditions on an event; an empty list means any, and all that are not empty must hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sources: Annotated[list[SourceName], Field(max_length=100)] = Field(default=[])
    """Names of configured sources, or `relay` for its own events."""
    user_ids: Ids = Field(default=[])
    class_ids: Ids = Field(default=[])
    lab_profile_ids: NumberedIds = Field(default=[])
    activity_ids: Ids = Field(default=[])
    from_: Annotated[list[StatusName], Field(max_length=100)] = Field(default=[], alias="from")
    """Status before, in the upstream's words, …"""
    to: Annotated[list[StatusName], Field(max_length=100)] = Field(default=[])
    """… and after."""


class SubscriberIn(Described):
    """What can be set."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=example(SUBSCRIBER_CHANGE))

    url: str = Field(json_schema_extra={"format": "uri", "maxLength": MAX_URL_BYTES})
    """https, on port 443 unless the relay is configured otherwise, without credentials and fragment."""
    description: str = Field(default="", max_length=1000)
    enabled: bool = True
    """Whether to send; while it is off, events wait in the log."""
    event_types: list[Pattern] = Field(default=["*"], min_length=1, max_length=50)
    filter: FilterIn = FilterIn()
    headers: dict[HeaderName, HeaderValue] = Field(default={}, max_length=MAX_HEADERS)
    """Sent with every webhook. Case does not count; the relay's own and the connection's cannot be set."""
    format: Format = "standard"
    """The payload as it is, or as a CloudEvents 1.0 structured event."""
    signature: Scheme = "v1"
    """HMAC-SHA256 with a shared secret, or ed25519 with the relay's key pair."""
    ordering: Ordering = "none"
    """`entity`: no event of an entity is attempted before the one before it was delivered, or is a dead letter."""
    max_in_flight: Whole = Field(default=16, ge=1, le=256)
    """Attempts under way at once."""
    rate_per_s: Number | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)
    """Attempts per second; null: no limit."""
    timeout_s: Number = Field(default=15.0, ge=1, le=60, allow_inf_nan=False)
    """Bounds one attempt."""
    retry_schedule_s: list[Wait] | None = Field(default=None, min_length=1, max_length=50)
    """Delays in seconds after attempt 1, 2, …; null: the relay's."""
    include_pii: bool = False
    """Whether records hold their IP address and geolocation fields."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        """It comes out normalised."""
        return cast("Policy", info.context).url(value)

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        if len({name.lower() for name in value}) < len(value):
            raise ValueError(ONE_HEADER_TWICE)
        return value

    def content(self) -> dict[str, Any]:
        """The fields as `Subscriber` has them."""
        values = self.model_dump(mode="python", by_alias=False, exclude={"secret"})
        values["filter"] = Filter(**{name: tuple(ids) for name, ids in values["filter"].items()})
        values["event_types"] = tuple(self.event_types)
        values["timeout_s"] = self.timeout_s
        values["retry_schedule_s"] = None if self.retry_schedule_s is None else tuple(self.retry_schedule_s)
        return values


Secret = Annotated[
    SecretStr,
    Field(strict=False),
    AfterValidator(_secret),
    WithJsonSchema({"type": "string", "format": "password", "writeOnly": True, "pattern": _BASE64}),
]


class NewSubscriber(SubscriberIn):
    """A registration; a `secret` may be brought along, but not a private key: that one never leaves the relay."""

    model_config = ConfigDict(
        json_schema_extra={
            **example(NEW_SUBSCRIBER),
            "if": {"properties": {"signature": {"const": "v1a"}}, "required": ["signature"]},
            "then": {"properties": {"secret": {"type": "null"}}},
        }
    )

    secret: Secret | None = None
    """`whsec_` and base64 of 24 to 64 bytes; left out, it is made."""

    @field_validator("secret")
    @classmethod
    def _symmetric(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("signature") == "v1a":
            raise ValueError(OWN_KEY_PAIR)
        return value


class RotateIn(Described):
    """How to rotate."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=example({"overlap_s": 86_400}))

    overlap_s: Number = Field(default=DEFAULT_OVERLAP_S, ge=0, le=MAX_OVERLAP_S, allow_inf_nan=False)
    """Seconds for which what signs now goes on signing beside the new one; what was replaced before keeps its own end.
    0, for a secret that has leaked, ends all of them at once."""
    secret: Secret | None = None
    """The new one; left out, it is made (and always for `v1a`)."""
