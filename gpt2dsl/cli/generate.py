"""``gpt2dsl generate``: continuation of texts with given weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gpt2dsl.cli import options
from gpt2dsl.data import documents
from gpt2dsl.parts import Generation
from gpt2dsl.recipe import Recipe

if TYPE_CHECKING:
    from gpt2dsl.engine.job import Result


class _Lists(click.ParamType[list[Any]]):
    """An option whose value is a list of lists in JSON or TOML notation."""

    name = "list"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            lists = json.loads(value)
        except ValueError:
            lists = None
        if not isinstance(lists, list):
            self.fail(f"expected a list as in [[1, 2], [3]], found {value!r}", param, ctx)
        return lists


_KINDS: dict[str, Any] = {
    "max_new_tokens": int, "max_length": int, "logprobs": int, "eos": int,
    "suppress_tokens": int, "begin_suppress_tokens": int, "forced_bos_token_id": int,
    "forced_eos_token_id": int, "bad_words_ids": _Lists(), "sequence_bias": _Lists(),
    "exponential_decay_length_penalty": _Lists(),
    "early_stopping": click.Choice(("true", "false", "never")),
}  # fmt: skip
_REPEATED = {
    "bad_words": "--bad-word", "stop_strings": "--stop", "eos": "--eos",
    "suppress_tokens": "--suppress-token", "begin_suppress_tokens": "--begin-suppress-token",
    "forced_eos_token_id": "--forced-eos-token-id",
}  # fmt: skip
"""Key of a list → option that adds an item to it."""


@click.command(
    "generate",
    help="Continue texts with WEIGHTS: a folder, run or checkpoint, a size, or a name on the Hub.",
)
@options.weights()
@click.option("--prompt", "prompts", multiple=True, help="A text to continue; may be repeated.")
@click.option(
    "--prompts",
    "file",
    metavar="FILE",
    help="A file with a prompt per line, or a .jsonl; - for stdin.",
)
@options.tokenizer
@options.overrides
@options.quiet
@options.as_json
@click.option("--jsonl", is_flag=True, help="Print a line of JSON for each text.")
def command(
    *,
    weights: str,
    prompts: tuple[str, ...],
    file: str | None,
    tokenizer: str | None,
    as_json: bool,
    jsonl: bool,
    **given: Any,
) -> None:
    inputs, option = prompts_asked(prompts, file, as_json=as_json, jsonl=jsonl)
    network = {name: given.pop(name) for name in options.OF_NETWORK}
    recipe = Recipe().override(
        {
            "model.weights": (weights, "WEIGHTS"),
            **options.network(network),
            **options.named_tokenizer(tokenizer),
            "task.kind": ("generate", option),
            "task.prompts": (inputs, option),
            **_keys(given),
        }
    )
    streams = bool(given["stream"]) and not (as_json or jsonl)
    shown = (lambda text: click.echo(text, nl=False)) if streams else None
    result = recipe.plan().run(keep=False, on_text=shown)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    if not streams:
        echo_texts(result, as_json=as_json, jsonl=jsonl)


def echo_texts(result: Result, *, as_json: bool, jsonl: bool) -> None:
    if jsonl:
        for continuation in result.continuations:
            click.echo(documents.dumps(continuation.to_json()))
    else:
        options.echo_result(result, as_json=as_json)


def prompts_asked(
    prompts: tuple[str, ...], file: str | None, *, as_json: bool, jsonl: bool
) -> tuple[tuple[str, ...] | str, str]:
    """Return the prompts or their file, and the option that has them.

    Raises:
        UsageError: options exclude each other, or there is no prompt.
    """
    asked = options.texts_or_file("prompt", prompts, file)
    if as_json and jsonl:
        raise click.UsageError("expected --json or --jsonl; found both")
    return asked


def generation(given: dict[str, Any]) -> Generation:
    """Return the ``[generation]`` part given by options.

    Raises:
        SpecError: every fault.
    """
    part = Recipe().override(_keys(given)).parts.get("generation")
    return part if isinstance(part, Generation) else Generation()


def _keys(given: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    return {
        f"generation.{name}": (_value(name, value), _flag(name))
        for name, value in given.items()
        if value not in (None, ())
    }


def _flag(name: str) -> str:
    return _REPEATED.get(name, f"--{name.replace('_', '-')}")


def _value(name: str, value: Any) -> Any:
    if name == "early_stopping":
        return {"true": True, "false": False}.get(value, value)
    return list(value) if name in _REPEATED else value


def _option(name: str) -> click.Option:
    """Return the option for a field of ``[generation]``, with the field's help text."""
    default, doc = getattr(Generation(), name), Generation.rules()[name].doc
    kind = _KINDS.get(name, str if name in _REPEATED else type(default))
    shown = "" if default in (None, ()) else f" (default {str(default).lower()})"
    # --no-X, since the weights' files may turn an option on
    flags = f"{_flag(name)}/--no-{_flag(name)[2:]}" if kind is bool else _flag(name)
    return click.Option(
        [flags, name], is_flag=kind is bool, type=None if kind is bool else kind,
        default=None, multiple=name in _REPEATED, help=f"{doc[0].upper()}{doc[1:]}{shown}.",
    )  # fmt: skip


def options_of_generation() -> list[click.Parameter]:
    """Return an option for every key of ``[generation]``."""
    return [_option(name) for name in Generation.rules()]


command.params += options_of_generation()
