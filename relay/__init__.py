"""Webhook relay for learning systems."""

__version__ = "0.1.0"
