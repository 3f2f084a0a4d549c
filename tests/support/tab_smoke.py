"""The Activations tab where there is `tensorboard` and nothing else of ours.

    python tab_smoke.py LOG_DIR

in an environment that has the wheel (installed with --no-deps) and
`tensorboard`, but neither Keras nor a backend.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

SECONDS = 60
ABSENT = ("keras", "tensorflow", "jax", "torch")


def main(log_dir: str) -> None:
    """Show a log with both loaders."""
    found = [name for name in ABSENT if importlib.util.find_spec(name)]
    assert found == [], f"This environment has {found}."
    for load_fast in ("true", "false"):
        trainings, listing = answers(log_dir, load_fast)
        assert trainings, "No training is shown."
        assert listing["keras_actpen"]["enabled"]
        assert listing["keras_actpen"]["tab_name"] == "Activations"
        print(f"load_fast={load_fast}: {[one['name'] for one in trainings]}")


def answers(log_dir: str, load_fast: str) -> tuple[list, dict]:
    """What a server says: the trainings, and the list of its tabs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", log_dir]
    command += ["--port", "0", "--host", "127.0.0.1", "--load_fast", load_fast]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            url = wait(lambda: address(output))
            routes = f"{url}data/plugin/keras_actpen"
            trainings = wait(
                lambda: get(f"{routes}/data/trainings")["trainings"]
            )
            run = urllib.parse.quote(trainings[0]["run"], safe="")
            assert get(f"{routes}/data/training?run={run}")["layers"]
            with urllib.request.urlopen(f"{routes}/index.js") as response:
                assert response.status == 200
            listing = wait(lambda: get(f"{url}data/plugins_listing"))
            return trainings, listing
        finally:
            process.terminate()
            process.wait()


def wait(ask):
    """The first answer that is something."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.3)
    raise AssertionError("There was no answer in time.")


def address(output) -> str | None:
    """The address that the server has printed."""
    output.seek(0)
    found = re.search(r"at (http://127\.0\.0\.1:\d+/)", output.read())
    return found and found[1]


def get(url: str) -> dict:
    """The JSON at an address."""
    with urllib.request.urlopen(url) as response:
        return json.load(response)


if __name__ == "__main__":
    main(sys.argv[1])
