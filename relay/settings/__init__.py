"""Settings, read by the composition root alone."""

from relay.settings.load import effective, load
from relay.settings.model import Address, LearnositySource, LodSource, Settings, Source, token_fault

__all__ = ["Address", "LearnositySource", "LodSource", "Settings", "Source", "effective", "load", "token_fault"]
