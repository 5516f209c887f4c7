"""The half of the clients' tests that runs where they are installed: each asks for the same."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HF_HUB_OFFLINE"] = "1"

PROMPT, LENGTH = "the cat", 6
MESSAGES: Any = [{"role": "user", "content": "the cat"}]
Told = dict[str, Any]


def openai(url: str, _: str) -> Told:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none", max_retries=0)
    asked: Any = {"model": "tiny", "max_tokens": LENGTH, "temperature": 0}
    stream = client.completions.create(prompt=PROMPT, stream=True, **asked)
    chat = client.chat.completions.create(messages=MESSAGES, **asked)
    chunks: Any = client.chat.completions.create(messages=MESSAGES, stream=True, **asked)
    return {
        "completion": client.completions.create(prompt=PROMPT, **asked).choices[0].text,
        "stream": "".join(chunk.choices[0].text for chunk in stream),
        "chat": chat.choices[0].message.content,
        "chat stream": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
    }


def litellm(url: str, _: str) -> Told:
    import litellm

    asked: Any = {"api_base": url, "api_key": "none", "max_tokens": LENGTH, "temperature": 0}
    text, chat = {"model": "text-completion-openai/tiny"} | asked, {"model": "openai/tiny"} | asked
    stream = litellm.text_completion(prompt=PROMPT, stream=True, **text)
    chunks = litellm.completion(messages=MESSAGES, stream=True, **chat)
    return {
        "completion": litellm.text_completion(prompt=PROMPT, **text).choices[0].text,
        "stream": "".join(chunk.choices[0].text or "" for chunk in stream),
        "chat": litellm.completion(messages=MESSAGES, **chat).choices[0].message.content,
        "chat stream": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
    }


def langchain(url: str, _: str) -> Told:
    from langchain_openai import ChatOpenAI, OpenAI

    asked: Any = {
        "model": "tiny", "base_url": url, "api_key": "none", "temperature": 0, "max_tokens": LENGTH,
    }  # fmt: skip
    text, chat = OpenAI(**asked), ChatOpenAI(**asked)
    return {
        "completion": text.invoke(PROMPT),
        "stream": "".join(text.stream(PROMPT)),
        "chat": chat.invoke(PROMPT).content,
        "chat stream": "".join(str(chunk.content) for chunk in chat.stream(PROMPT)),
    }


def llamaindex(url: str, _: str) -> Told:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    asked: Any = {
        "model": "tiny", "api_base": url, "api_key": "none", "temperature": 0, "max_tokens": LENGTH,
        "context_window": 256,
    }  # fmt: skip
    text, chat = OpenAILike(**asked), OpenAILike(is_chat_model=True, **asked)
    messages = [ChatMessage(role="user", content=PROMPT)]
    return {
        "completion": text.complete(PROMPT).text,
        "stream": "".join(chunk.delta for chunk in text.stream_complete(PROMPT)),
        "chat": chat.chat(messages).message.content,
        "chat stream": "".join(chunk.delta for chunk in chat.stream_chat(messages)),
    }


def lm_eval(url: str, folder: str) -> Told:
    """Scores and texts of both classes; how long the input is differs in every way."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    served = LocalCompletionsAPI(
        base_url=f"{url}/completions", model="tiny", tokenizer=folder, max_length=256,
        tokenizer_backend="huggingface", batch_size=2, num_concurrent=1,
    )  # fmt: skip
    # The class for servers leaves room for a token that is generated, and for the first one.
    judge = HFLM(pretrained=folder, device="cpu", batch_size=1, max_length=254)

    def asked(kind: str, *arguments: Any) -> list[Any]:
        return [Instance(kind, {}, one, i) for i, one in enumerate(arguments)]

    pairs = asked(
        "loglikelihood",
        ("the cat", " the"), ("the cat", " cat the cat"), ("", "the"), ("a", "猫 the"),
        ("the cat " * 60, "the cat"), ("the cat ", "sat"),
    )  # fmt: skip
    texts = asked("loglikelihood_rolling", ("the cat sat",), ("the cat " * 100,))
    prompts = asked(
        "generate_until",
        ("the cat", {"until": ["\n\n", "q"], "max_gen_toks": 6}),
        ("the", {"until": ["zzz"], "max_gen_toks": 4, "do_sample": False}),
    )
    return {
        name: {
            "loglikelihood": model.loglikelihood(pairs),
            "loglikelihood_rolling": model.loglikelihood_rolling(texts),
            "generate_until": model.generate_until(prompts),
        }
        for name, model in (("served", served), ("judge", judge))
    }


CLIENTS: dict[str, Callable[[str, str], Told]] = {
    work.__name__: work for work in (openai, litellm, langchain, llamaindex, lm_eval)
}

if __name__ == "__main__":
    name, url, folder, result = sys.argv[1:]
    told = CLIENTS[name](url, folder)
    Path(result).write_text(json.dumps(told), "utf-8")
