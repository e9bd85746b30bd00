"""The guarded HTTP client: the one way in which the relay reaches a subscriber.

Three layers stand between a URL and a packet: the URL's own rules, the resolver, and the socket's factory, which
sees the very address that is dialled. An address passes all of them or nothing is sent to it. With an egress proxy
the last two let the proxy pass and nothing else.
"""

from relay.egress.resolver import GuardedResolver
from relay.egress.sender import Sender

__all__ = ["GuardedResolver", "Sender"]
