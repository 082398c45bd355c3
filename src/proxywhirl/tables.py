"""Tables of TOML that users write: what is wrong with one. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

__all__ = ["what_is_wrong"]


def what_is_wrong(exc: ValidationError, model: type[BaseModel]) -> str:
    """Name each wrong key of a table and what is wrong with it, without its value: that may be a secret."""
    parts = []
    for error in exc.errors(include_input=False, include_url=False):
        name = str(error["loc"][0])
        if error["type"] == "extra_forbidden":
            what = f"there is none of this name; known: {', '.join(sorted(model.model_fields))}"
        else:
            what = error["msg"].removeprefix("Value error, ")
        parts.append(f"{name}: {what}")
    return "; ".join(dict.fromkeys(parts))
