"""Which terms a call of `attach_penalty` asks for, and on which layers."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_actpen import penalties
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.layer_refs import LayerRef
from keras_actpen.attach.left_out import without_unsuited
from keras_actpen.attach.select import Entries, find
from keras_actpen.penalties.validation import check_coefficient, check_term_name


def requested_terms(
    model: keras.Model,
    layers: Entries | Mapping[Any, penalties.Identifiers],
    penalty: penalties.Identifiers | None,
    l1: float | None,
    l2: float | None,
    name: str | None,
    spec: ActivationSpec,
) -> list[tuple[LayerRef, list[penalties.Penalty]]]:
    """The layers to penalize, each with its new penalties.

    The arguments are those of `attach_penalty`, `on` and `output` as `spec`.
    """
    if isinstance(layers, Mapping):
        if penalty is not None or l1 is not None or l2 is not None:
            raise ValueError(
                "Invalid value received for argument `penalty`. Expected "
                "`penalty`, `l1` and `l2` to be unset when `layers` is a "
                "mapping from layers to penalties. Received: "
                f"penalty={penalty!r}, l1={l1!r}, l2={l2!r}"
            )
        requests = list(layers.items())
    else:
        requests = [(layers, penalty)]
    wanted: dict[tuple[int, str], tuple[LayerRef, list[penalties.Penalty]]] = {}
    for entry, given in requests:
        new = _penalties(given, l1, l2, name)
        found = find(model, entry)
        for ref in without_unsuited(model, found, spec):
            wanted.setdefault(ref.key, (ref, []))[1].extend(new)
    if not wanted:
        raise _nothing_to_penalize("layers={}")
    return list(wanted.values())


def _penalties(
    given: penalties.Identifiers | None,
    l1: float | None,
    l2: float | None,
    name: str | None,
) -> list[penalties.Penalty]:
    if given is None:
        given = []
    elif isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        given = [given]
    found = [penalties.identifiers.to_penalty(one) for one in given]
    if l1 is not None:
        found.append(penalties.L1(check_coefficient("l1", l1)))
    if l2 is not None:
        found.append(penalties.L2(check_coefficient("l2", l2)))
    if not found:
        raise _nothing_to_penalize("no penalty")
    if name is not None:
        check_term_name(name)
        if len(found) > 1:
            raise ValueError(
                "Invalid value received for argument `name`. Expected a name "
                "only where one term is added; give each penalty its own, "
                "for example L2(0.01, name='energy'). Received: "
                f"name={name!r} for {[one.name for one in found]}"
            )
        # The penalty may be in use elsewhere under its own name.
        found = [copy.copy(found[0])]
        found[0].name = name
    return found


def _nothing_to_penalize(received: str) -> ValueError:
    return ValueError(
        "Invalid value received for argument `penalty`. Expected a penalty, "
        "for example l2=0.01 or penalty='l1'; to log activations without a "
        f"penalty use `watch_activations`. Received: {received}"
    )
