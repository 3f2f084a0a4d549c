"""Coefficients that are set between two steps, on JAX."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_actpen import backend
from keras_actpen.attach.penalized_layer import PenalizedLayer


class HandedCoefficients:
    """Hands changed coefficients to the coming step of a model.

    Only where `backend.hands_state_through` is there something to do.

    Args:
        model: The model.
        layers: Its penalized layers.
    """

    def __init__(self, model: keras.Model, layers: Iterable[PenalizedLayer]):
        self._model = model
        self._coefficients = [
            layer.actpen.coefficients for layer in layers if layer.actpen.terms
        ]
        # How often they had been set when they were handed to a step, and
        # when a step last ran with them.
        self._handed = self._seen = -1

    def in_arguments(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of a step in which changed coefficients are seen."""
        if not backend.hands_state_through():
            return args
        self._handed = self._changes
        if self._handed == self._seen:
            return args
        current = {
            id(one.variable): list(one.values()) for one in self._coefficients
        }
        (trainable, non_trainable, *others), *data = args
        non_trainable = list(non_trainable)
        variables = self._model.non_trainable_variables
        for index, variable in enumerate(variables):
            if id(variable) in current:
                # Again: a sync may have undone it since.
                variable.assign(current[id(variable)])
                non_trainable[index] = variable.value
        return (trainable, non_trainable, *others), *data

    def end_step(self) -> None:
        """The step that got them has run."""
        self._seen = self._handed

    def end_epoch(self) -> None:
        """Set again what was handed to a step that did not run.

        Keras gives the variables the state after the last one that did.
        """
        if backend.hands_state_through() and self._changes != self._seen:
            for one in self._coefficients:
                one.variable.assign(list(one.values()))

    @property
    def _changes(self) -> int:
        changes = 0
        for one in self._coefficients:
            changes += one.changes
        return changes
