"""Chats; transformers' apply_chat_template is the judge of what a template makes of messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2dsl.data.chat_template import DEFAULT
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.serve.documents import PIECE
from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.template import ChatTemplate
from tests.serve.in_process import Client
from tests.vocabularies import vocabulary

PLAIN = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {%- if message.role not in ('system', 'user', 'assistant') %}\n"
    "        {{- raise_exception('no role ' ~ message.role) }}\n"
    "    {%- endif %}\n"
    "{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
TEMPLATES = {
    "plain": PLAIN,
    "trimmed": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    ),
    "json": "{{ messages | tojson }}{{ messages | tojson(indent=2, sort_keys=True) }}",
    "loops": (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{{ m.content }}{% endfor %}"
    ),
    "generation": (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    ),
    "year": "{{ strftime_now('%Y') }}{{ messages[0].content }}",
    "tokens": "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ tools }}{{ no }}",
    "namespaces": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% endfor %}{{ ns.n }}"
    ),
}
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "the cat"}],
    [
        {"role": "system", "content": " Be <kind> & 'brief'. "},
        {"role": "user", "content": "the\ncat 猫"},
        {"role": "assistant", "content": "the "},
    ],
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return vocabulary(tmp_path_factory.mktemp("judge"))


@pytest.mark.parametrize("chat", CHATS, ids=["one", "three"])
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("how", ["prompts", "ends", "continues"])
def test_messages_become_the_text_that_transformers_makes(
    judge: Any, name: str, chat: Any, how: str
) -> None:
    source, flags = TEMPLATES[name], {"prompts": how == "prompts", "continues": how == "continues"}
    own = ChatTemplate(source, Tokenizer.load(judge.name_or_path).special_tokens)
    settings = {
        "chat_template": source,
        "tokenize": False,
        "add_generation_prompt": flags["prompts"],
        "continue_final_message": flags["continues"],
    }
    try:
        expected = judge.apply_chat_template(chat, **settings)
    except ValueError:
        with pytest.raises(ApiError, match="continue_final_message"):
            own.render(chat, **flags)
    else:
        assert own.render(chat, **flags) == expected


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ messages.append(1) }}", "is unsafe"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ],
)
def test_what_a_template_refuses_is_the_requests_fault(source: str, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        ChatTemplate(source, {}).render(CHATS[0], prompts=True, continues=False)
    assert (caught.value.status, caught.value.param) == (400, "messages")


def _write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        is_text = isinstance(content, str)
        path.write_text(content if is_text else json.dumps(json.loads(path.read_text()) | content))


IN_CONFIG = {"tokenizer_config.json": {"chat_template": "config"}}
NAMED = [{"name": "default", "template": "first"}, {"name": "tool_use", "template": "second"}]
FOLDERS: dict[str, dict[str, Any]] = {
    "none": {},
    "in the settings": IN_CONFIG,
    "a list in the settings": {"tokenizer_config.json": {"chat_template": NAMED}},
    "a file": {"chat_template.jinja": "file"},
    "a file before the settings": IN_CONFIG | {"chat_template.jinja": "file\n"},
    "several files": {
        "chat_template.jinja": "file", "additional_chat_templates/rag.jinja": "rag",
    },
    "an additional one alone": {"additional_chat_templates/rag.jinja": "rag"},
}  # fmt: skip


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_the_template_of_a_folder_is_the_one_that_transformers_finds(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    vocabulary(tmp_path)
    _write(tmp_path, files)
    expected = AutoTokenizer.from_pretrained(tmp_path).chat_template
    named = expected if isinstance(expected, dict) else {DEFAULT: expected} if expected else {}
    assert Tokenizer.load(tmp_path).chat_templates == named


@pytest.fixture(scope="module")
def chatting(folders: dict[str, Path]) -> Iterator[Client]:
    client = Client(folders["alphabet"], template=PLAIN)
    yield client
    client.close()


def chat(client: Client, **body: Any) -> Any:
    asked = {"messages": CHATS[0], "max_tokens": 3, "temperature": 0} | body
    return client.http.post("/v1/chat/completions", json=asked)


def events(answer: Any) -> list[Any]:
    lines = answer.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_chat_is_the_continuation_of_what_the_template_makes(
    chatting: Client, folders: dict[str, Path]
) -> None:
    answer = chat(chatting).json()
    ids = AutoTokenizer.from_pretrained(folders["alphabet"]).apply_chat_template(
        CHATS[0], chat_template=PLAIN, add_generation_prompt=True
    )
    assert answer["usage"] == {
        "prompt_tokens": len(ids), "completion_tokens": 3, "total_tokens": len(ids) + 3,
    }  # fmt: skip
    (whole,) = chatting.lm.generate([ids], max_new_tokens=3)
    (choice,) = answer["choices"]
    text = whole.removeprefix(chatting.lm.tokenizer.decode(ids))
    assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
    assert answer["object"] == "chat.completion"
    by_tokens = chatting.http.post("/tokenize", json={"messages": CHATS[0]}).json()
    assert by_tokens["tokens"] == ids


def test_a_streamed_chat_says_its_role_first_and_joins_to_the_same(chatting: Client) -> None:
    settings: Any = {"n": 2, "logprobs": True, "top_logprobs": 2, "seed": 3, "temperature": 1}
    whole = chat(chatting, **settings).json()
    told = events(chat(chatting, stream=True, stream_options={"include_usage": True}, **settings))
    assert {event["object"] for event in told} == {"chat.completion.chunk"}
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        own = [one for event in told for one in event["choices"] if one["index"] == choice["index"]]
        assert own[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        text = "".join(one["delta"].get("content", "") for one in own)
        assert text == choice["message"]["content"]
        scores = [entry for one in own for entry in (one["logprobs"] or {"content": []})["content"]]
        assert scores == choice["logprobs"]["content"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]


def test_log_probabilities_have_the_bytes_of_each_token(chatting: Client) -> None:
    answer = chat(chatting, logprobs=True, top_logprobs=3, max_tokens=8).json()
    (choice,) = answer["choices"]
    scores = choice["logprobs"]["content"]
    held = b"".join(bytes(entry["bytes"] or []) for entry in scores)
    assert held.decode("utf-8", "replace") == choice["message"]["content"]
    for entry in scores:
        assert len(entry["top_logprobs"]) == 3
        best = [other["logprob"] for other in entry["top_logprobs"]]
        assert best == sorted(best, reverse=True)
        assert entry["logprob"] == best[0]
    assert chat(chatting).json()["choices"][0]["logprobs"] is None


def test_without_a_length_a_chat_goes_on_while_there_is_room(chatting: Client) -> None:
    answer = chat(chatting, max_tokens=None, min_tokens=1).json()
    positions = chatting.lm.geometry.positions
    ended = answer["choices"][0]["finish_reason"]
    assert ended == "stop" or answer["usage"]["total_tokens"] == positions
    both = chat(chatting, max_tokens=7, max_completion_tokens=2).json()
    assert both["usage"]["completion_tokens"] == 2


def test_parts_of_type_text_are_joined_and_others_refused(chatting: Client) -> None:
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]
    assert (
        chat(chatting, messages=[{"role": "user", "content": parts}]).json()["choices"]
        == (chat(chatting).json()["choices"])
    )
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    for content, words in (
        ([*parts, picture], "only parts of type text are supported, found 'image_url'"),
        ([{"type": "text"}], "a part of type text has a text"),
        (["a"], "only parts of type text are supported"),
        (7, "expected a text, or a list of parts"),
    ):
        answer = chat(chatting, messages=[{"role": "user", "content": content}])
        assert answer.status_code == 400
        assert f"messages.0.content: {words}" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": [{"content": "a"}]}, "messages.0.role: Field required"),
        ({"messages": [{"role": "narrator"}]}, "no role narrator"),
        ({"messages": [{"role": "user", "contents": "a"}]}, "messages.0.contents: unknown key"),
        ({"top_logprobs": 2}, "top_logprobs: say logprobs = true"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "last message goes on"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"echo": True}, "echo: unknown key"),
        ({"chat_template": "{{ 1 }}"}, "chat_template: unknown key"),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_refused_by_name(
    chatting: Client, body: dict[str, Any], words: str
) -> None:
    answer = chat(chatting, **body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_model_without_a_template_names_the_cure(alphabet: Client) -> None:
    for path in ("/v1/chat/completions", "/tokenize"):
        answer = alphabet.http.post(path, json={"messages": CHATS[0]})
        assert answer.status_code == 400
        message = (
            "org/m has no chat template: serve it with --template FILE "
            "(task.template in a recipe), or ask /v1/completions"
        )
        assert answer.json()["error"]["message"] == message


def test_many_tokens_are_listed_as_few_are(chatting: Client) -> None:
    prompt = "the cat 猫" * PIECE
    asked = {"prompt": prompt, "return_token_strs": True}
    answer = chatting.http.post("/tokenize", json=asked).json()
    ids = chatting.lm.tokenizer.encode(prompt)
    assert answer["tokens"] == ids
    assert answer["token_strs"] == chatting.lm.tokenizer.strings(ids)
    assert answer["count"] == len(ids) > 2 * PIECE
    whole = chatting.http.post("/detokenize", json={"tokens": answer["tokens"]}).json()
    assert whole == {"prompt": prompt}
    few = chatting.http.post("/tokenize", json={"prompt": ""}).json()
    assert (few["tokens"], few["token_strs"]) == ([], None)


def test_the_template_of_the_tokenizer_is_used(tmp_path: Path, folders: dict[str, Path]) -> None:
    made = AutoTokenizer.from_pretrained(folders["alphabet"])
    made.chat_template = TEMPLATES["trimmed"]
    made.save_pretrained(tmp_path)
    GPT2LMHeadModel.from_pretrained(folders["alphabet"]).save_pretrained(tmp_path)
    client = Client(tmp_path)
    try:
        answer = client.http.post("/tokenize", json={"messages": CHATS[1]})
        assert answer.json()["tokens"] == made.apply_chat_template(CHATS[1])
    finally:
        client.close()
