"""`relay listen`: a receiver for development that verifies each webhook, prints it on one line, and may misbehave."""

from relay.listen.arguments import add_arguments, behaviour_of
from relay.listen.receiver import Behaviour, Listener

__all__ = ["Behaviour", "Listener", "add_arguments", "behaviour_of"]
