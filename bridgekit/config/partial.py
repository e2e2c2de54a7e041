"""What the rules of a model say of values of which some are wrong: pydantic asks them only where all are right."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from bridgekit.config.shape import fields, models
from bridgekit.config.source import Place


def complaints(model: type[BaseModel], values: Mapping[str, Any], place: Place) -> list[tuple[Place, str]]:
    """What the rules about several values (`model_validator(mode="after")`) find wrong, each with its place.

    A rule that needs a value which is wrong or missing says nothing yet.
    """
    found: list[tuple[Place, str]] = []
    _partly(model, values, place, found)
    return found


def _partly(
    model: type[BaseModel], values: Mapping[str, Any], place: Place, found: list[tuple[Place, str]]
) -> BaseModel:
    """The model with those values that are right, and without the others."""
    right: dict[str, Any] = {}
    wrong: list[str] = []
    for key, info in fields(model).items():
        if key in values:
            try:
                right[key] = _value(info, values[key], (*place, key), found)
            except ValidationError:
                wrong.append(key)
    whole = model.model_construct(**right)
    for key in wrong:
        whole.__dict__.pop(key, None)  # its default is not what was meant
    for decorator in model.__pydantic_decorators__.model_validators.values():
        if decorator.info.mode == "after":
            with contextlib.suppress(AttributeError):  # it asks for a value that is not there
                try:
                    decorator.func(whole)
                except ValueError as error:
                    found.append((place, str(error)))
    return whole


def _value(info: FieldInfo, value: Any, place: Place, found: list[tuple[Place, str]]) -> Any:
    candidates = models(info.annotation)
    if len(candidates) == 1 and isinstance(value, Mapping):
        return _partly(candidates[0], value, place, found)
    if len(candidates) == 1 and isinstance(value, list):
        return [
            _partly(candidates[0], one, (*place, index), found) if isinstance(one, Mapping) else one
            for index, one in enumerate(value)
        ]
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(kind).validate_python(value)
