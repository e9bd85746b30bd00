"""From the log to the subscribers: tail, match, attempt, settle."""

from relay.dispatcher.service import Dispatcher

__all__ = ["Dispatcher"]
