"""A real server keeps all our points, with both loaders."""

import json
import time
import urllib.parse
import urllib.request

import pytest
from tab_logs import LoggedLayer, LoggedTraining

from keras_actpen.demo.server import tensorboard_server

pytestmark = pytest.mark.one_backend

# More than either loader keeps by default.
EPOCHS = 130
SECONDS = 60


@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_all_epochs_are_kept(tmp_path, load_fast):
    layer = LoggedLayer("hidden", units=4, terms={"l1": 0.1})
    LoggedTraining(tmp_path, [layer], has_validation=False).write(EPOCHS)
    arguments = ("--load_fast", load_fast, "--reload_interval", "1")
    query = {"run": "actpen/train", "kind": "activation", "path": "hidden"}
    with tensorboard_server(tmp_path, *arguments) as url:
        routes = f"{url}data/plugin/keras_actpen/data"
        address = f"{routes}/units?{urllib.parse.urlencode(query)}"
        deadline = time.monotonic() + SECONDS
        steps: list[int] = []
        while len(steps) < EPOCHS and time.monotonic() < deadline:
            time.sleep(0.2)
            with urllib.request.urlopen(address) as response:
                steps = json.load(response)["steps"]
    assert steps == list(range(EPOCHS))
