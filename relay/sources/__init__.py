"""Upstreams: a window goes in, raw rows come out."""
