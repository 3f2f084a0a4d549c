"""Twins: a second object that is the same layer, with calls of its own.

Keras notes every call of a layer in the layer and takes the first one for
`layer.output`. A layer that is in two graphs, that of the model passed in and
that with a penalty, is there as two objects: the *root*, which the user made,
and its *twin*, of a subclass of its class and with the very same `__dict__`.
Variables, flags, dtype policies, LoRA and quantization are one and the same;
calls, losses and compiled functions are each object's own.

A twin computes with the methods of its root: what the user wrote never sees
an object of another class, another name or another identity than it expects.
"""

import abc
import functools
import types
import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras.src.ops.operation import Operation

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals import tracing


def _of_root(name: str) -> property:
    """An attribute that is read and set on the root."""
    return property(
        lambda self: getattr(self._twin_root, name),
        lambda self, value: setattr(self._twin_root, name, value),
        lambda self: delattr(self._twin_root, name),
    )


class Disguise:
    """Mixin for a class of this package that stands for a user's class."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a plain object: `type(layer)(...)` means the user's class."""
        return cls.__plain_class__(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Do nothing: the user's class may register its subclasses."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy through Keras's format, by a function that has a name."""
        _, arguments = super().__reduce__()
        return keras.Operation._unpickle_model, arguments


class Twin(Disguise):
    """Mixin for the twin of an operation."""

    __slots__ = ()


class LayerTwin(Twin):
    """Mixin for the twin of a layer."""

    __slots__ = ()

    # What Keras calls on the object itself, in addition to `call`.
    compute_output_spec: Any = _of_root("compute_output_spec")
    compute_output_shape: Any = _of_root("compute_output_shape")
    compute_mask: Any = _of_root("compute_mask")
    get_build_config: Any = _of_root("get_build_config")
    build_from_config: Any = _of_root("build_from_config")
    save_assets: Any = _of_root("save_assets")
    load_assets: Any = _of_root("load_assets")

    # A layer that another one holds would be in a file twice.
    def save_own_variables(self, store: Any) -> None:
        """Save those of the root, unless the file has them already."""
        self._in_file_once(tracing.in_file(), "save_own_variables", store)

    def load_own_variables(self, store: Any) -> None:
        """Load those of the root, unless it has them already."""
        self._in_file_once(tracing.in_file(), "load_own_variables", store)

    def _in_file_once(self, visited: set[int], method: str, store: Any) -> None:
        root = self._twin_root
        if id(root) not in visited:
            getattr(root, method)(store)
            visited.add(id(root))

    # torch.compile (2.13) cannot look into slots.
    @backend.uncompiled
    def _get_own_losses(self) -> list[Tensor]:
        return super()._get_own_losses()

    @backend.uncompiled
    def _clear_losses(self) -> None:
        super()._clear_losses()

    def _computed(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run `call` or `quantized_call` of the root.

        What it adds to the loss is the twin's.
        """
        root = self._twin_root
        count, ids = len(root._losses), set(root._loss_ids)
        outputs = getattr(root, method)(*args, **kwargs)
        if len(root._losses) > count:
            self._losses += root._losses[count:]
            del root._losses[count:]
        if len(root._loss_ids) > len(ids):
            self._loss_ids |= root._loss_ids - ids
            root._loss_ids &= ids
        return outputs

    def _open_name_scope(self) -> Any:
        # Keras (3.15) opens a scope twice for two different callers.
        return self._twin_root._open_name_scope()

    def _track_variables(self) -> None:
        # What torch knows as parameters is shared: not the twin's own.
        self._twin_root._track_variables()

    def _replicate_for_data_parallel(self) -> Any:
        # `torch.nn.DataParallel` makes copies by `type(module).__new__`.
        replica = make_twin(
            self._twin_root._replicate_for_data_parallel(), type(self)
        )
        for name in type(self).__own_slots__:
            own(replica, **{name: getattr(self, name)})
        return replica


class RebuiltModel(Disguise):
    """Mixin for a nested model that has another graph than the user's.

    Its layers are those of the user's model or twins of them. The flag
    `trainable` is one for both, so that `base.trainable = True` on the model
    that the user holds reaches this one.
    """

    __slots__ = ()

    @property
    def _trainable(self) -> bool:
        attributes = vars(self._rebuilt_from)
        if "_trainable" not in attributes:  # TensorFlow asks before it is set
            raise AttributeError("_trainable")
        return attributes["_trainable"]

    @_trainable.setter
    def _trainable(self, value: bool) -> None:
        vars(self._rebuilt_from)["_trainable"] = value


def root_of(operation: Any) -> Any:
    """The object that a twin was made of; any other object is its own."""
    return operation._twin_root if isinstance(operation, Twin) else operation


def original_of(model: Any) -> Any:
    """The model that a nested one was rebuilt from, or `model`."""
    return model._rebuilt_from if isinstance(model, RebuiltModel) else model


def own(twin: Any, **values: Any) -> None:
    """Set what is the twin's alone, past Keras's tracking of attributes."""
    for name, value in values.items():
        object.__setattr__(twin, name, value)


_COMPILED = ("train_function", "test_function", "predict_function")


def _start_of(root: Operation) -> dict[str, Any]:
    """What a new twin of `root` has of its own."""
    start: dict[str, Any] = {"_inbound_nodes": [], "_outbound_nodes": []}
    if isinstance(root, keras.layers.Layer):
        start |= {"_losses": [], "_loss_ids": set()}
    if isinstance(root, keras.Model):
        start |= dict.fromkeys(_COMPILED)
    return start


def make_twin(root: Any, cls: type) -> Any:
    """A twin of `root`, which is not a twin itself.

    Args:
        root: The operation.
        cls: A class made by `twin_class` for the class of `root`.
    """
    twin = object.__new__(cls)
    own(twin, __dict__=vars(root), _twin_root=root, **_start_of(root))
    return twin


# By the user's class and the mixin. They refer to the user's class, and so are
# not kept here: both are collected with the last model.
_classes: "weakref.WeakValueDictionary[tuple[type, type], type]" = (
    weakref.WeakValueDictionary()
)


def twin_class(
    root: Any,
    mixin: type[Twin],
    slots: tuple[str, ...] = (),
    **namespace: Any,
) -> type:
    """A class for twins of operations of one class.

    Args:
        root: One of these operations.
        mixin: Class in front of theirs, which the rest is the same for.
        slots: Names of further attributes that a twin does not share.
        **namespace: Further attributes of the class.
    """
    plain = type(root)
    if (made := _classes.get((plain, mixin))) is not None:
        return made
    methods = {"__own_slots__": slots, **namespace}
    if isinstance(root, keras.layers.Layer):
        for name in ("call", "quantized_call"):
            methods[name] = _computing(getattr(plain, name))
    for cls in plain.__mro__:  # what the user's class keeps in slots
        for name, value in vars(cls).items():
            if isinstance(value, types.MemberDescriptorType):
                methods.setdefault(name, _of_root(name))
    slots = ("_twin_root", *_start_of(root), *slots)
    return _class_before(plain, mixin, slots, methods)


def _computing(method: Callable[..., Any]) -> Callable[..., Any]:
    """`call` of a class of twins, with the signature of the plain one."""

    @functools.wraps(method)
    def computing(self: LayerTwin, *args: Any, **kwargs: Any) -> Any:
        return self._computed(method.__name__, args, kwargs)

    return computing


def _class_before(
    plain: type,
    mixin: type[Disguise],
    slots: tuple[str, ...],
    methods: dict[str, Any],
) -> type:
    """A class that has the names of `plain` and `mixin` in front of it."""
    namespace = {
        "__slots__": slots,
        "__plain_class__": plain,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        **methods,
    }
    # Past a metaclass of the user's, which may register what it makes. That
    # of abstract classes has to keep its own books.
    metaclass = type(plain)
    maker = abc.ABCMeta if issubclass(metaclass, abc.ABCMeta) else type
    bases = (mixin, plain)
    made = maker.__new__(metaclass, plain.__name__, bases, namespace)
    return _classes.setdefault((plain, mixin), made)


def _answer(plain: type) -> property:
    """`__class__` of an object that calls itself an instance of `plain`.

    So do mocks of `unittest`. Files, summaries and `layer.__class__(...)` mean
    the user's class.
    """
    return property(lambda self: plain)


def plain_twin(operation: Any) -> Any:
    """A twin that differs in nothing but its calls."""
    root = root_of(operation)
    mixin = LayerTwin if isinstance(root, keras.layers.Layer) else Twin
    cls = twin_class(root, mixin, __class__=_answer(type(root)))
    return make_twin(root, cls)


def rebuilt_model_class(model: keras.Model) -> type:
    """The class of what `model` is rebuilt as where it is nested."""
    plain = type(original_of(model))
    return _classes.get((plain, RebuiltModel)) or _class_before(
        plain, RebuiltModel, ("_rebuilt_from",), {"__class__": _answer(plain)}
    )
