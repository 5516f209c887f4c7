"""GPT-2 in MindSpore: network, losses, evaluation, and decoding with a KV cache."""

import gpt2dsl.backend  # noqa: F401  # quiets MindSpore, which has to be done before its import
