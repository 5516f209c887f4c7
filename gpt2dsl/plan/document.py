"""The JSON document of a plan."""

from __future__ import annotations

from typing import Any

import attrs
import cattrs.gen

from gpt2dsl.errors import Fault
from gpt2dsl.plan.inputs import Input


def public_fields(plan: attrs.AttrsInstance) -> dict[str, Any]:
    """Return the public fields of a plan as JSON-serialisable values."""
    converter = cattrs.Converter()
    for cls, internal in ((Fault, "compared"), (Input, "enclosed")):
        omitted: Any = {internal: cattrs.override(omit=True)}
        hook = cattrs.gen.make_dict_unstructure_fn(cls, converter, **omitted)
        converter.register_unstructure_hook(cls, hook)
    return {
        name: converter.unstructure(getattr(plan, name))
        for field in attrs.fields(type(plan))
        if not (name := field.name).startswith("_")
    }
