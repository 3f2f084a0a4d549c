import pytest


@pytest.fixture(scope="session")
def browser():
    tensorboard_pages = pytest.importorskip("tensorboard_pages")
    with tensorboard_pages.chromium() as browser:
        yield browser
