"""Faults of the store that pass by themselves: wait and try again."""

import redis.exceptions

STORE_ERRORS = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ResponseError,
    OSError,
)
"""A failed command is always repeated: the scripts are idempotent, and nothing advances without its answer."""
