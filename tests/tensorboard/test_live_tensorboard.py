"""A live TensorBoard beside keras.callbacks.TensorBoard: nothing is lost."""

import importlib.util
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import event_logs
import keras
import pytest
from models import QUICK, data, sequential

from keras_actpen import PenaltyMonitor, attach_penalty
from keras_actpen.demo import server

EPOCHS = 3
SECONDS = 180

pytestmark = pytest.mark.one_backend


class Served:
    """What a TensorBoard server answers."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **query):
        address = f"{self.url}data/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code in (400, 404):  # not loaded yet
                return []
            raise

    def steps(self, plugin, run, tag):
        points = self.get(f"plugin/{plugin}/{plugin}", run=run, tag=tag)
        return [step for _, step, *_ in points]

    def wait_for(self, expected):
        """Wait until all steps by plugin, run and tag are there."""
        deadline = time.monotonic() + SECONDS
        found = {}
        while found != expected and time.monotonic() < deadline:
            time.sleep(0.2)
            found = {key: self.steps(*key) for key in expected}
        assert found == expected


class Look(keras.callbacks.Callback):
    """Looks at a live server after every epoch but the first."""

    def __init__(self, served):
        super().__init__()
        self.served = served
        self.looked = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            seen = list(range(epoch))
            run = "actpen/train"
            self.served.wait_for(
                {
                    ("scalars", run, "penalty/dense_4/l2"): seen,
                    ("histograms", run, "activation.values/dense_4"): seen,
                    ("scalars", "train", "epoch_loss"): seen,
                }
            )
            self.looked.append(epoch)


def everything(log_dir):
    """Steps of every curve and histogram in the files."""
    return {
        (series.plugin, run, tag): series.steps
        for run, tags in event_logs.read(log_dir).items()
        for tag, series in tags.items()
        if series.plugin in (event_logs.SCALARS, event_logs.HISTOGRAMS)
    }


@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_a_live_server_loses_nothing_of_either_callback(tmp_path, load_fast):
    if load_fast == "true" and not importlib.util.find_spec(
        "tensorboard_data_server"
    ):
        pytest.skip("tensorboard-data-server has no wheel for this machine")
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    arguments = ("--load_fast", load_fast, "--reload_interval", "1")
    with server.tensorboard_server(tmp_path, *arguments) as url:
        served = Served(url)
        look = Look(served)
        model.fit(
            x,
            y,
            validation_data=(x, y),
            epochs=EPOCHS,
            verbose=0,
            callbacks=[
                keras.callbacks.TensorBoard(
                    tmp_path, histogram_freq=1, write_graph=False
                ),
                PenaltyMonitor(tmp_path, alerts=()),
                look,
            ],
        )
        assert look.looked == list(range(1, EPOCHS))
        expected = everything(tmp_path)
        runs = {run for _, run, _ in expected}
        assert runs == {
            "train",
            "validation",
            "actpen/hparams",
            "actpen/train",
            "actpen/validation",
        }
        assert {len(steps) for steps in expected.values()} == {EPOCHS}
        served.wait_for(expected)
