"""The text pages: what is attached, and what was wrong."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras_actpen.attach.layer_refs import output_shape
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.findings import Finding
from keras_actpen.tensorboard import events, tags
from keras_actpen.tensorboard.numerals import without_noise

_ATTACHED = (
    "What is penalized or watched in the model, and what the statistics mean."
)
_FINDINGS = "All findings up to an epoch; the step is the epoch's number."


def attached(
    layers: Mapping[str, PenalizedLayer],
    version: str,
    asked: tuple[str, ...] = (),
) -> Iterator[events.Value]:
    """The page that says what is attached, and what the statistics mean.

    Args:
        layers: The penalized and watched layers by path.
        version: Version of this package.
        asked: Names of the optional statistics.
    """
    lines = [
        f"keras_actpen {version}",
        "",
        "| layer | class | output shape | on | term | penalty |",
        "|---|---|---|---|---|---|",
    ]
    for path, layer in layers.items():
        about = (path, type(layer).__name__, output_shape(layer))
        for name, term in layer.actpen.terms.items():
            # The coefficient may have been moved since it was attached.
            penalty = (
                f"{without_noise(repr(term.penalty))}, now "
                f"{layer.actpen.coefficients[name]:g}"
            )
            lines.append(_row(*about, str(term.spec), name, penalty))
        if not layer.actpen.terms:
            lines.append(
                _row(*about, str(layer.actpen.specs[0]), "watched", "")
            )
    # A list: TensorBoard breaks long words in narrow columns of a table.
    lines += ["", "Statistics of the activations:", ""]
    definitions = tags.definitions(asked)
    lines += [f"- **{name}**: {text}" for name, text in definitions.items()]
    yield events.text("actpen/attached", "\n".join(lines), _ATTACHED)


@dataclass
class _Told:
    """A finding that one epoch or more have had."""

    first: int
    last: int
    text: str


class FindingsPage:
    """All findings of a training in one table, a row per layer and kind."""

    def __init__(self):
        self._told: dict[tuple[str, str, int], _Told] = {}
        self._written: list[str] = []

    def add(self, epoch: int, found: Sequence[Finding]) -> bool:
        """Take in an epoch.

        Returns:
            Whether it has a finding that no epoch before it had.
        """
        before = len(self._told)
        counted: dict[tuple[str, str], int] = {}
        for finding in found:
            key = finding.path, finding.kind
            counted[key] = counted.get(key, 0) + 1
            text = f"{finding.path}: {finding.message}"
            told = self._told.setdefault(
                (*key, counted[key]), _Told(epoch, epoch, text)
            )
            told.last, told.text = epoch, text
        return len(self._told) > before

    def page(self) -> Iterator[events.Value]:
        """The page, unless it is as it was written before."""
        lines = ["| epochs | finding |", "|---|---|"]
        for told in self._told.values():
            epochs = {told.first: None, told.last: None}
            lines.append(_row(" to ".join(map(str, epochs)), told.text))
        if not self._told or lines == self._written:
            return
        self._written = lines
        yield events.text("actpen/findings", "\n".join(lines), _FINDINGS)


def _row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(map(_escaped, cells)) + " |"


# All that can be markup; `_` is none within a word.
_MARKUP = re.compile(r"""[^\w .,:;/()='"+-]|(?<![^\W_])_|_(?![^\W_])""")


def _escaped(cell: str) -> str:
    """Markdown that shows a cell as it is: names may hold any character."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cell)
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown)
