"""The subscribers in memory, and who of them an event is for."""

from collections.abc import Iterable

import structlog

from relay.attempts import open_receiver
from relay.core.envelope import Receiver
from relay.core.keyring import Keyring, UnreadableSecretError
from relay.core.log import Entry
from relay.core.matching import TypeIndex, filter_refusal, matches
from relay.core.subscriber import Subscriber

log = structlog.get_logger()


class Receivers:
    """All subscribers, ready to be sent to."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._receivers: dict[str, Receiver] = {}
        self._index = TypeIndex(())
        self.version = 0
        """Grows with every change."""

    def replace_all(self, subscribers: Iterable[Subscriber]) -> None:
        """Forget everybody and take these."""
        self._receivers = {}
        for subscriber in subscribers:
            self._open(subscriber)
        self._reindex()

    def update(self, subscriber_id: str, subscriber: Subscriber | None) -> None:
        """Take one that is new or changed, or forget it (None)."""
        self._receivers.pop(subscriber_id, None)
        if subscriber is not None:
            self._open(subscriber)
        self._reindex()

    def get(self, subscriber_id: str) -> Receiver | None:
        """One by id."""
        return self._receivers.get(subscriber_id)

    def all(self) -> Iterable[Receiver]:
        """Everybody."""
        return self._receivers.values()

    def for_entry(self, entry: Entry) -> Iterable[str]:
        """Ids of the subscribers that an event is for."""
        return (
            one.id
            for one in self._index.candidates(entry.event_type)
            if filter_refusal(one.filter, entry.payload) is None
        )

    def wants(self, subscriber_id: str, entry: Entry) -> bool:
        """Whether an event is for one subscriber."""
        receiver = self._receivers.get(subscriber_id)
        return receiver is not None and matches(receiver.subscriber, entry.event_type, entry.payload)

    def _open(self, subscriber: Subscriber) -> None:
        try:
            self._receivers[subscriber.id] = open_receiver(subscriber, self._keyring)
        except UnreadableSecretError as error:
            # Nothing can be signed for it: without keys its lane pauses, and the log keeps what it misses.
            self._receivers[subscriber.id] = Receiver(subscriber, ())
            log.warning("subscriber.unreadable", subscriber=subscriber.id, detail=str(error))

    def _reindex(self) -> None:
        self.version += 1
        self._index = TypeIndex(receiver.subscriber for receiver in self._receivers.values())
