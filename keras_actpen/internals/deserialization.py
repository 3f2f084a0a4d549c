"""Reading descriptions, which may come from a file that anyone wrote."""

from collections.abc import Mapping
from typing import Any

import keras


def parts(argument: str, config: Any, *keys: str) -> list[Any]:
    """Values of a configuration by their keys.

    Args:
        argument: Name of the configuration, for the message.
        config: What was passed for it.
        keys: Keys that it must have.

    Raises:
        ValueError: If it is not a mapping or a key is missing.
    """
    if isinstance(config, Mapping) and all(key in config for key in keys):
        return [config[key] for key in keys]
    raise ValueError(
        f"Invalid value received for argument `{argument}`. Expected a "
        f"dictionary with the keys {list(keys)}, as `get_config` returns it. "
        f"Received: {argument}={config!r}"
    )


def described(argument: str, config: Any, kind: type, **options: Any) -> Any:
    """What a description by `keras.saving.serialize_keras_object` is of.

    Args:
        argument: Name of the description, for the message.
        config: What was passed for it.
        kind: Class that it must describe an instance of.
        options: What `keras.saving.deserialize_keras_object` takes.

    Raises:
        TypeError: If Keras knows no such class.
        ValueError: If it describes something else, or holds a lambda and
            Keras's safe mode is on.
    """
    try:
        found = keras.saving.deserialize_keras_object(config, **options)
    except (TypeError, ValueError):
        raise
    except Exception as error:
        # Keras 3.15 checks little: KeyError, AttributeError, OverflowError
        # and more were seen (tests/contract/test_fuzz.py).
        raise _no_description(
            argument, config, kind, f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, kind):
        raise _no_description(
            argument, config, kind, f"which describes a {type(found).__name__}"
        )
    return found


def _no_description(
    argument: str, config: Any, kind: type, why: str
) -> ValueError:
    return ValueError(
        f"Invalid value received for argument `{argument}`. Expected the "
        f"description of a {kind.__name__}, as "
        "`keras.saving.serialize_keras_object` returns it. Received: "
        f"{argument}={config!r} ({why})"
    )
