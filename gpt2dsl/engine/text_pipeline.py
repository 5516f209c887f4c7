"""A text generation pipeline with the interface of MindFormers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gpt2dsl.engine.generation.prompt import require_list
from gpt2dsl.engine.text_model import TextModel
from gpt2dsl.notebook import ShownAsCode
from gpt2dsl.parts import Generation

RESULT = "text_generation_text"


class TextGeneration(ShownAsCode):
    """A pipeline that continues texts.

    Args:
        model: the model.
        defaults: default values of ``[generation]`` keys.
    """

    def __init__(self, model: TextModel, **defaults: Any) -> None:
        Generation(**defaults)
        self.model, self._defaults = model, defaults

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self._defaults.items())
        return f"<{type(self).__name__} of {self.model!r}{options}>"

    def __call__(self, texts: str | Sequence[str], **generation: Any) -> list[dict[str, list[str]]]:
        """Continue a text, or several.

        Args:
            texts: one text or several.
            generation: keys of ``[generation]``, which override the defaults.

        Returns:
            For each text ``{"text_generation_text": [prompt and continuation, ...]}``.

        Raises:
            TypeError: the texts are neither a text nor a list.
            SpecError: a key or value of ``generation`` is wrong.
            InputError: a text leaves no room to continue it.
        """
        if not isinstance(texts, Iterator):
            require_list(texts)
        prompts = [texts] if isinstance(texts, str) else list(texts)
        length = {"max_length", "max_new_tokens"}
        lengths = length & generation.keys()
        defaults = {k: v for k, v in self._defaults.items() if not (lengths and k in length)}
        settings = self.model.defaults.completed(Generation(**{**defaults, **generation}))
        continuations = self.model.continuations(prompts, settings)
        copies = settings.num_return_sequences
        return [
            {
                RESULT: [
                    continuation.prompt + continuation.text
                    for continuation in continuations[i * copies : (i + 1) * copies]
                ]
            }
            for i in range(len(prompts))
        ]
