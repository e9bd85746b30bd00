"""Simulated upstreams for development and tests."""
