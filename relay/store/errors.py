"""Faults of the store that pass by themselves: wait and try again."""

import redis.exceptions

STORE_ERRORS = (redis.exceptions.RedisError, OSError)
"""A failed command is always repeated: the scripts are idempotent, and nothing advances without its answer.

All of the library's errors, not those alone that are expected: a proxy that answers with something that is no reply at
all (`InvalidResponse`) must not end the process either.
"""
