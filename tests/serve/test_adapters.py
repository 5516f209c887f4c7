"""Adapters by name over one base: each answers as it does alone, whatever the others do."""

from __future__ import annotations

import json
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, GPT2LMHeadModel

import gpt2dsl
from gpt2dsl import Generation, InputError, LoRA, Model, Optim, Runtime, Task, Train
from gpt2dsl.cli.serve import command
from gpt2dsl.engine.generation.chunked_slots import ChunkedSlots
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.serve.server import load
from gpt2dsl.serve.settings import ServerSettings, named_adapters
from gpt2dsl.serve.worker import Event, GenerationWorker, Ticket
from gpt2dsl.weights import reading
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor
from gpt2dsl.weights.formats import mindformers
from tests import adapters
from tests.judges import random_weights, redraw
from tests.serve.conftest import Server
from tests.serve.in_process import Client

TEMPLATE = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
KINDS: dict[str, dict[str, Any]] = {
    "wiki": {"r": 2, "target_modules": ["c_attn"]},
    "code": {
        "r": 3, "use_dora": True, "use_rslora": True, "bias": "all",
        "target_modules": ["c_attn", "mlp.c_proj", "wpe"], "modules_to_save": ["ln_f"],
    },
}  # fmt: skip
NAMES = ("", "wiki", "code", "words")
"""The base, two adapters, and one with more words than the base."""

LONG = [(7 * i) % 250 for i in range(70)]
PROMPTS = ("the cat sat", LONG, "a", LONG[:40])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.save_speaking_base(tmp_path_factory.mktemp("adapted") / "base", 128)


@pytest.fixture(scope="module")
def paths(base: Path) -> dict[str, str]:
    for seed, (name, config) in enumerate(KINDS.items()):
        adapters.save_adapter(base, base.parent / name, seed, task_type="CAUSAL_LM", **config)
    save_with_more_words(base, base.parent / "words")
    return {name: str(base.parent / name) for name in NAMES[1:]}


