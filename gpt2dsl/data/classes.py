"""The labels of texts: classes, which data counts or names, or numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gpt2dsl.data.form import TABLES, Form
from gpt2dsl.data.table import BadRowError


class Classes:
    """The classes of a network. Tables name them, or count them from 0.

    Args:
        names: of the classes.
        form: of the data. The four sets count their classes themselves, whatever names are.
    """

    def __init__(self, names: Sequence[str], form: Form) -> None:
        self.names = tuple(names)
        counted = {str(i): i for i in range(len(names))}
        named = {name: i for i, name in enumerate(names)}
        if form.format == "imdb":
            sides = ("negative", "positive")
            counted = named if set(sides) == set(names) else {n: i for i, n in enumerate(sides)}
        elif form.format in TABLES:
            # Names that look like numbers are names: both at once would mix the classes up.
            counted = named if any(name.isdigit() for name in names) else counted | named
        self._numbers = counted

    def __len__(self) -> int:
        return len(self.names)

    def number(self, label: str) -> int:
        """Return the number of a class that data names, by its name or by its number.

        Raises:
            BadRowError: there is no such class.
        """
        if label in self._numbers:
            return self._numbers[label]
        known = ", ".join(list(self._numbers)[:8])
        raise BadRowError(f"the class is {label!r}, one of {known} is expected")


class Numbers:
    """The labels of a regression, which are numbers themselves."""

    def number(self, label: str) -> float:
        """Return the number that data has for a text.

        Raises:
            BadRowError: it is none.
        """
        try:
            value = float(label)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadRowError(f"the label is {label!r}, a number is expected")
        return value


Labels = Classes | Numbers


def labels_of(names: Sequence[str], form: Form, *, is_regression: bool) -> Labels:
    """Return what reads the labels of data.

    Args:
        names: of the network's outputs.
        form: of the data.
        is_regression: whether labels are numbers.
    """
    return Numbers() if is_regression else Classes(names, form)
