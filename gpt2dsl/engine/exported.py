"""Exported graphs with their tokenizer, ready to generate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from gpt2dsl.data import tokenizer_files
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.weights_tokenizer import of_weights
from gpt2dsl.engine.generation.decoder import Decoder
from gpt2dsl.engine.generation.prompt import Prompt
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.text_model import AT_ONCE, TextModel
from gpt2dsl.errors import Fault, InputError, SpecError, in_words
from gpt2dsl.files import cache
from gpt2dsl.lite import description, opening
from gpt2dsl.lite.decoder import ExportedDecoder
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.onnx_decoder import OnnxDecoder
from gpt2dsl.lite.onnx_ports import GENERATES
from gpt2dsl.lite.runtimes.base import Closing, GraphRuntime
from gpt2dsl.lite.shapes import PREFILL
from gpt2dsl.parts import Generation
from gpt2dsl.schema.folder import GENERATION
from gpt2dsl.weights import defaults
from gpt2dsl.weights.defaults import Defaults


class ExportedModel(TextModel, Closing):
    """A text model that runs exported graphs; a context manager.

    Args:
        runtime: runtime of the graphs.
        described: description of the graphs.
        tokenizer: tokenizer of the weights.
        beside: ``[generation]`` defaults from the files beside the graphs.
    """

    def __init__(
        self,
        runtime: GraphRuntime,
        described: Description,
        tokenizer: Tokenizer,
        beside: Defaults | None = None,
    ) -> None:
        shapes = described.shapes
        geometry = attrs.evolve(shapes.geometry, positions=shapes.length)
        at_once = AT_ONCE if described.task else shapes.batch
        super().__init__(tokenizer, geometry, at_once, defaults=beside)
        self.runtime, self.described = runtime, described

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        tokenizer: str = "auto",
        arguments: Mapping[str, str] | None = None,
    ) -> ExportedModel:
        """Load the model of an exported folder.

        Args:
            name: the folder.
            tokenizer: auto for the one beside the graphs, gpt2, or a folder.
            arguments: as for ``LanguageModel.load``.

        Raises:
            InputError: the folder is no export (G2-301), is damaged (G2-304), can't generate
                (G2-317), has another vocabulary than its tokenizer (G2-205), or its runtime is
                missing (G2-531).
        """
        folder = cache.expanded(name)
        described = description.read(folder)
        if not {PREFILL, GENERATES} & set(described.files):
            graphs = ", ".join(described.files)
            message = f"it has no graphs with a cache, which generate: {graphs}"
            raise InputError("G2-317", folder, message)
        with in_words(arguments or {}):
            loaded_tokenizer = _tokenizer(folder, tokenizer, described.shapes.geometry.vocab)
        beside = defaults.read(None, folder / GENERATION, described.shapes.geometry)
        return cls(opening.runtime(folder, described), described, loaded_tokenizer, beside)

    def _request(
        self, prompt: Prompt, generation: Generation, number: int, **options: bool
    ) -> Request:
        if not self.described.task and generation.beams > self.at_once:
            key = "generation.beams"
            message = f"{generation.beams} beams need an export of such a batch: this has rows for "
            origin = generation.why("beams")
            raise SpecError([Fault("G2-203", origin, key, f"{message}{self.at_once}")])
        return super()._request(prompt, generation, number, **options)

    def _new_decoder(self, batch: int) -> Decoder:
        shapes = self.described.shapes
        if self.described.task:
            return OnnxDecoder(self.runtime, shapes.geometry, shapes.length, batch)
        return ExportedDecoder(self.runtime, shapes, shapes.geometry.vocab)

    def close(self) -> None:
        """Release the resources of the runtime."""
        self.runtime.close()


def _tokenizer(folder: Path, name: str, vocab: int) -> Tokenizer:
    """Load the tokenizer of an export with that many rows in its word table."""
    if name == "auto":
        return of_weights(folder if tokenizer_files.is_beside(folder) else None, vocab, folder)
    tokenizer = Tokenizer.load(name)
    tokenizer.require(vocab, name)
    return tokenizer
