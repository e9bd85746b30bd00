"""Property tests of this tier: the same examples on every run, and no deadline that a busy machine would break."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")
