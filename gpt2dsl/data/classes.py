"""Labels of texts: classes, numbered or named, or the numbers of a regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gpt2dsl.data.bad_rows import BadRowError
from gpt2dsl.data.form import TABLES, DataFormat
from gpt2dsl.data.table import unknown_class
from gpt2dsl.schema.fate import shown


class Classes:
    """Classes of a network, which tables name or number from 0; the data sets number their own."""

    def __init__(self, names: Sequence[str], form: DataFormat) -> None:
        self.names = tuple(names)
        counted = {str(i): i for i in range(len(names))}
        named = {name: i for i, name in enumerate(names)}
        if form.format == "imdb":
            sides = ("negative", "positive")
            counted = named if set(sides) == set(names) else {n: i for i, n in enumerate(sides)}
        elif form.format in TABLES:
            # If a name is a number, labels are names only: numbers would be ambiguous.
            counted = named if any(name.isdigit() for name in names) else counted | named
        self._numbers = counted

    def __len__(self) -> int:
        return len(self.names)

    def number(self, label: str) -> int:
        """Return the number of a class, given its name or number in the data.

        Raises:
            BadRowError: there is no such class.
        """
        if label in self._numbers:
            return self._numbers[label]
        raise unknown_class(label, list(self._numbers)[:8])


class Numbers:
    """Labels of a regression, which are numbers."""

    def number(self, label: str) -> float:
        """Return the value of a label.

        Raises:
            BadRowError: it is no finite number.
        """
        try:
            value = float(label)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            message = f"the label is {shown(label)}, a number is expected"
            raise BadRowError(message, "label", shown(label))
        return value


Labels = Classes | Numbers


def labels_of(names: Sequence[str], form: DataFormat, *, is_regression: bool) -> Labels:
    """Return the reader of the data's labels: numbers for a regression, else the named classes."""
    return Numbers() if is_regression else Classes(names, form)
