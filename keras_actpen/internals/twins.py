"""Twins: a second object that is the same layer, with calls of its own.

Keras notes in a layer each call of it, and takes the first for
`layer.output`. A layer that is to be in two graphs, the one of the model passed
in and the one with a penalty, is there as two objects: the layer and its twin,
of a subclass of its class and with the very same `__dict__`. Variables, flags,
dtype policies, LoRA and quantisation are one and the same; the calls, and the
losses noted by `add_loss`, are each object's own.
"""

import types
import weakref
from typing import Any

import keras
from keras.src.ops.operation import Operation

_ON_TORCH = keras.backend.backend() == "torch"
_ROOT = "__twin_of__"


class Twin:
    """Mixin in front of a layer's class: what is not the layer's own state."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Another layer of the class, as `type(layer)(...)` means it."""
        return cls.__plain_class__(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Nothing: the user's class may count its subclasses."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy through Keras's format, as any layer, by a class with a name."""
        _, arguments = super().__reduce__()
        return keras.layers.Layer._unpickle_model, arguments


class LayerTwin(Twin):
    """Mixin for layers."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; what it adds to the loss is this object's."""
        # By a method that the layer has kept, and that is the first object's.
        root = root_of(self)
        losses, ids = len(root._losses), set(root._loss_ids)
        outputs = super().__call__(*args, **kwargs)
        if len(root._losses) > losses:
            self._losses += root._losses[losses:]
            del root._losses[losses:]
        if len(root._loss_ids) > len(ids):
            self._loss_ids |= root._loss_ids - ids
            root._loss_ids &= ids
        return outputs

    def _open_name_scope(self) -> Any:
        # `build` is the first layer's own: scopes are told apart by callers.
        return root_of(self)._open_name_scope()

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Add a weight, under the path that the layer's others have."""
        return root_of(self).add_weight(*args, **kwargs)


def root_of(operation: Any) -> Any:
    """The object that a twin was made of; other objects are their own."""
    if _ROOT in getattr(type(operation), "__twin_slots__", ()):
        return getattr(operation, _ROOT)
    return operation


_NODES = ("_inbound_nodes", "_outbound_nodes")
_LOSSES = ("_losses", "_loss_ids")
_FUNCTIONS = ("train_function", "test_function", "predict_function")


def twin_class(
    plain: type,
    bases: tuple[type, ...] = (),
    slots: tuple[str, ...] = (),
    methods: dict[str, Any] | None = None,
) -> type:
    """A class of twins of `plain`."""
    own = [_ROOT, *_NODES, *slots]
    if issubclass(plain, keras.layers.Layer):
        own += _LOSSES
        if _ON_TORCH:
            own.append("_compiled_call_impl")
    if issubclass(plain, keras.Model):
        own += _FUNCTIONS
    namespace: dict[str, Any] = {
        "__slots__": tuple(own),
        "__twin_slots__": tuple(own),
        "__plain_class__": plain,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        **(methods or {}),
    }
    for cls in plain.__mro__:
        for name, value in vars(cls).items():
            if isinstance(value, types.MemberDescriptorType):
                namespace.setdefault(name, _of_root(name))
    if not bases:
        # Files, summaries and `layer.__class__(...)` mean the layer's class.
        namespace["__class__"] = property(lambda self: plain)
        bases = (LayerTwin if issubclass(plain, keras.layers.Layer) else Twin,)
    return types.new_class(
        plain.__name__,
        (*bases, plain),
        exec_body=lambda body: body.update(namespace),
    )


def _of_root(name: str) -> property:
    """State that the user's class keeps in slots."""
    return property(
        lambda self: getattr(root_of(self), name),
        lambda self, value: setattr(root_of(self), name, value),
        lambda self: delattr(root_of(self), name),
    )


def own(twin: Any, **values: Any) -> None:
    """Set what is the twin's alone, past Keras's tracking of attributes."""
    for name, value in values.items():
        object.__setattr__(twin, name, value)


def make_twin(root: Any, cls: type) -> Any:
    """A twin of `root`, which is no twin itself."""
    twin = object.__new__(cls)
    own(twin, __dict__=vars(root), **{_ROOT: root})
    own(twin, _inbound_nodes=[], _outbound_nodes=[])
    if isinstance(root, keras.layers.Layer):
        own(twin, _losses=[], _loss_ids=set())
        if _ON_TORCH:
            own(twin, _compiled_call_impl=None)
    if isinstance(root, keras.Model):
        own(twin, **dict.fromkeys(_FUNCTIONS))
    return twin


_classes: "weakref.WeakKeyDictionary[type, type]" = weakref.WeakKeyDictionary()


def plain_twin(operation: Operation) -> Any:
    """A twin that differs in nothing but its calls."""
    root = root_of(operation)
    if type(root) not in _classes:
        _classes[type(root)] = twin_class(type(root))
    return make_twin(root, _classes[type(root)])
