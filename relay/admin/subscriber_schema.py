"""What a subscriber may look like from outside: validation on the way in, nothing secret on the way out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from relay.core.addresses import UrlRefusedError
from relay.core.catalogue import covers_any, nearest
from relay.core.rotation import DEFAULT_OVERLAP_S, MAX_OVERLAP_S, alive
from relay.core.signing import InvalidSecretError, Scheme, format_secret, secret_key
from relay.core.subscriber import Filter, Format, Subscriber

MAX_WAIT_S: Final = 7 * 86_400
MAX_HEADERS: Final = 20
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""A field name as RFC 9110 (5.6.2) has it."""
_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?)?")
_RESERVED: Final = frozenset(
    {"connection", "expect", "host", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"user-agent", "accept-encoding"}
)
OWN_KEY_PAIR: Final = "is for signature v1: for v1a the relay makes the key pair itself, leave it out"
_RESERVED_PREFIXES: Final = ("content-", "webhook-", "proxy-")


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """How a URL is judged."""

    normalise: Callable[[str], str]
    """Raises `UrlRefusedError`."""
    keep: str | None = None
    """A URL that is registered already: it is not judged again."""


def event_type_pattern(value: str) -> str:
    """A pattern that can match; the message says what may have been meant."""
    if covers_any(value):
        return value
    near = nearest(value)
    hint = f"did you mean {' or '.join(near)}?" if near else "GET /v1/event-types lists them"
    raise ValueError(f"matches no event type: {hint}")


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _header_name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("is not a header name of at most 100 characters (RFC 9110)")
    if value.lower() in _RESERVED or value.lower().startswith(_RESERVED_PREFIXES):
        raise ValueError("is the relay's own or the connection's: choose another name")
    return value


def _header_value(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise ValueError("must be at most 1,024 printable ASCII characters, without spaces at its ends")
    return value


def _secret(value: SecretStr) -> SecretStr:
    try:
        return SecretStr(format_secret(secret_key(value.get_secret_value())))
    except InvalidSecretError as error:
        raise ValueError(f"{error}; leave it out to have one made") from None


def _short(value: float) -> int | float:
    return int(value) if value.is_integer() else value


Number = Annotated[float, PlainSerializer(_short)]
"""Written as 15, not as 15.0."""
Pattern = Annotated[str, StringConstraints(max_length=100), AfterValidator(event_type_pattern)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Ids = Annotated[list[Id], Field(max_length=100)]
NumberedIds = Annotated[list[Annotated[Id, BeforeValidator(_number_as_text)]], Field(max_length=100)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Wait = Annotated[Number, Field(gt=0, le=MAX_WAIT_S, allow_inf_nan=False)]


class FilterIn(BaseModel):
    """Conditions on an event; an empty list means any, and all that are not empty must hold."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    sources: Ids = []
    user_ids: Ids = []
    class_ids: Ids = []
    lab_profile_ids: NumberedIds = []
    activity_ids: Ids = []
    from_: Ids = Field(default=[], alias="from")
    to: Ids = []


class SubscriberIn(BaseModel):
    """What can be set. With a `UrlPolicy` as context the URL comes out normalised."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    url: str
    description: str = Field(default="", max_length=1000)
    enabled: bool = True
    event_types: list[Pattern] = Field(default=["*"], min_length=1, max_length=50)
    filter: FilterIn = FilterIn()
    headers: dict[HeaderName, HeaderValue] = Field(default={}, max_length=MAX_HEADERS)
    format: Format = "standard"
    signature: Scheme = "v1"
    ordering: Literal["none"] = "none"
    max_in_flight: int = Field(default=16, ge=1, le=256)
    rate_per_s: Number | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)
    timeout_s: Number = Field(default=15.0, ge=1, le=60, allow_inf_nan=False)
    retry_schedule_s: list[Wait] | None = Field(default=None, min_length=1, max_length=50)
    include_pii: bool = False

    @field_validator("url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        policy = cast("UrlPolicy", info.context)
        if value == policy.keep:
            return value
        try:
            return policy.normalise(value)
        except UrlRefusedError as error:
            raise ValueError(str(error)) from None

    @field_validator("ordering", mode="before")
    @classmethod
    def _ordering(cls, value: object) -> object:
        if value == "entity":
            raise ValueError("entity is not available in this version: leave it out, or write none")
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("names one header twice (case does not count)")
        return value

    def content(self) -> dict[str, Any]:
        """The fields as `Subscriber` has them."""
        values = self.model_dump(mode="python", by_alias=False, exclude={"secret"})
        values["filter"] = Filter(**{name: tuple(ids) for name, ids in values["filter"].items()})
        values["event_types"] = tuple(self.event_types)
        values["timeout_s"] = self.timeout_s
        values["retry_schedule_s"] = None if self.retry_schedule_s is None else tuple(self.retry_schedule_s)
        return values


Secret = Annotated[SecretStr, Field(strict=False), AfterValidator(_secret)]


class NewSubscriber(SubscriberIn):
    """A registration; a `secret` may be brought along, but not a private key: that one never leaves the relay."""

    secret: Secret | None = None

    @field_validator("secret")
    @classmethod
    def _symmetric(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("signature") == "v1a":
            raise ValueError(OWN_KEY_PAIR)
        return value


class RotateIn(BaseModel):
    """How to rotate."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    overlap_s: Number = Field(default=DEFAULT_OVERLAP_S, ge=0, le=MAX_OVERLAP_S, allow_inf_nan=False)
    """Seconds for which what signs now signs too, but none of it for longer than it was going to; 0 ends it at once."""
    secret: Secret | None = None
    """The new one; left out, it is made (and always for `v1a`)."""


class PreviousKey(BaseModel):
    """A public key that is being rotated out."""

    public_key: str
    until: str


class StateOut(BaseModel):
    """How deliveries have been going."""

    status: Literal["ok", "failing", "disabled"]
    reason: str | None
    failing_since: str | None


class SubscriberOut(BaseModel):
    """A subscriber as it is shown."""

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
    ordering: Literal["none", "entity"]
    max_in_flight: int
    rate_per_s: Number | None
    timeout_s: Number
    retry_schedule_s: list[Number] | None
    include_pii: bool
    state: StateOut
    created_at: str
    updated_at: str


class SecretSubscriber(SubscriberOut):
    """A subscriber with a new secret, which no other answer holds."""

    secret: str | None
    """Null for `v1a`: its receiver needs the public key only."""


class PatchedSubscriber(SubscriberOut):
    """A subscriber after a change; with a `secret` only if it has changed from `v1a` to `v1`."""

    secret: str | None = None


def shown(subscriber: Subscriber, now: datetime) -> dict[str, Any]:
    """Everything but the secrets; of the key pairs the public keys that verify at `now`."""
    keys = [one for one in alive(subscriber.secrets, now) if one.public_key is not None]
    fields = {
        **msgspec.to_builtins(subscriber),
        "public_key": next((one.public_key for one in keys if one.until is None), None),
        "previous_public_keys": [{"public_key": one.public_key, "until": one.until} for one in keys if one.until],
    }
    document = SubscriberOut.model_validate_json(msgspec.json.encode(fields))
    return document.model_dump(mode="json", by_alias=True)


def settable(subscriber: Subscriber) -> dict[str, Any]:
    """What a merge patch is applied to."""
    document = msgspec.json.decode(msgspec.json.encode(subscriber))
    return {name: document[name] for name in SubscriberIn.model_fields}
