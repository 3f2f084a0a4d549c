import keras
import pytest


@pytest.fixture(autouse=True)
def fresh_session():
    """Each test starts from the same seeds and the same automatic names."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
