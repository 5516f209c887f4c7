"""What config.json says is what every task does, with transformers as the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

import gpt2dsl
from gpt2dsl import Data, Model, Optim, Parallel, Recipe, SpecError, Task, Train
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.job import Result
from gpt2dsl.layout.params import HEAD, WTE
from gpt2dsl.weights import reading
from tests.engine.conftest import text
from tests.engine.layouts import ALONE, Runs
from tests.engine.test_parallel import check
from tests.judges import redraw

ALL: dict[str, Any] = {
    "scale_attention": False, "scale_by_layer": True, "upcast_attention": True, "tied": False,
    "activation": "mish", "dropout": 0.1, "embedding_dropout": 0.2, "attention_dropout": 0.3,
}  # fmt: skip
IDS = [[1, 5, 9, 200, 7]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("configurations"), **ALL)


def judge(folder: Path, kind: Any = GPT2LMHeadModel) -> Any:
    model, info = kind.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values())
    return model.eval()


def logits(model: Any, ids: Any = IDS) -> Any:
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.numpy()


def test_a_file_of_transformers_with_every_flag_is_read_as_it_reads_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=2, tie_word_embeddings=False,
        scale_attn_weights=0, scale_attn_by_inverse_layer_idx=1, reorder_and_upcast_attn=1,
        activation_function="gelu_accurate",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    redraw(model)
    model.save_pretrained(tmp_path)
    expected = logits(judge(tmp_path))
    assert np.abs(gpt2dsl.load(str(tmp_path)).logits(IDS) - expected).max() < 1e-5


def test_greedy_texts_are_those_of_transformers(runs: Runs) -> None:
    tokenizer = Tokenizer.load(str(runs.weights))
    own = gpt2dsl.load(str(runs.weights))
    prompts = ["the old cat", "a bird sang"]
    found = own.generate(prompts, do_sample=False, max_new_tokens=12)
    model = judge(runs.weights)
    for prompt, mine in zip(prompts, found, strict=True):
        ids = tokenizer.encode(prompt)
        said = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12)
        assert mine == tokenizer.decode(said[0].tolist())


def test_a_conversion_keeps_the_configuration_and_the_head(runs: Runs, tmp_path: Path) -> None:
    target = tmp_path / "converted"
    Recipe(Task.convert(source=str(runs.weights), target=str(target), to="hf")).plan().run()
    assert reading.read_info(target).geometry == reading.read_info(runs.weights).geometry
    assert np.array_equal(logits(judge(target)), logits(judge(runs.weights)))
    config = json.loads((runs.weights / "config.json").read_text())
    assert json.loads((target / "config.json").read_text()) == config


@pytest.mark.parametrize(
    "said",
    [
        "no word for attention without a scale",
        "no word for attention that is scaled by its layer's number",
        "no word for a head beside the word table",
        "no word for the activation mish",
    ],
)
def test_what_mindformers_has_no_word_for_is_refused_by_name(runs: Runs, said: str) -> None:
    task = Task.convert(source=str(runs.weights), target="nowhere", to="mindformers")
    with pytest.raises(SpecError, match=said):
        Recipe(task).plan()


def test_a_reshard_and_back_keeps_the_head(runs: Runs, tmp_path: Path) -> None:
    split, whole = tmp_path / "split", tmp_path / "whole"
    layout = Parallel(mp=2, pp=2)
    Recipe(Task.reshard(source=str(runs.weights), target=str(split), layout=layout)).plan().run()
    Recipe(Task.reshard(source=str(split), target=str(whole), layout=ALONE)).plan().run()
    found, expected = reading.read(whole), reading.read(runs.weights)
    assert found.geometry == expected.geometry
    for name, array in expected.arrays.items():
        assert np.array_equal(found.arrays[name], array), name


@pytest.fixture(scope="module")
def tuned(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Result]:
    """A config.json that says more than the network, and what two steps on it left."""
    folder = tmp_path_factory.mktemp("tuned")
    source = folder / "source"
    source.mkdir()
    for path in runs.weights.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    config = json.loads((source / "config.json").read_text())
    config |= {"bos_token_id": 1, "pad_token_id": 2, "task_specific_params": {"a": {"top_k": 3}}}
    config |= {"summary_type": "last", "nobody": "knows", "n_ctx": 32}
    (source / "config.json").write_text(json.dumps(config))
    (folder / "train.txt").write_text(text(200))
    recipe = Recipe(
        Task.finetune(data=str(folder / "train.txt")),
        Model(weights=str(source)),
        Train(batch_size=4, seq_length=32, steps=2),
        Optim(lr=1e-2),
        gpt2dsl.Runtime(output=str(folder / "runs")),
    )
    return config, recipe.plan().run()


def test_a_finetuned_network_leaves_with_the_config_that_it_came_with(
    tuned: tuple[dict[str, Any], Result],
) -> None:
    config, result = tuned
    assert result.checkpoint
    left = json.loads((result.checkpoint / "config.json").read_text())
    assert {key: value for key, value in left.items() if config.get(key) != value} == {}
    assert config.keys() <= left.keys()


def test_a_finetuned_head_of_its_own_is_transformers_too(
    tuned: tuple[dict[str, Any], Result],
) -> None:
    _, result = tuned
    assert result.checkpoint
    arrays = load_file(result.checkpoint / "model.safetensors")
    assert not np.array_equal(arrays[HEAD], arrays[WTE])
    own = gpt2dsl.load(str(result.checkpoint))
    assert np.abs(own.logits(IDS) - logits(judge(result.checkpoint))).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "parallel"),
    [
        pytest.param("weights", Parallel(mp=2, micro_batches=2), id="mp2"),
        pytest.param("weights", Parallel(pp=2, micro_batches=2), id="pp2"),
        *(
            pytest.param(kind, layout, id=f"{kind}-{i}", marks=pytest.mark.soak)
            for kind in ("weights", "adapters")
            for i, layout in enumerate(
                [
                    Parallel(dp=2, optimizer_shard=True),
                    Parallel(mp=2, pp=2, micro_batches=2),
                    Parallel(mp=2, sequence_parallel=True),
                    Parallel(dp=2, pp=2, optimizer_shard=True, recompute="selective"),
                    Parallel(pp=2, micro_batches=2, recompute="full"),
                ]
            )
        ),
    ],
)
def test_a_training_of_all_flags_follows_that_of_one_process(
    runs: Runs, kind: str, parallel: Parallel
) -> None:
    check(runs.under(kind, parallel), runs.under(kind, ALONE))


@pytest.mark.parametrize("name", [HEAD, WTE])
def test_one_of_two_tables_that_the_file_lacks_is_missed(
    runs: Runs, tmp_path: Path, name: str
) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415

    arrays = load_file(runs.weights / "model.safetensors")
    del arrays[name]
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((runs.weights / "config.json").read_bytes())
    with pytest.raises(SpecError, match=f"1 missing: {name}"):
        gpt2dsl.load(str(tmp_path))


def test_a_head_that_is_not_the_table_needs_a_config_that_says_so(
    runs: Runs, tmp_path: Path
) -> None:
    config = json.loads((runs.weights / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((runs.weights / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(SpecError, match="tie_word_embeddings = false makes it a head of its own"):
        gpt2dsl.load(str(tmp_path))


def classifier(folder: Path, **config: Any) -> Any:
    """A classifier of transformers with a tokenizer beside it."""
    tokenizer = Tokenizer.train([text(400)], 320)
    tokenizer.save(folder, 64, pads=True)
    torch.manual_seed(0)
    made = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **config,
    )  # fmt: skip
    model = GPT2ForSequenceClassification(made).eval()
    redraw(model)
    model.save_pretrained(folder)
    return model


TEXTS = ("the old cat", "a bird sang", "the")


def classified(folder: Path) -> Result:
    return Recipe(Task.classify(texts=TEXTS), Model(weights=str(folder))).plan().run()


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 1, "pad_token_id": 319},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "multi_label_classification"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 2, "problem_type": "regression"},
    ],
)
def test_outputs_that_are_no_classes_are_those_of_transformers(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    model = classifier(tmp_path, **config)
    tokenizer = Tokenizer.load(str(tmp_path))
    found = classified(tmp_path)
    for one, said in zip(TEXTS, found.outputs, strict=True):
        expected = torch.tensor(logits(model, [tokenizer.encode(one)]))[0]
        if config.get("problem_type") == "multi_label_classification":
            expected = expected.sigmoid()
        assert list(said) == list(model.config.id2label.values())
        assert list(said.values()) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("pad", [None, "last", "middle", "every"])
def test_a_text_is_read_where_transformers_reads_it(tmp_path: Path, pad: str | None) -> None:
    """At the last token that is not the pad, which may be a token of the text."""
    tokenizer = Tokenizer.train([text(400)], 320)
    one = "the" if pad == "every" else TEXTS[0]
    ids = tokenizer.encode(one)
    number = {"last": ids[-1], "middle": ids[-2] if len(ids) > 1 else 0, "every": ids[0]}
    model = classifier(tmp_path, num_labels=1, pad_token_id=number[pad] if pad else None)
    found = Recipe(Task.classify(texts=[one]), Model(weights=str(tmp_path))).plan().run()
    assert list(found.outputs[0].values()) == pytest.approx(logits(model, [ids])[0], abs=1e-5)


ROWS = [("the old cat", 1.5), ("a young bird sang", -0.25), ("the dog", 0.0), ("roof", 3)]


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    lines = [json.dumps({"text": one, "label": number}) for one, number in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "rows.jsonl"


def test_a_ranker_evaluates_and_trains_on_the_squared_error_of_transformers(
    tmp_path: Path, numbers: Path
) -> None:
    folder = tmp_path / "ranker"
    model = classifier(folder, num_labels=1, pad_token_id=319)
    tokenizer = Tokenizer.load(str(folder))
    truth = torch.tensor([float(number) for _, number in ROWS])
    scores = torch.cat([model(torch.tensor([tokenizer.encode(one)])).logits[0] for one, _ in ROWS])
    error = torch.nn.functional.mse_loss(scores, truth)
    about = (Model(weights=str(folder)), Data(format="jsonl"))
    train = Train(batch_size=4, seq_length=32, steps=1, clip=0.0)
    found = Recipe(Task.evaluate(data=str(numbers)), *about, train).plan().run()
    assert found.loss == pytest.approx(error.item(), rel=1e-5)
    assert found.scores
    correlation = torch.corrcoef(torch.stack([scores, truth]))[0, 1].item()
    assert found.scores.to_json()["pearson"] == pytest.approx(correlation, rel=1e-4)
    output = gpt2dsl.Runtime(output=str(tmp_path / "runs"))
    rate = Optim(name="sgd", lr=0.01, weight_decay=0.0, momentum=0.0)
    task = Task.finetune(data=str(numbers))
    result = Recipe(task, *about, train, rate, output).plan().run()
    error.backward()
    assert result.checkpoint
    trained = judge(result.checkpoint, GPT2ForSequenceClassification)
    assert trained.config.num_labels == 1
    for name, parameter in model.named_parameters():
        step = parameter.detach() - trained.get_parameter(name).detach()
        assert (step - 0.01 * parameter.grad).abs().max() < 1e-4, name


def test_labels_of_a_regression_are_numbers(tmp_path: Path, numbers: Path) -> None:
    classifier(tmp_path / "ranker", num_labels=1)
    numbers.write_text('{"text": "the cat", "label": "good"}\n')
    about = (Model(weights=str(tmp_path / "ranker")), Data(format="jsonl"), Train(seq_length=32))
    recipe = Recipe(Task.evaluate(data=str(numbers)), *about)
    with pytest.raises(SpecError, match="the label is 'good', a number is expected"):
        recipe.plan().run()


def test_several_labels_a_row_are_classified_and_refused_where_data_is_read(
    tmp_path: Path, numbers: Path
) -> None:
    folder = tmp_path / "several"
    classifier(folder, num_labels=3, problem_type="multi_label_classification")
    for task in (Task.evaluate(data=str(numbers)), Task.finetune(data=str(numbers))):
        with pytest.raises(SpecError, match="data has one label a row: classify gives its outputs"):
            Recipe(task, Model(weights=str(folder)), Data(format="jsonl")).plan()
