"""Refused settings in sentences: which, what was given, what would be right, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from toolkit.environment import variable_of
from toolkit.urls import DATABASES, hide_passwords, show_scheme


def secrets_among(fields: Mapping[str, FieldInfo]) -> frozenset[str]:
    """Return the names of the fields that hold secrets."""
    return frozenset(
        name for name, field in fields.items() if SecretStr in (field.annotation, *get_args(field.annotation))
    )


def explain(error: ValidationError, fields: Mapping[str, FieldInfo], environment: Mapping[str, str]) -> str:
    """Put pydantic's findings into one sentence each, without secrets."""
    secrets = secrets_among(fields)
    sentences = []
    for finding in error.errors(include_url=False, include_context=True):
        message = finding["msg"].removeprefix("Value error, ")
        if not finding["loc"]:
            sentences.append(message)
            continue
        name, value = str(finding["loc"][0]), finding["input"]
        given = "" if name in secrets else "=" + _shown(name, value)
        message = message[0].lower() + message[1:]
        variable = variable_of(name, environment)
        if variable and environment[variable] == value:
            message = f"{message}, as {variable} in the environment says"
        elif finding["type"] == "string_type" and isinstance(value, bool | int | float):
            message += f"; for text write {name}='\"{'TEXT' if name in secrets else value}\"'"
        sentences.append(f"{name}{given}: {message} ({fields[name].description})")
    return "; ".join(sentences)


def _shown(name: str, value: object) -> str:
    """Show a value, but for the password that an address may have been given with."""
    return show_scheme(value) if name in DATABASES else hide_passwords(repr(value))
