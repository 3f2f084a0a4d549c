"""What a trainer hands from step to step, and reports."""

import functools
from collections.abc import Callable
from typing import Any

import keras


def give_back_jax_state(model: keras.Model, state: tuple[Any, ...]) -> None:
    """Give the variables the values of a JAX step that was interrupted.

    Keras's JAX trainer takes them off the variables before the first step of
    an epoch and has nothing to put back when that step fails (Keras 3.15).
    What the device has already begun to overwrite is lost all the same.

    Args:
        model: The model.
        state: The first argument of its train or test function.
    """
    kinds = ["trainable_variables", "non_trainable_variables"]
    kinds += ["optimizer_variables"] if len(state) == 4 else []
    kinds += ["metrics_variables"]
    values = keras.tree.flatten(state)
    if not any(value.is_deleted() for value in values):
        model._jax_state = dict(zip(kinds, state, strict=True))
        model._jax_state_synced = False
        model.jax_state_sync()


def build_optimizer(model: keras.Model) -> None:
    """Create the optimizer's variables, as Keras's first step would.

    TensorFlow traces a step twice if it creates variables. With 64 watched
    layers the second trace took three tenths of the first epoch.
    """
    # A step of the user's own may have other optimizers.
    step = getattr(model.train_step, "__func__", None)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or step is not keras.Model.train_step:
        return
    if model.trainable_variables and not optimizer.built:
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(model.trainable_variables)


def wrap_reported_logs(
    model: keras.Model, wrap: Callable[[Callable[[Any], Any], Any], Any]
) -> None:
    """Take part in what `fit` and `evaluate` report after their last step.

    Keras computes it anew from the metrics if these are all that the logs of
    the last step hold. `get_metrics_result`, which is public, is called
    within steps too, where it cannot be told which step it is.

    Args:
        model: The model; if it is wrapped already nothing changes.
        wrap: Called as `wrap(report, logs)` with Keras's own function and
            the logs of the last step; returns the logs to report.
    """
    if "_get_metrics_result_or_logs" not in vars(model):
        report = model._get_metrics_result_or_logs
        wrapped = functools.partial(wrap, report)
        vars(model)["_get_metrics_result_or_logs"] = wrapped


def unwrap_reported_logs(model: keras.Model) -> None:
    """Undo `wrap_reported_logs`."""
    vars(model).pop("_get_metrics_result_or_logs", None)


def batches_seen(optimizer: Any) -> Any:
    """The variable in which an optimizer counts batches.

    With gradient accumulation the public `iterations` counts updates: batches
    divided by `gradient_accumulation_steps` and rounded down.

    Args:
        optimizer: The optimizer of a model, or what stands there.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(inner, "_iterations", inner.iterations)