def save_with_more_words(base: Path, folder: Path) -> None:
    """Save an adapter with a word table of its own, its tokenizer and a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    model = GPT2LMHeadModel.from_pretrained(base)
    torch.manual_seed(3)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["mlp.c_fc"])
        adapted = get_peft_model(model, config)
        redraw(adapted.base_model.model.transformer.h, 0.3)
        adapted.save_pretrained(folder, save_embedding_layers=True)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def client(base: Path, paths: dict[str, str]) -> Iterator[Client]:
    made = Client(base, adapters=paths)
    yield made
    made.close()


@pytest.fixture(scope="module")
def alone(base: Path, paths: dict[str, str]) -> dict[str, LanguageModel]:
    """Each model as it is loaded without the others."""
    return {name: gpt2dsl.load(paths.get(name, str(base))) for name in NAMES}


def asked(lm: LanguageModel, prompt: Any, **settings: Any) -> Row:
    keys = {"max_new_tokens": 12, "logprobs": 2} | settings
    return lm.row(prompt, Generation(**keys), stops_in_prompt=False)


def run(worker: GenerationWorker, rows: Sequence[Row]) -> list[Any]:
    """Generate texts, each as a request of its own, all at once."""
    done, left = threading.Event(), [len(rows)]

    def hear(event: Event) -> None:
        left[0] -= bool(event.is_over or event.failure)
        if not left[0]:
            done.set()

    for row in rows:
        worker.submit(Ticket([row], [], hear))
    assert done.wait(240)
    return [(row.ids, row.scores, row.failure) for row in rows]


def of(client: Client, name: str) -> LanguageModel:
    return client.lm.adapters[name] if name else client.lm


def test_texts_of_all_models_at_once_are_those_of_each_alone(
    client: Client, alone: dict[str, LanguageModel]
) -> None:
    kinds: list[dict[str, Any]] = [{}, {"do_sample": True, "seed": 7}]
    requests = [(name, prompt, more) for more in kinds for prompt in PROMPTS for name in NAMES]
    expected = {}
    for name in NAMES:
        worker = GenerationWorker(lambda name=name: alone[name], batch=4, waiting=8)  # type: ignore[misc]
        worker.start()
        worker.model.result()
        for i, (other, prompt, more) in enumerate(requests):
            if other == name:
                (expected[i],) = run(worker, [asked(alone[name], prompt, **more)])
        worker.stop()
        worker.join()
    for order in (requests, requests[::-1]):
        for first in range(0, len(order), 12):
            some = order[first : first + 12]
            rows = [asked(of(client, name), prompt, **more) for name, prompt, more in some]
            assert run(client.worker, rows) == [expected[requests.index(one)] for one in some]
    assert client.worker.counters.cached_tokens > 0
    assert len({str(expected[i][0]) for i in range(len(NAMES))}) == len(NAMES)
    for i, (name, prompt, more) in enumerate(requests):
        keys = Generation(max_new_tokens=12, logprobs=2, **more)
        (theirs,) = alone[name].continuations([prompt], keys)
        ids, scores, _ = expected[i]
        assert ids[-len(theirs.ids) :] == list(theirs.ids)
        ours = [score.logprob for score in scores]
        np.testing.assert_allclose(ours, [score.logprob for score in theirs.scores], atol=1e-4)


def test_no_adapter_is_given_what_is_kept_of_anothers_prompts(
    client: Client, alone: dict[str, LanguageModel]
) -> None:
    prompt = [(11 * i) % 250 for i in range(70)]
    for known in (0, 64):
        for name in NAMES:
            before = client.worker.counters.cached_tokens
            row = asked(of(client, name), prompt)
            run(client.worker, [row])
            assert client.worker.counters.cached_tokens - before == known
            (text,) = alone[name].continuations([prompt], Generation(max_new_tokens=12))
            assert row.ids[70:] == list(text.ids)


def test_what_an_adapter_leaves_as_it_is_is_held_once(client: Client) -> None:
    own = client.lm._network.by_name
    for name, whole in {"wiki": 26, "code": 9, "words": 25}.items():
        theirs = client.lm._adapted[name].by_name
        assert len(own) == 28
        assert sum(theirs[key] is own[key] for key in own) == whole


def test_a_request_is_answered_by_the_model_that_it_names(
    client: Client, alone: dict[str, LanguageModel]
) -> None:
    for name in NAMES:
        model = name or "org/m"
        answer = client.post(model=model, prompt="the cat", max_tokens=9)
        assert answer.json()["model"] == model
        (expected,) = alone[name].generate(["the cat"], max_new_tokens=9)
        assert "the cat" + answer.json()["choices"][0]["text"] == expected
        streamed, _ = client.streamed(model=model, prompt="the cat", max_tokens=9)
        assert "the cat" + streamed == expected
    nameless = client.http.post("/v1/completions", json={"prompt": "a", "temperature": 0}).json()
    assert nameless["model"] == "org/m"
    assert nameless["choices"][0]["text"] == client.choice(model="org/m", prompt="a")["text"]


def test_all_models_are_listed_with_their_base_and_others_are_not_there(
    client: Client, paths: dict[str, str]
) -> None:
    listed = client.http.get("/v1/models").json()["data"]
    told = [(one["id"], one["parent"], one["root"]) for one in listed]
    assert told == [
        ("org/m", None, "org/m"), *((name, "org/m", path) for name, path in paths.items()),
    ]  # fmt: skip
    for one in listed:
        assert client.http.get(f"/v1/models/{one['id']}").json() == one
    bodies: dict[str, dict[str, Any]] = {
        "completions": {"prompt": "a"}, "chat/completions": {"messages": [{"role": "user"}]},
        "../tokenize": {"prompt": "a"}, "../detokenize": {"tokens": [1]},
    }  # fmt: skip
    for name in ("Wiki", "", "wiki "):
        for path, body in bodies.items():
            answer = client.http.post(f"/v1/{path}", json={"model": name, **body})
            assert answer.status_code == 404
            message = f"no model {name!r} here; 'org/m', 'wiki', 'code', 'words' are"
            assert answer.json()["error"]["message"] == message


def test_an_adapter_has_its_own_words_and_its_own_template(client: Client) -> None:
    last = len(client.lm.tokenizer)
    for model, known in (("words", True), ("wiki", False), ("org/m", False)):
        body = {"model": model, "prompt": "<|user|>"}
        ids = client.http.post("/tokenize", json=body).json()["tokens"]
        assert (ids == [last]) is known
        assert client.post(model=model, prompt=[last]).status_code == (200 if known else 400)
        chat = {"model": model, "messages": [{"role": "user", "content": "the cat"}]}
        answer = client.http.post("/v1/chat/completions", json={**chat, "max_tokens": 3})
        assert answer.status_code == (200 if known else 400)
        if not known:
            assert f"{model} has no chat template" in answer.json()["error"]["message"]
    described = client.http.get("/openapi.json").json()["components"]["schemas"]
    assert described["TokenId"]["maximum"] == last - 1
    assert described["Model"]["properties"].keys() >= {"root", "parent"}


def test_numbers_that_one_adapter_makes_infinite_reach_no_other(base: Path) -> None:
    folder = base.parent / "infinite"
    adapters.save_adapter(base, folder, 5, task_type="CAUSAL_LM", **KINDS["wiki"])
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: np.full_like(one, 3e15) for name, one in tensors.items()},
        folder / "adapter_model.safetensors",
        {"format": "pt"},
    )
    lm = load(str(base), ServerSettings(adapters={"infinite": str(folder)}))
    slots = lm.chunked_slots(2, 0)
    left = asked(lm, LONG, max_new_tokens=30)
    begin(slots, left)
    (place,) = (i for i, row in enumerate(slots._rows) if row is left)
    logits = slots._decoder.step(np.array([3, 3], np.int32), [1 - place], "infinite")
    assert np.isnan(logits[place]).any()  # and so is what it wrote after the other's last token
    slots.drop(left)
    broken = asked(lm.adapters["infinite"], "a", max_new_tokens=40)
    begin(slots, broken)
    assert "the model gives none" in str(broken.failure)
    row = asked(lm, "the cat", max_new_tokens=9)
    begin(slots, row)
    while slots.busy:
        slots.step()
    (expected,) = lm.continuations(["the cat"], Generation(max_new_tokens=9))
    assert row.failure is None
    assert row.generated == list(expected.ids)


def begin(slots: ChunkedSlots, row: Row) -> None:
    slots.begin(row)
    while not slots.advance():
        pass


def test_a_mindformers_checkpoint_with_lora_is_an_adapter_of_what_is_in_it(
    base: Path, tmp_path: Path
) -> None:
    weights = reading.read(base)
    random = np.random.default_rng(1)
    lora = {
        f"backbone.blocks.0.attention.dense1.mindpet_delta_lora_{half}": ArrayTensor.of(
            random.normal(size=shape).astype(np.float32)
        )
        for half, shape in {"a": (4, 16), "b": (16, 4)}.items()
    }
    file = tmp_path / "a.ckpt"
    ckptfile.write(file, mindformers.named(dict(weights.tensors)) | lora)
    file.with_suffix(".yaml").write_text(
        "model: {model_config: {num_heads: 2, pet_config: {lora_alpha: 8}}}"
    )
    lm = load(str(base), ServerSettings(adapters={"mine": str(file)}))
    changed = "transformer.h.0.attn.c_attn.weight"
    own, theirs = lm._network.by_name, lm._adapted["mine"].by_name
    assert [name for name in own if theirs[name] is not own[name]] == [changed]
    merged = reading.read(file).arrays[changed]
    assert np.array_equal(theirs[changed].asnumpy(), merged)
    assert lm.adapters["mine"].tokenizer is lm.tokenizer
    broken = mindformers.named(dict(random_tensors(weights.geometry))) | lora
    ckptfile.write(file, broken)
    assert "is another one than this: transformer.wte.weight differs" in refused(base, w=file)


def random_tensors(geometry: GPT2Config) -> dict[str, ArrayTensor]:
    return {name: ArrayTensor.of(array) for name, array in random_weights(geometry).items()}


@pytest.mark.soak
def test_a_run_with_lora_is_an_adapter_of_what_it_began_with(base: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 90)
    result = (
        (
            Model(weights=str(base))
            | LoRA(r=2, targets="c_attn|mlp.c_proj")
            | Train(batch_size=2, seq_length=16, steps=3)
            | Optim(lr=0.1)
            | Runtime(output=str(tmp_path / "runs"))
            | Task.finetune(data=str(tmp_path / "text.txt"))
        )
        .plan()
        .run()
    )
    client = Client(base, adapters={"mine": str(result.directory)})
    try:
        texts = [client.choice(model=name, prompt="the cat")["text"] for name in ("mine", "org/m")]
        (expected,) = gpt2dsl.load(str(result.directory)).generate(["the cat"], max_new_tokens=16)
        assert "the cat" + texts[0] == expected
        assert texts[0] != texts[1]
        adapted = client.lm._adapted["mine"].by_name
        assert sum(adapted[name] is one for name, one in client.lm._network.by_name.items()) == 24
    finally:
        client.close()


def refused(base: Path, **named: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        load(str(base), ServerSettings(adapters={name: str(path) for name, path in named.items()}))
    return str(caught.value)


def test_an_adapter_of_another_base_is_refused_by_what_differs(
    base: Path, paths: dict[str, str], tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    wiki = shutil.copytree(paths["wiki"], tmp_path / "wiki")
    config = json.loads((wiki / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(other)
    (wiki / "adapter_config.json").write_text(json.dumps(config))
    lm = load(str(base), ServerSettings(adapters={"wiki": str(wiki)}))  # the same weights elsewhere
    assert lm.adapters["wiki"].generate(["a"], max_new_tokens=3)

    tensors = load_file(other / "model.safetensors")
    tensors["transformer.h.1.mlp.c_fc.bias"][3] += 1e-3
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    said = refused(base, w=wiki)
    assert said == (
        f"--adapter w={wiki}: its base, {other}, is another one than this: "
        "transformer.h.1.mlp.c_fc.bias differs [G2-312]"
    )
    written = json.loads((other / "config.json").read_text())
    for key, value, word in (
        ("n_head", 4, "heads is 4 there and 2 here"),
        ("activation_function", "relu", "activation is relu there and gelu_new here"),
        ("layer_norm_epsilon", 1e-3, "epsilon is 0.001 there and 1e-05 here"),
    ):
        (other / "config.json").write_text(json.dumps({**written, key: value}))
        assert f"is another one than this: {word} [G2-312]" in refused(base, w=wiki)


def test_what_is_no_adapter_that_can_be_served_is_refused_under_its_name(
    base: Path, paths: dict[str, str], tmp_path: Path
) -> None:
    assert "--adapter w=/none/there: there is no such" in refused(base, w="/none/there")
    assert "it holds no LoRA adapter" in refused(base, good=paths["wiki"], w=base)
    classes = tmp_path / "classes"
    adapters.save_adapter(base, classes, task_type="SEQ_CLS", r=2, target_modules=["c_attn"])
    assert "an adapter of a classifier" in refused(base, w=classes)
    cut = shutil.copytree(paths["wiki"], tmp_path / "cut")
    file = cut / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    said = refused(base, good=paths["wiki"], w=cut)
    assert said.startswith(f"--adapter w={cut}: {file}: ")
    unknown = shutil.copytree(paths["wiki"], tmp_path / "unknown")
    config = json.loads((unknown / "adapter_config.json").read_text())
    for named in ("", None):
        (unknown / "adapter_config.json").write_text(
            json.dumps({**config, "base_model_name_or_path": named})
        )
        lm = load(str(base), ServerSettings(adapters={"w": str(unknown)}))
        assert lm.adapters["w"].adapter == "w"
    (unknown / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")})
    )
    assert "its base can't be used" in refused(base, w=unknown)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["wiki"], "expected NAME=PATH, found 'wiki'"),
        (["=a"], "expected NAME=PATH, found '=a'"),
        (["wiki="], "expected NAME=PATH, found 'wiki='"),
        ([" = "], "expected NAME=PATH, found ' = '"),
        (["w=a", "w=b"], "'w' names two adapters, a and b"),
        (["w=a", "w=a"], "'w' names two adapters, a and a"),
        (["base=a"], "'base' is the name of the weights themselves"),
    ],
)
def test_names_that_can_not_be_are_refused_before_anything_is_loaded(
    given: list[str], words: str
) -> None:
    options = [word for one in given for word in ("--adapter", one)]
    done = CliRunner().invoke(command, ["gpt2", "--name", "base", *options])
    assert isinstance(done.exception, InputError)
    assert f"--adapter: {words}" in str(done.exception)
    (fault,) = done.exception.faults
    assert fault.code == "G2-202"


def test_a_path_may_have_an_equals_sign_and_a_name_a_slash() -> None:
    assert named_adapters(["org/w=a=b", "x=c"], "m") == {"org/w": "a=b", "x": "c"}
    assert attrs.asdict(ServerSettings(adapters={"x": "c"}))["adapters"] == {"x": "c"}


def test_the_check_asks_each_model(base: Path, paths: dict[str, str]) -> None:
    options = [word for name in KINDS for word in ("--adapter", f"{name}={paths[name]}")]
    server = Server(base, *options, "--check", until="checked code: ")
    _, rest = server.process.communicate()
    assert server.process.returncode == 0, rest
    said = "".join(server.lines)
    assert f"serving tiny, wiki, code on {server.url}\n" in said
    assert "compiling for prompts of wiki\n" in said
    for name in ("tiny", "wiki", "code"):
        assert f"checked {name}: a request was answered with 4 tokens\n" in said
