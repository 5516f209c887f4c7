"""What a folder of weights says of its tokenizer: prompts, texts, refusals, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
)

import gpt2dsl
from gpt2dsl import Data, Generation, InputError, Model, Recipe, SpecError, Task, Train
from tests.folders import END, small_vocabulary
from tests.judges import redraw

TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": END, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": END, "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {END: {"id": END, "ids": [263], "tokens": [END]}},
}


def words(folder: Path, *added: str) -> Any:
    small_vocabulary(folder)
    tokenizer = GPT2TokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens(list(added))
    tokenizer.save_pretrained(folder)
    return tokenizer


def network(folder: Path, vocab: int, cls: Any = GPT2LMHeadModel, **config: Any) -> Any:
    """Two layers of width 32 with random weights."""
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=vocab, n_positions=64, n_embd=32, n_layer=2, n_head=2, **config
    )  # fmt: skip
    model = cls(shape).eval()
    redraw(model)
    model.save_pretrained(folder)
    return model


def saying(folder: Path, plan: list[int], vocab: int) -> Any:
    """A network whose best token after position p is ``plan[p]``."""
    model = network(folder, vocab, bos_token_id=263, eos_token_id=263)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("transformer.h."):
                parameter.zero_()
        rows = torch.nn.functional.layer_norm(torch.randn(vocab, 32), (32,))
        model.transformer.wte.weight.copy_(rows)
        model.transformer.wpe.weight[: len(plan)] = 100 * rows[plan]
        model.transformer.ln_f.weight.fill_(1.0)
        model.transformer.ln_f.bias.zero_()
    model.save_pretrained(folder)
    return model


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), "utf-8")


def test_a_prompt_has_the_tokens_that_the_post_processor_puts_around_it(tmp_path: Path) -> None:
    words(tmp_path)
    template = {**TEMPLATE, "single": TEMPLATE["single"][:2]}  # type: ignore[index]
    change(tmp_path / "tokenizer.json", post_processor=template)
    saying(tmp_path, [0, 65, 66, 67, 68], 264)
    (found,) = gpt2dsl.load(str(tmp_path)).continuations(["the cat"], Generation(max_new_tokens=3))
    assert (found.prompt_tokens, found.ids) == (3, (66, 67, 68))


def test_added_words_come_out_the_same_at_once_and_as_a_stream(tmp_path: Path) -> None:
    tokenizer = words(tmp_path, "café", "đem")
    change(tmp_path / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    said = tokenizer("café đem cat . the").input_ids
    saying(tmp_path, said, len(tokenizer))
    lm = gpt2dsl.load(str(tmp_path))
    (whole,) = lm.generate(["the"], max_new_tokens=len(said))
    assert whole == "the" + "".join(lm.stream("the", max_new_tokens=len(said)))
    assert whole == "thecafé đem cat. the"


def test_an_empty_prompt_begins_at_bos_as_in_transformers(tmp_path: Path) -> None:
    words(tmp_path)
    change(tmp_path / "tokenizer_config.json", bos_token="a")  # noqa: S106
    network(tmp_path, 264)
    assert gpt2dsl.load(str(tmp_path)).row("", Generation()).ids == [64]


def test_a_text_that_is_classified_is_cut_within_what_is_put_around_it(tmp_path: Path) -> None:
    words(tmp_path)
    change(tmp_path / "tokenizer.json", post_processor=TEMPLATE)
    change(tmp_path / "tokenizer_config.json", truncation_side="left")
    model = network(
        tmp_path, 264, GPT2ForSequenceClassification, num_labels=3, pad_token_id=263
    )  # fmt: skip
    judge = AutoTokenizer.from_pretrained(tmp_path)
    text = "the cat on a mat " * 3
    ids = judge(text, truncation=True, max_length=16, return_tensors="pt")
    # The token at the end is the pad: transformers reads the text at the last one before it.
    expected = model(**ids).logits[0].softmax(-1).tolist()
    recipe = Model(weights=str(tmp_path)) | Train(seq_length=16) | Task.classify(texts=[text])
    result = recipe.plan().run(keep=False)
    classes = [f"LABEL_{i}" for i in range(3)]
    assert result.classes == (classes[max(range(3), key=expected.__getitem__)],)
    assert result.probabilities == pytest.approx([max(expected)], abs=1e-5)


# Refusals


def with_bert(folder: Path) -> str:
    network(folder, 21128)
    (folder / "vocab.txt").write_text("[UNK]\nthe\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return "vocab.txt: "


def with_t5(folder: Path) -> str:
    network(folder, 300)
    (folder / "spiece.model").write_bytes(b"\n\x0e\n\x05<unk>")
    return "spiece.model: it is of a SentencePiece tokenizer"


def with_more_entries(folder: Path) -> str:
    words(folder)
    network(folder, 263, eos_token_id=262)
    return "the tokenizer has 264 entries, the model's word table 263; .*G2-205"


def with_nothing(folder: Path) -> str:
    network(folder, 300)
    return "no tokenizer lies beside the weights.*the word table has 300 rows.*G2-205"


UNREADABLE = [with_bert, with_t5, with_more_entries, with_nothing]


@pytest.mark.parametrize("write", UNREADABLE)
def test_a_tokenizer_that_can_not_be_used_is_refused_by_every_task(
    elsewhere: Path, write: Callable[[Path], str]
) -> None:
    folder = elsewhere / "weights"
    message = write(folder)
    (elsewhere / "text.txt").write_text("the cat " * 200)
    rows = Train(batch_size=1, seq_length=16, steps=1)
    tasks: list[Any] = [
        Task.generate(prompts=["the"]),
        Task.evaluate(data="text.txt") | rows,
        Task.finetune(data="text.txt") | rows,
    ]
    recipes = [Model(weights=str(folder)) | task for task in tasks]
    if write is not with_nothing:  # graphs take ids
        export = Task.export(source=str(folder), target="out", format="onnx")
        recipes.append(Recipe(export))
    for recipe in recipes:
        with pytest.raises(SpecError, match=message):
            recipe.plan().run()
    with pytest.raises(InputError, match=message):
        gpt2dsl.load(str(folder)).generate(["the"])


def test_ids_need_no_tokenizer_and_one_that_is_named_is_taken(tmp_path: Path) -> None:
    network(tmp_path / "weights", 300)
    assert gpt2dsl.load(str(tmp_path / "weights")).logits([[1, 2]]).shape == (1, 2, 300)
    words(tmp_path / "words")
    named = str(tmp_path / "words")
    assert gpt2dsl.load(str(tmp_path / "weights"), tokenizer=named).tokenizer.encode("the") == [257]
    recipe = Model(weights=str(tmp_path / "weights")) | Task.generate(prompts=["the"])
    assert not (recipe | Data(tokenizer=named)).plan().refusals()


# Checkpoints


def test_a_checkpoint_leaves_with_the_tokenizer_that_the_weights_came_with(
    elsewhere: Path,
) -> None:
    tokenizer = words(elsewhere / "base")
    tokenizer.add_special_tokens(
        {"pad_token": "<pad>", "bos_token": "<bos>", "additional_special_tokens": ["<|user|>"]}
    )
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}"
    tokenizer.add_tokens(["abc"])
    tokenizer.save_pretrained("base")
    network(elsewhere / "base", len(tokenizer))
    (elsewhere / "text.txt").write_text("the cat " * 200)
    recipe = (
        Model(weights="base")
        | Train(batch_size=2, seq_length=16, steps=1)
        | Task.finetune(data="text.txt")
    )
    checkpoint = recipe.plan().run().checkpoint
    assert checkpoint is not None
    before, after = map(AutoTokenizer.from_pretrained, ("base", checkpoint))
    assert after.special_tokens_map_extended == before.special_tokens_map_extended
    assert after.added_tokens_decoder == before.added_tokens_decoder
    assert after.chat_template == before.chat_template
    assert after.init_kwargs.keys() == before.init_kwargs.keys()
    config = AutoConfig.from_pretrained(checkpoint)
    ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    assert ids == (after.bos_token_id, after.eos_token_id, after.pad_token_id)


def test_a_checkpoint_with_another_tokenizer_ends_at_that_ones_end(elsewhere: Path) -> None:
    network(elsewhere / "base", 264)
    words(elsewhere / "base")
    change(elsewhere / "base" / "generation_config.json", eos_token_id=263, top_k=7)
    words(elsewhere / "other")
    change(elsewhere / "other" / "tokenizer_config.json", eos_token="e")  # noqa: S106
    (elsewhere / "text.txt").write_text("the cat " * 200)
    recipe = (
        Model(weights="base")
        | Data(tokenizer="other")
        | Train(batch_size=2, seq_length=16, steps=1)
        | Task.finetune(data="text.txt")
    )
    checkpoint = recipe.plan().run().checkpoint
    assert checkpoint is not None
    end = AutoTokenizer.from_pretrained("other").eos_token_id
    settings = json.loads((checkpoint / "generation_config.json").read_text())
    assert (settings["eos_token_id"], settings["top_k"]) == (end, 7)
    assert AutoConfig.from_pretrained(checkpoint).eos_token_id == end
