"""State of the controllers of a model, kept in its weight files."""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

_ATTRIBUTE = "penalty_controllers"


class ControllerStates(keras.layers.Layer):
    """What controllers have to go on from, by the key of their terms.

    A layer without weights, an attribute of the model while it is trained:
    whatever saves the model's weights, as `BackupAndRestore` does, saves it
    too, and models without it pass over it in a file.

    Attributes:
        running: What tells where a controller stands, for each of the running
            training.
        loaded: What a file had, for the controllers of this training.
    """

    def __init__(self):
        super().__init__(name=_ATTRIBUTE)
        self.running: dict[str, Callable[[], dict[str, Any]]] = {}
        self.loaded: dict[str, Any] = {}

    def save_own_variables(self, store: Any) -> None:
        """Write the states as JSON, which keeps every digit."""
        states = {key: state() for key, state in self.running.items()}
        store["json"] = np.frombuffer(json.dumps(states).encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        """Read them; files written without a controller have none."""
        if "json" in store.keys():
            text = np.asarray(store["json"]).tobytes().decode()
            self.loaded = json.loads(text)


def controller_states(model: keras.Model) -> ControllerStates:
    """The states of a model, made where there are none."""
    # Not setattr, which would make it one of the model's layers.
    attributes = vars(model)
    if _ATTRIBUTE not in attributes:
        attributes[_ATTRIBUTE] = ControllerStates()
    return attributes[_ATTRIBUTE]


def forget_controller(model: keras.Model, key: str) -> None:
    """Leave the model without the state of a controller."""
    attributes = vars(model)
    if _ATTRIBUTE in attributes:
        attributes[_ATTRIBUTE].running.pop(key, None)
        if not attributes[_ATTRIBUTE].running:
            del attributes[_ATTRIBUTE]
