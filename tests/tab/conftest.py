import pytest
from tab_client import LOADERS, TabClient, provider_of
from tab_logs import LoggedTraining, digits_layers

EPOCHS = 6


@pytest.fixture(scope="session")
def log_dir(tmp_path_factory):
    """Two trainings, the second without a validation."""
    root = tmp_path_factory.mktemp("logs")
    LoggedTraining(root / "strong", digits_layers(1e-1)).write(EPOCHS)
    LoggedTraining(
        root / "weak", digits_layers(1e-4), seed=1, has_validation=False
    ).write(EPOCHS)
    return root


@pytest.fixture(scope="session", params=LOADERS)
def client(request, log_dir):
    with provider_of(log_dir, request.param) as provider:
        yield TabClient(provider)


@pytest.fixture
def client_of():
    """Makes a client of a log directory, with the slow loader."""

    def make(directory):
        with provider_of(directory, "slow") as provider:
            return TabClient(provider)

    return make
