"""Immutable classes that validate their values by their annotations, without importing pydantic.

pydantic takes 70 CPU-milliseconds of a cold start, for a dozen classes. So these validate themselves, for the
few kinds of annotation that occur here. For the API description, ``model_of`` makes a pydantic model from the
same annotations.
"""

from __future__ import annotations

import itertools
import operator
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Self,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

Check = Callable[[Any], Any]
"""Returns its argument, possibly rounded. Raises ``ValueError`` or ``TypeError`` for a disallowed value."""


class _Rule:
    """An annotation of a type: a check, and its keywords in JSON Schema."""

    def schema(self) -> dict[str, Any]:
        """Return the keywords in JSON Schema."""
        return {}

    def __call__(self, value: Any) -> Any:
        """Check ``value``."""
        raise NotImplementedError

    def __get_pydantic_json_schema__(self, core: Any, handler: Check) -> dict[str, Any]:
        return {**handler(core), **self.schema()}


@dataclass(frozen=True)
class Number(_Rule):
    """A number from ``least`` to ``most``, rounded to ``places`` decimals if that is given."""

    least: int
    most: int | None = None
    places: int | None = None

    def __call__(self, value: float) -> float:
        """Round before checking the bounds, as a probability may be 1.0000001."""
        if self.places is not None:
            value = round(float(value), self.places)
        # Written so that NaN is refused.
        if not self.least <= value or (self.most is not None and not value <= self.most):
            raise ValueError(f"{value} is not within {self.least} and {self.most}")
        return value

    def schema(self) -> dict[str, Any]:
        """Return ``minimum`` and ``maximum``."""
        most = {} if self.most is None else {"maximum": self.most}
        return {**most, "minimum": self.least}


@dataclass(frozen=True)
class Pattern(_Rule):
    """A text that matches a regular expression."""

    pattern: str

    def __call__(self, value: str) -> str:
        """Match at the beginning of ``value``; the expression has to anchor the end itself."""
        if not re.match(self.pattern, value) or value.endswith("\n"):
            raise ValueError(f"{value!r} does not match {self.pattern}")
        return value

    def schema(self) -> dict[str, Any]:
        """Return the expression."""
        return {"pattern": self.pattern}


