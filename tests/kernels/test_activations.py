"""An activation that one table has and another lacks is refused by name, never replaced."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from gpt2dsl.kernels.activation import OPERATORS
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite.onnx_activations import FORMULAS
from gpt2dsl.lite.onnx_activations import activation as onnx_activation
from gpt2dsl.lite.onnx_nodes import Nodes
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.schema.activations import NAMES
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.formats.settings import inexpressible, to_settings
from tests.judges import TINY

UNKNOWN = attrs.evolve(TINY, activation="cube")


def test_every_table_has_every_activation() -> None:
    assert set(OPERATORS) == set(FORMULAS) == set(NAMES)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(GPT2, id="network, MindIR and Lite"),
        pytest.param(lambda config: onnx_activation(Nodes({}), "x", config.activation), id="ONNX"),
        pytest.param(lambda config: to_settings(config, {}), id="MindFormers' YAML"),
        pytest.param(to_config, id="config.json"),
    ],
)
def test_an_activation_without_a_row_is_refused_by_name(
    use: Callable[[GPT2Config], object],
) -> None:
    with pytest.raises(KeyError, match="cube"):
        use(UNKNOWN)


@pytest.mark.parametrize(
    "name", [*sorted(set(NAMES) - {"gelu", "gelu_new", "fast_gelu", "relu"}), "cube"]
)
def test_what_mindformers_lacks_is_refused_by_name(name: str) -> None:
    config = attrs.evolve(TINY, inner=0, activation=name)
    assert inexpressible(config) == [f"the activation {name}"]
    with pytest.raises(KeyError, match=name):
        to_settings(config, {})
