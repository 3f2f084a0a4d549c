"""Showing logs: a TensorBoard server for one log directory."""

import contextlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import IO

from rich.console import Console

START_SECONDS = 180


@contextlib.contextmanager
def tensorboard_server(
    log_dir: str | os.PathLike[str], *arguments: str
) -> Iterator[str]:
    """Run TensorBoard on a free port that only this machine can reach.

    Args:
        log_dir: Its log directory.
        arguments: Further arguments of its command line.

    Yields:
        Its address, `http://127.0.0.1:<port>/`, once it answers.

    Raises:
        RuntimeError: If it does not start.
    """
    command = [
        *(sys.executable, "-m", "tensorboard.main"),
        *("--logdir", os.fspath(log_dir)),
        # 0: a free port, named in the output.
        *("--host", "127.0.0.1", "--port", "0"),
        *arguments,
    ]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield _wait_until_it_answers(process, output)
        finally:
            process.terminate()
            process.wait()


def say_how_to_open(log_dir: str) -> None:
    """Print the command that shows a log directory."""
    _say(
        "\nSee every term and the activations in TensorBoard:\n\n"
        # Not `tensorboard`: it may not be on the path.
        f"    {shlex.quote(sys.executable)} -m tensorboard.main "
        f"--logdir {shlex.quote(log_dir)}\n\n"
        f"then open http://localhost:6006/{_page()}"
    )


def stay_open(log_dir: str) -> None:
    """Show a log directory in TensorBoard until Ctrl-C."""
    with (
        # Ctrl-C ends the wait, and with it the server.
        contextlib.suppress(KeyboardInterrupt),
        tensorboard_server(log_dir) as url,
    ):
        _say(f"\nTensorBoard: {url}{_page()}\nPress Ctrl-C to stop it.")
        while True:
            time.sleep(3600)


def _page() -> str:
    """What follows the address: the Activations tab, if it is installed."""
    # Found, not imported: TensorBoard loads it, in a process of its own.
    is_there = importlib.util.find_spec("keras_actpen_tensorboard") is not None
    return "?smoothing=0#keras_actpen" if is_there else "?smoothing=0"


def _say(text: str) -> None:
    Console().print(text, highlight=False, soft_wrap=True)


def _wait_until_it_answers(process: subprocess.Popen, output: IO[str]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        output.seek(0)
        url = re.search(r"at (http://127\.0\.0\.1:\d+/)", output.read())
        if url:
            with urllib.request.urlopen(url[1]):
                return url[1]
        time.sleep(0.2)
    output.seek(0)
    raise RuntimeError(
        f"TensorBoard did not start within {START_SECONDS} seconds. It "
        f"said:\n{output.read()}"
    )
