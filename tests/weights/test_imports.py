from __future__ import annotations

import subprocess
import sys

HEAVY = "tokenizers safetensors regex torch transformers mindspore pydoc_data"
CODE = f"""
import importlib, sys, types
# The package itself may import more: here only these two are looked at.
package = types.ModuleType("gpt2dsl")
package.__path__ = [sys.argv[1]]
sys.modules["gpt2dsl"] = package
for name in (
    "files.atomic files.cache data.order data.rows data.source data.tokenizer data.tokens "
    "weights.formats.config weights.formats.huggingface weights.location weights.training_state "
    "weights.reading weights.store"
).split():
    importlib.import_module(f"gpt2dsl.{{name}}")
print([name for name in "{HEAVY}".split() if name in sys.modules])
"""


def test_a_plan_imports_nothing_heavy_with_these_packages() -> None:
    import gpt2dsl.data  # noqa: PLC0415

    folder = gpt2dsl.data.__path__[0].removesuffix("/data")
    run = [sys.executable, "-c", CODE, folder]
    assert subprocess.run(run, capture_output=True, check=True, text=True).stdout == "[]\n"
