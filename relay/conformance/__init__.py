"""`relay conformance`: sends a receiver what a relay or an attacker may send, and judges its answers."""

from relay.conformance.command import add_arguments, run

__all__ = ["add_arguments", "run"]
