"""Putting something in another's place, and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def put(owner: Any, name: str, value: object) -> Iterator[None]:
    """Put ``value`` where ``owner`` has ``name``; afterwards what was there is back.

    Args:
        owner: a module, a pipeline, or a list of modules, whose names are numbers.
        name: of an attribute that it has, if only through its class.
        value: a module for a module.
    """
    before = getattr(owner, name)
    own = name in vars(owner) or name in vars(owner).get("_modules", {})
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