@dataclass(frozen=True)
class NotEmpty(_Rule):
    """A tuple of at least one element."""

    def __call__(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        """Refuse an empty tuple."""
        if not value:
            raise ValueError("at least one is needed")
        return value

    def schema(self) -> dict[str, Any]:
        """Return ``minItems``."""
        return {"minItems": 1}


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Part:
    """The base class: created with values by name, and immutable.

    Raises ``ValueError`` for a missing value or one that its annotation does not allow, and ``TypeError`` for
    an unknown name or a value of another type. In JSON, names lose a trailing underscore.
    """

    def __init__(self, **values: Any) -> None:
        checks = _checks(type(self))
        if unknown := values.keys() - checks.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        for name, check in checks.items():
            if name in values:
                try:
                    self.__dict__[name] = check(values[name])
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{type(self).__name__}.{name}: {error}") from None
            elif not hasattr(type(self), name):
                raise ValueError(f"{type(self).__name__} needs {name}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return an instance with ``values`` of unknown types."""
        return cls(**values)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of its values, in order."""
        return tuple(_checks(cls))

    def values(self) -> dict[str, Any]:
        """Return its values by name."""
        return {name: getattr(self, name) for name in _checks(type(self))}

    def changed(self, **values: Any) -> Self:
        """Return a copy with other ``values``."""
        return type(self)(**{**self.values(), **values})

    def as_json(self, *, nulls: bool = True) -> dict[str, Any]:
        """Return a JSON object; without ``nulls``, values that are None are left out."""
        members = {}
        for name, written in _written(type(self)).items():
            value = getattr(self, name)
            if nulls or value is not None:
                members[written] = _as_json(value, nulls) if isinstance(value, (Part, tuple)) else value
        return members

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), *self.values().values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values().items())
        return f"{type(self).__name__}({values})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Check) -> Any:
        return handler(model_of(cls))


_MODELS: dict[type[Part], type[BaseModel]] = {}
_CHECKS: dict[type[Part], dict[str, Check]] = {}
_WRITTEN: dict[type[Part], dict[str, str]] = {}


def model_of(part: type[Part]) -> type[BaseModel]:
    """Return the pydantic model of ``part``, for the description; it is created once."""
    if part in _MODELS:
        return _MODELS[part]
    from pydantic import Field, create_model

    hints, docs = get_type_hints(part, include_extras=True), field_docs(part, Part)
    fields: dict[str, Any] = {
        name.removesuffix("_"): (hint, Field(getattr(part, name, ...), description=docs.get(name)))
        for name, hint in hints.items()
    }
    model: type[BaseModel] = create_model(
        part.__name__, __doc__=part.__doc__, __module__=part.__module__, **fields
    )
    return _MODELS.setdefault(part, model)


def field_docs(model: type, base: type) -> dict[str, str]:
    """Return the docstrings of the fields of ``model``, a subclass of ``base``, from its source.

    This takes milliseconds, so it is left to the description: with pydantic's ``use_attribute_docstrings``,
    every cold start would pay for it.
    """
    docs: dict[str, str] = {}
    for each in reversed(model.__mro__[: model.__mro__.index(base)]):
        docs |= _docs_in(each.__module__)[each.__name__]
    return docs


@cache
def _docs_in(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the attributes of each class in ``module``, by class and attribute."""
    import ast
    import inspect

    docs: dict[str, dict[str, str]] = {}
    # Parsing a module once takes a fraction of the time in which ``inspect`` finds its classes one by one.
    for definition in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(definition, ast.ClassDef):
            fields = docs[definition.name] = {}
            for field, after in itertools.pairwise(definition.body):
                match field, after:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        fields[name] = inspect.cleandoc(text)
    return docs


def _as_json(value: Any, nulls: bool) -> Any:
    if isinstance(value, Part):
        return value.as_json(nulls=nulls)
    return [_as_json(each, nulls) for each in value] if isinstance(value, tuple) else value


def _written(part: type[Part]) -> dict[str, str]:
    """Return the names of the values of ``part``, with their names in JSON."""
    if part not in _WRITTEN:
        _WRITTEN[part] = {name: name.removesuffix("_") for name in _checks(part)}
    return _WRITTEN[part]


# -- checks of annotations -----------------------------------------------------------------------------------


def _checks(part: type[Part]) -> dict[str, Check]:
    """Return the check of each value of ``part``; created on first use."""
    if part not in _CHECKS:
        hints = get_type_hints(part, include_extras=True)
        _CHECKS[part] = {name: _check(hint) for name, hint in hints.items()}
    return _CHECKS[part]


def _check(hint: Any) -> Check:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _each((_check(arguments[0]), *arguments[1:]))
    if origin is Literal:
        return _one_of(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is frozenset:
        return frozenset
    if origin in (Union, UnionType):
        return _union(arguments)
    return _SIMPLE.get(hint) or _instance(hint)


def _each(checks: tuple[Check, ...]) -> Check:
    def check(value: Any) -> Any:
        for each in checks:
            value = each(value)
        return value

    return check


def _one_of(allowed: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {allowed}")
        return value

    return check


def _tuple(arguments: tuple[Any, ...]) -> Check:
    if arguments[-1] is Ellipsis:
        every = _check(arguments[0])
        return lambda value: tuple(every(each) for each in value)
    checks = [_check(argument) for argument in arguments]
    return lambda value: tuple(check(each) for check, each in zip(checks, value, strict=True))


def _union(arguments: tuple[Any, ...]) -> Check:
    checks = [_check(argument) for argument in arguments if argument is not NoneType]

    def check(value: Any) -> Any:
        if value is None and NoneType in arguments:
            return None
        for each in checks[:-1]:
            try:
                return each(value)
            except (TypeError, ValueError):
                continue
        return checks[-1](value)

    return check


def _instance(kind: type) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is not a {kind.__name__}")
        return value

    return check


_SIMPLE: dict[Any, Check] = {float: float, int: operator.index}
