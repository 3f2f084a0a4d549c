import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile(
    "ci", max_examples=50, derandomize=True, deadline=None, database=None
)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure():
    """Each worker of pytest-xdist has a cache of compiled JAX code."""
    # JAX reads what another process has written half, and warns.
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if cache and worker:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(cache, worker))


@pytest.fixture(autouse=True)
def fresh_session():
    """Each test starts from the same seeds and automatic names."""
    # Imported here, as JAX reads the environment when it is imported.
    import keras

    # Its garbage collection would take half a second a test.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
