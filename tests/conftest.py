import keras
import pytest


@pytest.fixture(autouse=True)
def fresh_session():
    """Each test starts from the same seeds and automatic names."""
    # Its garbage collection would take half a second a test.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
