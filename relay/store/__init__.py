"""Everything that speaks Redis."""

from relay.store.deliveries import DeliveryStore
from relay.store.keys import Keys
from relay.store.leases import LeaseStore
from relay.store.log import LogStore
from relay.store.registry import RegistryStore
from relay.store.scripts import Client, Scripts
from relay.store.snapshots import SnapshotStore

__all__ = ["Store"]


class Store:
    """The rooms of one relay's store, on one client."""

    def __init__(self, client: Client, namespace: str = "relay") -> None:
        keys, scripts = Keys(namespace), Scripts(client)
        self.client = client
        self.leases = LeaseStore(client, keys, scripts)
        self.snapshots = SnapshotStore(client, keys, scripts)
        self.log = LogStore(client, keys)
        self.deliveries = DeliveryStore(client, keys, scripts)
        self.registry = RegistryStore(client, keys, scripts)
