"""The one root of everything that the relay raises on purpose."""


class RelayError(Exception):
    """An expected fault; its message is safe to print: no secret, credential or learner datum."""


class ConfigError(RelayError):
    """The configuration cannot be used; the message names the setting and the mend (exit code 2)."""


class InvalidRecordError(RelayError):
    """One upstream row cannot be used; the message names the field, never its value.

    `field` is the upstream's name of it, where it is known apart from the message.
    """

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class FetchError(RelayError):
    """A poll could not be completed; nothing may advance.

    `reason` is a short, stable word for metrics and logs: one of `connect`, `timeout`, `rate_limited`,
    `refused` (credentials), `http_status`, `not_json`, `upstream_error`, `too_large`.
    `retry_after_s` is what the upstream asked for, if it did.
    """

    def __init__(self, reason: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_s = retry_after_s
