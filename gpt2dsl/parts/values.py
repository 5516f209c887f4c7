"""Values of fields, as Python has them and as users write them."""

from __future__ import annotations

import re
import sys
from typing import Any


def plain(value: Any) -> Any:
    """Return a value with NumPy's scalars, also those in lists and tables, as Python's own."""
    numpy = sys.modules.get("numpy")  # a value of NumPy's can't be there before NumPy is
    if numpy is None:
        return value
    if isinstance(value, numpy.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    return value


def as_written(value: Any) -> Any:
    """Return a value with the tuples that parts keep as the lists that users write."""
    return list(map(as_written, value)) if isinstance(value, list | tuple) else value


def comma(number: str) -> str:
    """Return advice on a number that was written with commas."""
    if not re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", number):
        return f"decimals have a point: {number.replace(',', '.')}"
    decimal = f", or {number.replace(',', '.')} for a decimal" if number.count(",") == 1 else ""
    return f"numbers have no commas: {number.replace(',', '')}{decimal}"


class Patterns(dict[str, float]):
    """Frozen, ordered table of regexes and numbers, of which the first match counts."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and list(self.items()) == list(other.items())

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]  # it is immutable
        return hash(tuple(self.items()))

    def _frozen(self, *_: object, **__: object) -> Any:
        raise TypeError("a recipe does not change; recipe.set(...) makes another")

    __setitem__ = __delitem__ = pop = popitem = clear = update = setdefault = _frozen
    __ior__ = _frozen

    def __reduce__(self) -> tuple[type[Patterns], tuple[dict[str, float]]]:
        """Return the constructor and its argument: pickle and copy can't set items one by one."""
        return Patterns, (dict(self),)
