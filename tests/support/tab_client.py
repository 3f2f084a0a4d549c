"""Asks the Activations tab's routes as a browser does, without a server."""

import contextlib
import gzip
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from tensorboard import context as tb_context
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.backend.event_processing.data_provider import (
    MultiplexerDataProvider,
)
from tensorboard.backend.event_processing.plugin_event_multiplexer import (
    EventMultiplexer,
)
from tensorboard.data import grpc_provider, server_ingester
from tensorboard.data.proto import data_provider_pb2_grpc
from tensorboard.data.provider import DataProvider, RunTagFilter
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
from werkzeug.test import Client, TestResponse

from keras_actpen_tensorboard import schema
from keras_actpen_tensorboard.plugin import ActivationsPlugin

LOADERS = ("slow", "fast")
START_SECONDS = 30


@contextlib.contextmanager
def provider_of(log_dir: Path, loader: str) -> Iterator[DataProvider]:
    """A data provider that has loaded a log directory.

    Args:
        log_dir: The log directory.
        loader: `"slow"` for the one in Python, `"fast"` for the data server.
    """
    if loader == "slow":
        multiplexer = EventMultiplexer(
            tensor_size_guidance={schema.PLUGIN: 0, "scalars": 0}
        )
        multiplexer.AddRunsFromDirectory(str(log_dir)).Reload()
        yield MultiplexerDataProvider(multiplexer, str(log_dir))
        return
    with _data_server(log_dir) as address:
        channel = grpc.insecure_channel(address)
        stub = data_provider_pb2_grpc.TensorBoardDataProviderStub(channel)
        provider = grpc_provider.GrpcDataProvider(address, stub)
        _wait_until_still(provider)
        yield provider
        channel.close()


@contextlib.contextmanager
def _data_server(log_dir: Path) -> Iterator[str]:
    """The process behind the fast loader; its address."""
    with tempfile.TemporaryDirectory() as directory:
        port = Path(directory, "port")
        process = subprocess.Popen(
            [
                server_ingester.get_server_binary().path,
                f"--logdir={log_dir}",
                "--reload=1",
                f"--samples-per-plugin={schema.PLUGIN}=all",
                "--port=0",
                f"--port-file={port}",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not port.exists() or not port.read_text().endswith("\n"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"localhost:{port.read_text().strip()}"
        finally:
            process.terminate()
            process.wait()


def _wait_until_still(provider: DataProvider) -> None:
    """Wait until the data server has loaded all that there is."""
    deadline = time.monotonic() + START_SECONDS
    before = None
    while time.monotonic() < deadline:
        seen = provider.list_scalars(
            tb_context.RequestContext(),
            experiment_id="",
            plugin_name="scalars",
            run_tag_filter=RunTagFilter(),
        )
        if seen and seen == before:
            return
        before = seen
        time.sleep(0.5)


class TabClient:
    """The routes of the tab and of TensorBoard's own scalars.

    Args:
        provider: What reads the log.
        path_prefix: Of `tensorboard --path_prefix`.
    """

    def __init__(self, provider: DataProvider, path_prefix: str = ""):
        context = TBContext(data_provider=provider, logdir="")
        self.plugin = ActivationsPlugin(context)
        app = TensorBoardWSGI(
            [self.plugin, ScalarsPlugin(context)],
            path_prefix=path_prefix,
            data_provider=provider,
        )
        self._client = Client(app)
        self._prefix = path_prefix

    def get(self, path: str, /, **query: Any) -> TestResponse:
        """The answer to a request below the tab's own address."""
        address = f"{self._prefix}/data/plugin/keras_actpen/{path}"
        return self._client.get(address, query_string=query)

    def ask(self, question: str, /, **query: Any) -> dict[str, Any]:
        """The JSON of a question about the log."""
        response = self.get(f"data/{question}", **query)
        assert response.status_code == 200
        assert response.content_type == "application/json"
        data = response.get_data()
        if response.content_encoding == "gzip":
            data = gzip.decompress(data)
        return json.loads(data, parse_constant=_refuse)

    def tensorboards_own(self, run: str, tag: str) -> list[list[float]]:
        """Steps and values as TensorBoard's Scalars page gets them."""
        response = self._client.get(
            f"{self._prefix}/data/plugin/scalars/scalars",
            query_string={"run": run, "tag": tag},
        )
        return [row[1:] for row in json.loads(response.get_data())]


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON; browsers would not read it.")
