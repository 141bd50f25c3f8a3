"""A model whose instances may be made before their fields are read: a field is read at its first use.

1. Only `later` makes such an instance. One that was validated is an ordinary model of pydantic's.
2. It has some fields from the start. A field of `read_alone` is read by itself, any other together with all the rest,
   once; from then on nothing tells the instance from a validated one.
3. pydantic writes, compares, copies and pickles a model by its `__dict__`, so that reads whatever is not read yet.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel

_set = object.__setattr__  # the models are frozen


class Deferred(BaseModel):
    """The base of such models; a subclass says how its fields are read."""

    if not TYPE_CHECKING:
        __slots__ = ("_source",)

    read_alone: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """How single fields are read from a source."""

    @classmethod
    def read(cls, source: Any) -> dict[str, Any]:
        """The values of all fields, of the types that the fields have: they are not validated."""
        raise NotImplementedError

    @classmethod
    def made(cls, values: dict[str, Any]) -> Self:
        """An instance with these fields, which are right already: validating them costs as much as reading them."""
        model = cls.__new__(cls)
        _set_values(model, values)
        _complete(model)
        return model

    @classmethod
    def later(cls, source: Any, known: dict[str, Any]) -> Self:
        """An instance that has the `known` fields, and reads the others from `source` when they are asked for."""
        model = cls.__new__(cls)
        _set_values(model, known)
        _set_source(model, source)
        return model

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            try:
                source = _get_source(self)
            except AttributeError:  # all is read
                return super().__getattr__(name)
            read = self.read_alone.get(name)
            if read is None:
                _read_rest(self, source)
                return object.__getattribute__(self, name)
            value = _get_values(self)[name] = read(source)
            return value

        @property
        def __dict__(self) -> dict[str, Any]:
            try:
                source = _get_source(self)
            except AttributeError:
                return _get_values(self)
            _read_rest(self, source)
            return _get_values(self)

        @__dict__.setter
        def __dict__(self, values: dict[str, Any]) -> None:
            _set_values(self, values)


# What stands behind the names `__dict__` and `_source`. Asking for them by name would read everything.
_get_values, _set_values = BaseModel.__dict__["__dict__"].__get__, BaseModel.__dict__["__dict__"].__set__
_get_source, _set_source = Deferred.__dict__["_source"].__get__, Deferred.__dict__["_source"].__set__
_forget_source = Deferred.__dict__["_source"].__delete__
_names_of: dict[type[Deferred], set[str]] = {}


def _complete(model: Deferred) -> None:
    """Give it what pydantic keeps beside the fields."""
    kind = type(model)
    names = _names_of.get(kind) or _names_of.setdefault(kind, set(kind.model_fields))
    _set(model, "__pydantic_fields_set__", names)
    _set(model, "__pydantic_extra__", None)
    _set(model, "__pydantic_private__", None)


def _read_rest(model: Deferred, source: Any) -> None:
    values = model.read(source)
    values.update(_get_values(model))  # what was handed out already stays the same object
    _complete(model)
    _set_values(model, values)
    with suppress(AttributeError):  # another thread was quicker
        _forget_source(model)
