"""What one training or evaluation of a model accumulates."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.instrumentation.host_state import (
    HostSinceFired,
    HostStatistics,
    HostTotals,
)
from keras_actpen.instrumentation.term_totals import TermTotals
from keras_actpen.statistics.activation_statistics import ActivationStatistics
from keras_actpen.statistics.device_state import DeviceState
from keras_actpen.statistics.optional import (
    CURVES,
    STATES,
    OptionalStatistic,
    Values,
)
from keras_actpen.statistics.since_fired import (
    SinceFired,
)
from keras_actpen.statistics.snapshot import StatisticsSnapshot

# A watched place: the path of its layer and where it is.
SpecKey: TypeAlias = tuple[str, ActivationSpec]


class RunState:
    """What is accumulated for the layers of one model in one training.

    Args:
        layers: The penalized layers by path; they must have been called,
            symbolically or not.
    """

    def __init__(self, layers: Mapping[str, PenalizedLayer]):
        self.layers: Mapping[str, PenalizedLayer] = layers
        self.paths: dict[int, str] = {
            id(layer): path for path, layer in layers.items()
        }
        terms = [
            (path, term)
            for path, layer in layers.items()
            for term in layer.actpen.terms
        ]
        self.is_on_host: bool = backend.is_on_host()
        # None where all layers are only watched.
        self.totals: dict[str, TermTotals | HostTotals] = {
            phase: HostTotals(terms) if self.is_on_host else TermTotals(terms)
            for phase in ("train", "test")
            if terms
        }
        # Of evaluations; None until they are asked for.
        self.validation: ActivationStatistics | HostStatistics | None = None
        self.specs: list[SpecKey] = [
            (path, spec)
            for path, layer in layers.items()
            for spec in layer.actpen.specs
        ]
        self.rows: dict[SpecKey, int] = {
            key: row for row, key in enumerate(self.specs)
        }
        units = [
            layers[path].actpen.spec_units.get(spec)
            for path, spec in self.specs
        ]
        self.statistics: ActivationStatistics | HostStatistics = (
            HostStatistics(units)
            if self.is_on_host
            else ActivationStatistics(units)
        )
        self._units = units
        # Calls of each phase's function that have run since the last `reset`.
        self.runs: dict[str, int] = {"train": 0, "test": 0}
        # None until it is asked for.
        self.since_fired: SinceFired | HostSinceFired | None = None
        # Those that were asked for, by their class.
        self.optional: dict[
            SpecKey, dict[type[OptionalStatistic], OptionalStatistic]
        ] = {key: {} for key in self.specs}

    def follow_units(self) -> None:
        """Keep at every step which units have fired."""
        kind = HostSinceFired if self.is_on_host else SinceFired
        self.since_fired = kind(self._units)

    def add_optional(self, names: Iterable[str]) -> None:
        """Take the statistics of these names too, where they are defined."""
        for (path, spec), states in self.optional.items():
            layer = self.layers[path]
            units = layer.actpen.spec_units.get(spec)
            for kind in {STATES[name]: None for name in names}:
                if kind not in states and kind.applies_to(layer, spec, units):
                    states[kind] = kind.of(layer, units)

    def optional_values(self, names: Iterable[str]) -> dict[SpecKey, Values]:
        """Values of these statistics at each place, where they are taken."""
        curves = [curve for name in names for curve in CURVES[name]]
        kinds = {STATES[name] for name in names}
        found = {}
        for key, states in self.optional.items():
            values = {}
            for kind in kinds & states.keys():
                values |= states[kind].read()
            found[key] = {c: values[c] for c in curves if c in values}
        return found

    def snapshots(self) -> dict[SpecKey, StatisticsSnapshot]:
        """Statistics of every watched place."""
        found = dict(zip(self.specs, self.statistics.read(), strict=True))
        if self.since_fired is not None:
            for key, seen in zip(
                self.specs, self.since_fired.read(), strict=True
            ):
                if seen is not None:
                    since, positions = seen
                    found[key] = dataclasses.replace(
                        found[key], since_fired=since, positions=positions
                    )
        return found

    def device_states(self) -> list[DeviceState]:
        """What holds the variables."""
        states = [*self.totals.values(), self.since_fired, *self._of_period()]
        return [one for one in states if isinstance(one, DeviceState)]

    def _of_period(self) -> list[DeviceState | HostStatistics]:
        """What is known of the activations of a period."""
        optional = (states.values() for states in self.optional.values())
        validation = [] if self.validation is None else [self.validation]
        return [self.statistics, *validation, *itertools.chain(*optional)]

    def reset(self, phase: str) -> None:
        """Start a new period."""
        self.runs[phase] = 0
        states = self._of_period() if phase == "train" else []
        if phase in self.totals:
            states.append(self.totals[phase])
        for one in states:
            one.reset()

    def add_validation(self) -> None:
        """Take the statistics of evaluations too."""
        self.validation = type(self.statistics)(self._units)

    def validation_snapshots(self) -> dict[SpecKey, StatisticsSnapshot]:
        """Statistics of every watched place, as evaluations saw it."""
        return dict(zip(self.specs, self.validation.read(), strict=True))

    def statistics_of(self, phase: str) -> Any:
        """What takes the statistics of a phase."""
        is_apart = phase == "test" and self.validation is not None
        return self.validation if is_apart else self.statistics

    def install(self) -> None:
        """Hand the state through the steps of the model."""
        states = self._states_of_model()
        states += [one for one in self.device_states() if one not in states]

    def uninstall(self) -> None:
        """Undo `install`."""
        states, own = self._states_of_model(), self.device_states()
        states[:] = [one for one in states if one not in own]

    def _states_of_model(self) -> list[DeviceState]:
        # Of the first layer: not its own, which plain models share.
        return next(iter(self.layers.values())).actpen.states
