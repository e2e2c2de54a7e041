"""How hard hypothesis looks: some hundred examples by default, `HYPOTHESIS_PROFILE=thorough` for 10,000."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "thorough", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("default", settings(), deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
