"""Simulated upstreams for development and tests: Lab on Demand and Learnosity on one loopback server.

One faithful implementation serves `relay run --sandbox`, `relay sandbox` and the tests. What each simulator answers
is decided by a model with a clock and no I/O; the HTTP layer only carries it, or breaks it where a fault says so.
"""

from relay.sandbox.answers import SandboxInputError
from relay.sandbox.learnosity_security import (
    LEARNOSITY_CONSUMER_KEY,
    LEARNOSITY_CONSUMER_SECRET,
    LEARNOSITY_DOMAIN,
)
from relay.sandbox.learnosity_simulator import LEARNOSITY_VERSION, LearnositySimulator
from relay.sandbox.lod_simulator import LOD_API_KEY, LodSimulator
from relay.sandbox.server import Sandbox

__all__ = [
    "LEARNOSITY_CONSUMER_KEY",
    "LEARNOSITY_CONSUMER_SECRET",
    "LEARNOSITY_DOMAIN",
    "LEARNOSITY_VERSION",
    "LOD_API_KEY",
    "LearnositySimulator",
    "LodSimulator",
    "Sandbox",
    "SandboxInputError",
]
