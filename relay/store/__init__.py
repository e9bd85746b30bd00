"""Everything that speaks Redis."""

from relay.store.deliveries import DeliveryStore
from relay.store.disk import Disk
from relay.store.erasure import ErasureStore
from relay.store.idempotency import IdempotencyStore
from relay.store.keys import Keys
from relay.store.leases import LeaseStore
from relay.store.log import LogStore
from relay.store.pulses import PulseStore
from relay.store.registry import RegistryStore
from relay.store.replays import ReplayStore
from relay.store.scripts import Client, Scripts
from relay.store.snapshots import SnapshotStore
from relay.store.statistics import StatisticsStore

__all__ = ["Store"]


class Store:
    """The rooms of one relay's store, on one client; for `script_flags` see `connect.takes_script_flags`."""

    def __init__(self, client: Client, namespace: str = "relay", *, script_flags: bool = True) -> None:
        keys, scripts = Keys(namespace), Scripts(client, flags=script_flags)
        self.client = client
        self.leases = LeaseStore(client, keys, scripts)
        self.snapshots = SnapshotStore(client, keys, scripts)
        self.log = LogStore(client, keys, scripts)
        self.deliveries = DeliveryStore(client, keys, scripts)
        self.pulses = PulseStore(client, keys)
        self.registry = RegistryStore(client, keys, scripts)
        self.replays = ReplayStore(client, keys, scripts)
        self.statistics = StatisticsStore(client, keys)
        self.erasure = ErasureStore(client, keys, scripts, self.deliveries)
        self.disk = Disk(client, keys)
        self.idempotency = IdempotencyStore(keys, scripts)
