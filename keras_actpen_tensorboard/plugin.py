"""The plugin as TensorBoard sees it: how it is loaded, and its routes."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tensorboard import context as tb_context
from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from keras_actpen_tensorboard import schema
from keras_actpen_tensorboard.data import Log
from keras_actpen_tensorboard.documents import NotReadableError
from keras_actpen_tensorboard.provider import Listed

_STATIC = Path(__file__).parent / "static"
# By hand: what mimetypes knows depends on the registry of Windows.
_MIME_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".txt": "text/plain",
}

_logger = logging.getLogger(__name__)

# What answers a question about the log, with the arguments of the request.
_Answer = Callable[[Log, Any], dict[str, Any]]


class ActivationsLoader(base_plugin.TBLoader):
    """What TensorBoard calls before it starts."""

    def fix_flags(self, flags: Any) -> None:
        """Keep all points of our data, unless the user has said otherwise.

        Without it the slow loader keeps 10 of 1,000 epochs. An exception here
        would end TensorBoard itself.
        """
        samples = getattr(flags, "samples_per_plugin", None)
        if isinstance(samples, dict):
            # 0: all of them.
            samples.setdefault(schema.PLUGIN, 0)

    def load(self, context: base_plugin.TBContext) -> "ActivationsPlugin":
        """Make the plugin."""
        return ActivationsPlugin(context)


class ActivationsPlugin(base_plugin.TBPlugin):
    """The Activations tab.

    Args:
        context: What TensorBoard gives to every plugin.
    """

    plugin_name = schema.PLUGIN

    def __init__(self, context: base_plugin.TBContext):
        self._provider = context.data_provider
        self._listed: Listed = {}

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Name of the tab and its first module."""
        return base_plugin.FrontendMetadata(
            es_module_path="/index.js", tab_name="Activations"
        )

    def is_active(self) -> bool:
        """Whether a log of 0.1.0 is there.

        TensorBoard asks only where no run holds data of our own.
        """
        log = Log(self._provider, tb_context.RequestContext(), "")
        return bool(log.old_runs())

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """One exact route for every static file and every question."""
        static = {
            f"/{path.relative_to(_STATIC).as_posix()}": _static_app(path)
            for path in _static_files()
        }
        answers = {
            f"/data/{name}": self._data_app(answer)
            for name, answer in _ANSWERS.items()
        }
        return static | answers

    def _data_app(self, answer: _Answer) -> Callable[..., Any]:
        @wrappers.Request.application
        def serve(request: wrappers.Request) -> wrappers.Response:
            log = Log(
                self._provider,
                plugin_util.context(request.environ),
                plugin_util.experiment_id(request.environ),
                self._listed,
            )
            try:
                content = answer(log, request.args)
            except NotReadableError as error:
                content = {"error": str(error)}
            except Exception as error:  # a message on the page, never a blank
                _logger.exception("The Activations tab could not answer.")
                content = {"error": f"{type(error).__name__}: {error}"}
            # A string: TensorBoard would walk through every number of a dict.
            text = json.dumps(content, allow_nan=False, separators=(",", ":"))
            return http_util.Respond(request, text, "application/json")

        return serve


def _static_files() -> Iterator[Path]:
    for path in _STATIC.rglob("*"):
        if path.suffix in _MIME_TYPES:
            yield path


def _static_app(path: Path) -> Callable[..., Any]:
    @wrappers.Request.application
    def serve(request: wrappers.Request) -> wrappers.Response:
        return http_util.Respond(
            request, path.read_bytes(), _MIME_TYPES[path.suffix]
        )

    return serve


def _number(arguments: Any, name: str, otherwise: int) -> int:
    """A whole number among the arguments of a request."""
    try:
        return int(arguments.get(name, otherwise))
    except ValueError:
        raise NotReadableError(
            f"Expected a whole number for `{name}`. "
            f"Received: {arguments[name]!r}"
        ) from None


def _window(arguments: Any) -> dict[str, int]:
    """From which step on, and how many points at most."""
    return {
        "after": _number(arguments, "after", 0),
        "points": _number(arguments, "points", 10**6),
    }


def _place(arguments: Any) -> dict[str, str]:
    return {name: arguments.get(name, "") for name in ("run", "kind", "path")}


_ANSWERS: dict[str, _Answer] = {
    "trainings": lambda log, _: {"trainings": log.trainings()},
    "training": lambda log, a: log.training(a.get("run", "")),
    "curves": lambda log, a: log.curves(
        a.get("run", ""), a.getlist("group"), a.get("path"), **_window(a)
    ),
    "finals": lambda log, a: {"finals": log.finals(a.getlist("tag"))},
    "values": lambda log, a: log.values(**_place(a), **_window(a)),
    "units": lambda log, a: log.units(**_place(a), **_window(a)),
    "findings": lambda log, a: log.findings(
        a.get("run", ""), _number(a, "after", 0)
    ),
}
