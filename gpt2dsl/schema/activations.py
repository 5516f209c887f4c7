"""Names of activations: transformers' ACT2FN → ours."""

from __future__ import annotations

ACTIVATIONS = {
    "gelu_new": "gelu_new",
    "gelu": "gelu",
    # MindSpore's FastGeLU, x exp(0.851 (x - |x|)) / (1 + exp(-1.702 |x|)), is x sigmoid(1.702 x).
    "quick_gelu": "fast_gelu",
    "relu": "relu",
    "gelu_10": "gelu_10",
    "laplace": "laplace",
    "leaky_relu": "leaky_relu",
    "linear": "linear",
    "mish": "mish",
    "relu2": "relu2",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
    # other names of the tanh form
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_accurate": "gelu_new",
    # other names of activations above
    "gelu_python": "gelu",
    "swish": "silu",
}
"""Name in transformers → name in GPT2Config; the first name of each is the one written."""

HAVE_PARAMETERS = ("prelu", "xielu")
"""Names in transformers of activations with trainable parameters."""

NAMES = tuple(dict.fromkeys(ACTIVATIONS.values()))
"""Names in GPT2Config, each implemented by all backends."""

WRITTEN = {name: written for written, name in reversed(ACTIVATIONS.items())}
"""Name in GPT2Config → name in config.json."""


def refusal(name: object) -> str:
    """Return why an activation is unsupported, and the remedy; "" if it is supported."""
    if name in HAVE_PARAMETERS:
        return "it has parameters of its own, which no GPT-2 file holds; choose another activation"
    if not isinstance(name, str) or name not in ACTIVATIONS:
        return f"one of {', '.join(ACTIVATIONS)} is expected"
    return ""
