"""What the calls of layers inside a layer show, in one call of that layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import keras
from keras import ops

from keras_actpen import backend, internals
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.capture import (
    Watched,
    observed_call,
    only_tapped,
    own_activation,
    tapped_activation,
    watched_at,
)
from keras_actpen.attach.padding import MasksAround, mask_for
from keras_actpen.backend.tensors import Tensor

Layer = keras.layers.Layer


class Penalized(Protocol):
    """A `PenalizedLayer`, whose attachment needs this module."""

    wrapped_layer: Layer
    actpen: Any


class CannotLeave(ValueError):
    """Activations that only the code that computes them can use."""


@dataclass(slots=True)
class _InnerCall:
    """A call of a layer inside another one."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    preactivation: Tensor | None


@dataclass(slots=True)
class Listener:
    """Sees one layer during one call of the layer around it."""

    layer: Penalized
    reach: object
    scope: object
    calls: list[_InnerCall] = field(default_factory=list)
    refusal: ValueError | None = None

    def __call__(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make a call of the layer."""
        preactivation = None
        specs = self.layer.actpen.specs
        if any(spec.on == "preactivation" for spec in specs):
            root = self.layer.wrapped_layer
            outputs, preactivation = self._tapped(root, method, args, kwargs)
        else:
            outputs = method(*args, **kwargs)
        if internals.stateless_scope() is not self.scope:
            # Only traced for the spec of the outputs, as some modes of
            # `keras.RematScope` do before each call.
            return outputs
        if backend.running_reach() != self.reach:
            self.refusal = cannot_leave(self.layer)
        else:
            self.calls.append(_InnerCall(args, kwargs, outputs, preactivation))
        return outputs

    def _tapped(
        self,
        root: Layer,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any, Tensor | None]:
        has_activation = own_activation(root) is not None
        tap = tapped_activation(root) if has_activation else nullcontext([])
        with tap as seen:
            outputs = method(*args, **kwargs)
        try:
            return outputs, only_tapped(root, seen)
        except ValueError as error:  # raised when the host's call is over
            self.refusal = error
            return outputs, None


# The penalized layers inside a layer, each with what one call has shown.
Inside: TypeAlias = list[tuple[Penalized, Watched]]


def observed_inside(
    host: Layer,
    specs: Sequence[ActivationSpec],
    inner: Sequence[Penalized],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    call: Callable[..., Any],
) -> tuple[Any, Watched, Inside]:
    """Call a layer inside of which others are penalized.

    Args:
        host: The layer.
        specs: Where it is looked at itself.
        inner: The penalized layers inside.
        args: Arguments of the call.
        kwargs: Keyword arguments of the call.
        call: What computes the outputs.

    Returns:
        The outputs, the tensors at each place, and those of each call inside.

    Raises:
        CannotLeave: If a layer inside is called where nothing gets out.
    """
    inside: Inside = [(one, {}) for one in inner if not one.actpen.of_calls]
    listening = [one for one in inner if one.actpen.of_calls]
    with listening_to(listening) as listeners:
        outputs, watched = observed_call(host, specs, args, kwargs, call)
    # Not earlier: Keras puts a mask on a tensor after the layer's call.
    around = MasksAround(host, args, kwargs)
    for one in listeners:
        if one.refusal is not None:
            raise one.refusal
        inside += [(one.layer, seen) for seen in watched_by(one, around)]
    return outputs, watched, inside


@contextmanager
def listening_to(inner: list[Penalized]) -> Iterator[list[Listener]]:
    """See the calls of some layers in this block."""
    reach, scope = backend.running_reach(), internals.stateless_scope()
    listeners = [Listener(one, reach, scope) for one in inner]
    with internals.inner_calls_made_by(
        [(one.layer.wrapped_layer, one) for one in listeners]
    ):
        yield listeners


def cannot_leave(layer: Penalized) -> CannotLeave:
    """The error of a layer whose activations cannot be used elsewhere."""
    within = layer.actpen.within
    host = within.parents[0]
    return CannotLeave(
        "Invalid value received for argument `layers`. Expected a layer whose "
        "activations can be used outside of the code that calls it. Received: "
        f"{within.path!r} inside layer {host.name!r} (of type "
        f"{type(host).__name__}), which is called in a loop, a branch, a "
        "rematerialized block or another function that is traced by itself "
        "and lets out only what it returns. Target the layer around it"
        + _advice(within.stepped_by)
    )


def _advice(stepped_by: Layer | None) -> str:
    if isinstance(stepped_by, keras.layers.RNN):
        return f", or make {stepped_by.name!r} with unroll=True"
    if stepped_by is not None:
        return f", or give {stepped_by.name!r} a fixed number of steps"
    return ""


def not_called(layer: Penalized) -> ValueError:
    """The error of a layer that the one around it does not call."""
    within = layer.actpen.within
    host = within.parents[0]
    return ValueError(
        "Invalid value received for argument `layers`. Expected a layer that "
        f"layer {host.name!r} (of type {type(host).__name__}) calls. Received: "
        f"{within.path!r} inside it, which it holds but does not call, or "
        "calls only in a function that was traced before. Target "
        f"{host.name!r} itself or a layer that it calls"
    )


def watched_by(listener: Listener, around: MasksAround) -> list[Watched]:
    """What is watched in each call of a layer inside another one.

    Args:
        listener: What has seen the calls.
        around: Masks of what the other one is called on.
    """
    layer = listener.layer
    root, actpen = layer.wrapped_layer, layer.actpen
    specs = actpen.of_calls
    stepped_by = actpen.within.stepped_by
    if stepped_by is not None and len(listener.calls) > 1:
        return [_of_all_steps(listener, specs, around.steps, stepped_by)]
    found = []
    for call in listener.calls:
        seen = watched_at(
            specs,
            root,
            call.outputs,
            call.args,
            call.kwargs,
            call.preactivation,
        )
        found.append(
            {
                spec: around.masked(tensors, root, call.args, call.kwargs)
                for spec, tensors in seen.items()
            }
        )
    return found


def _of_all_steps(
    listener: Listener,
    specs: Sequence[ActivationSpec],
    padding: Tensor | None,
    stepped_by: Layer,
) -> Watched:
    """One sequence of the steps that a layer is called on one by one."""
    if padding is not None and _goes_backwards(stepped_by):
        padding = ops.flip(padding, axis=1)
    steps = [
        watched_at(
            specs,
            listener.layer.wrapped_layer,
            call.outputs,
            call.args,
            call.kwargs,
            call.preactivation,
        )
        for call in listener.calls
    ]
    joined: Watched = {}
    for spec in specs:
        parts = zip(*(step[spec] for step in steps), strict=True)
        tensors = [ops.stack([x for x, _ in part], axis=1) for part in parts]
        joined[spec] = [(x, mask_for(x, None, padding)) for x in tensors]
    return joined


def _goes_backwards(stepped_by: Layer) -> bool:
    return getattr(stepped_by, "go_backwards", False)


def step_mask(
    padding: Tensor | None, stepped_by: Layer, step: int
) -> Tensor | None:
    """The mask of one of the steps that a layer is called on one by one."""
    if padding is None or step >= padding.shape[1]:
        return None
    return padding[:, -1 - step if _goes_backwards(stepped_by) else step]
