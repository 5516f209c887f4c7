from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from gpt2dsl.weights import hub

REPO = "owner/model"
COMMIT = "c0ffee" + "0" * 34
WEIGHTS = bytes(range(256)) * 8
COMMON = {"config.json": b"{}", "vocab.json": b'{"a": 0}', "merges.txt": b"a b\n"}
SHARDS = ["00001-of-00002", "00002-of-00002"]

SAFETENSORS = {**COMMON, "model.safetensors": WEIGHTS}
BIN = {**COMMON, "pytorch_model.bin": WEIGHTS}
ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}
ADAPTER_BIN = {"adapter_config.json": b"{}", "adapter_model.bin": WEIGHTS}
NOT_NEEDED = {"README.md": b"#", "tf_model.h5": b"h5", "onnx/model.onnx": b"o", "LICENSE": b"l"}


def sharded(stem: str, suffix: str) -> dict[str, bytes]:
    names = [f"{stem}-{shard}.{suffix}" for shard in SHARDS]
    index = {"weight_map": {f"tensor{i}": name for i, name in enumerate(names)}}
    shards = {name: WEIGHTS + bytes([i]) for i, name in enumerate(names)}
    return {**COMMON, f"{stem}.{suffix}.index.json": json.dumps(index).encode(), **shards}


SHARDED = sharded("model", "safetensors")


@attrs.define
class Served:
    """What the endpoint has and does."""

    files: dict[str, bytes]
    arrives: dict[str, bytes] = attrs.field(factory=dict)  # in place of what is listed
    sizes: dict[str, int] = attrs.field(factory=dict)  # listed in place of the true ones
    breaks_off: bool = False
    refuses: dict[str, tuple[int, str]] = attrs.field(factory=dict)  # "/api" or a file → answer
    asked: list[tuple[str, str, str]] = attrs.field(factory=list)  # method, file, range
    url: str = ""

    @property
    def got(self) -> set[str]:
        return {name for method, name, _ in self.asked if method == "GET" and name != "/api"}

    def info(self) -> dict[str, Any]:
        return {
            "id": REPO,
            "sha": COMMIT,
            "siblings": [self.sibling(name) for name in self.files],
        }

    def sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        size = self.sizes.get(name, len(content))
        found: dict[str, Any] = {"rfilename": name, "size": size, "blobId": "0" * 40}
        if len(content) >= len(WEIGHTS):
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"size": size, "sha256": sha256, "pointerSize": 134}
        return found


class Endpoint(BaseHTTPRequestHandler):
    """The three calls of the Hub's API that a download makes."""

    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        name, repo = self.wanted()
        wanted_range = self.headers.get("Range", "")
        if repo == REPO:
            self.served.asked.append((self.command, name, wanted_range))
        if refusal := self.served.refuses.get(name):
            self.answer(b"{}", refusal[0], {"X-Error-Code": refusal[1]})
        elif repo != REPO or name not in {"/api", *self.served.files}:
            self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        elif name == "/api":
            self.answer(json.dumps(self.served.info()).encode(), 200, {})
        else:
            self.file(name, wanted_range)

    do_HEAD = do_GET  # noqa: N815  # the name is http.server's

    def wanted(self) -> tuple[str, str]:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            return "/api", path.removeprefix("/api/models/")
        repo, _, name = path[1:].partition(f"/resolve/{COMMIT}/")
        return name, repo

    def file(self, name: str, wanted_range: str) -> None:
        content = self.served.arrives.get(name, self.served.files[name])
        etag = hashlib.sha256(self.served.files[name]).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted_range:
            first = int(wanted_range.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.answer(content[first:], 206, headers)
        else:
            self.answer(content, 200, headers)

    def answer(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            breaks = self.served.breaks_off and len(content) >= len(WEIGHTS)
            self.wfile.write(content[:-100] if breaks else content)
            self.close_connection = breaks

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[Served]:
    """An endpoint, with one safetensors file as long as the test gives it nothing else."""
    has = Served({**SAFETENSORS, **NOT_NEEDED})
    handler = type("Handler", (Endpoint,), {"served": has})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        has.url = f"http://127.0.0.1:{server.server_port}"
        yield has
        server.shutdown()
        thread.join()


@attrs.frozen
class Home:
    """A user's HF_HOME, and processes of theirs, as huggingface_hub reads its environment when it
    is imported."""

    folder: Path
    url: str

    def calls(self, *functions: str, repo: str = REPO, **environment: str) -> list[tuple[str, str]]:
        """Functions of the module in one process: the kind of error of each or "", and its text."""
        code = f"""
from gpt2dsl.errors import Gpt2DslError
from gpt2dsl.weights import hub
for function in {functions}:
    try:
        print("", getattr(hub, function)({repo!r}), sep="|")
    except Gpt2DslError as error:
        print(type(error).__name__, error, sep="|")
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""  # no warnings; and progress is for terminals
        lines = done.stdout.splitlines()
        assert len(lines) == len(functions)
        return [(line.partition("|")[0], line.partition("|")[2]) for line in lines]

    def environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
            and not key.lower().endswith("_proxy")
        }
        return kept | {"HF_HOME": str(self.folder), "HF_ENDPOINT": self.url}

    def fetch(self) -> Path:
        [(kind, text)] = self.calls("fetch")
        assert kind == "", text
        return Path(text)

    def fails(self, **environment: str) -> str:
        """What the user is told; and nothing is in the cache then."""
        [(kind, text), cached] = self.calls("fetch", "cached", **environment)
        assert kind == "InputError", text
        assert cached == ("", "None")
        return text

    def cached(self, repo: str = REPO) -> Path | None:
        [(kind, text)] = self.calls("cached", repo=repo, HF_ENDPOINT="http://127.0.0.1:1")
        assert kind == "", text
        return None if text == "None" else Path(text)

    def snapshot(self, files: dict[str, bytes], repo: str = REPO) -> Path:
        """A snapshot as another program leaves it."""
        model = self.folder / "hub" / f"models--{repo.replace('/', '--')}"
        folder = model / "snapshots" / COMMIT
        folder.mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(COMMIT)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder


@pytest.fixture
def home(served: Served, tmp_path: Path) -> Home:
    return Home(tmp_path / "hf", served.url)


@pytest.mark.parametrize(
    ("name", "repo"),
    [
        ("124m", "openai-community/gpt2"),
        ("small", "openai-community/gpt2"),
        ("xl", "openai-community/gpt2-xl"),
        ("13b", "cerebras/Cerebras-GPT-13B"),
        ("gpt2", "openai-community/gpt2"),
        ("gpt2-medium", "openai-community/gpt2-medium"),
        ("gpt2-large", "openai-community/gpt2-large"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("owner/model", "owner/model"),
        ("0-hero/Model_v1.5", "0-hero/Model_v1.5"),
        *(
            (name, None)
            for name in (
                *("nano", "52b", "", "auto", "bert", "owner/", "/model", "/a/b", "./a/b", "../b"),
                *("~/b", ".a/b", "a/.b", "a/b.", "a-/b", "a/b-", "a--b/c", "a/b..c", "a/b.git"),
                *("a/b/c", "a/b/", "a b/c", "a/b\n", "ä/b", "a\\b", "C:/b", "a/" + "b" * 97),
                *("a/model.safetensors", "a/model.bin", "a/model.ckpt", "a/MODEL.PT", "a/b.json"),
            )
        ),
    ],
)
def test_a_name_stands_for_one_model_of_the_hub_or_for_none(name: str, repo: str | None) -> None:
    assert hub.canonical(name) == repo


@pytest.mark.parametrize("name", ["a/b", "a-b/c", "a--b/c", "a/b..c", "a/b.git", "a/-b", "a_/_b"])
def test_a_legal_name_is_what_huggingface_hub_takes(name: str, tmp_path: Path) -> None:
    # This is the first thing that any call of the library does.
    try:
        try_to_load_from_cache(name, "config.json", cache_dir=tmp_path)
    except HFValidationError:
        assert hub.canonical(name) is None
    else:
        assert hub.canonical(name) == name


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, gpt2dsl.weights.hub as hub; hub.canonical('gpt2')"
    code += "; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (SAFETENSORS, {**BIN, **SHARDED, **ADAPTER}),
        (SHARDED, {**BIN, **ADAPTER}),
        (BIN, {**sharded("pytorch_model", "bin"), **ADAPTER}),
        (sharded("pytorch_model", "bin"), ADAPTER),
        (ADAPTER, {**ADAPTER_BIN, "model.safetensors": b"of no config.json"}),
        (ADAPTER_BIN, {"config.json": b"of no model"}),
    ],
    ids=["safetensors", "sharded", "bin", "sharded bin", "adapter", "adapter bin"],
)
def test_the_best_weights_are_downloaded_and_no_other_file_and_are_cached_then(
    served: Served, home: Home, files: dict[str, bytes], left: dict[str, bytes]
) -> None:
    served.files = {**NOT_NEEDED, **left, **files}
    [(kind, text), cached] = home.calls("fetch", "cached")
    assert kind == "", text
    folder = Path(text)
    assert folder.name == COMMIT
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert served.got == set(files)
    assert cached == ("", text)
    assert len(served.asked) == 1 + 2 * len(files)  # the list, and HEAD and GET of each


def test_all_files_of_the_tokenizer_come_along(served: Served, home: Home) -> None:
    more = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
    served.files |= dict.fromkeys([*more, "generation_config.json"], b"{}")
    assert {path.name for path in home.fetch().iterdir()} >= {*more, "generation_config.json"}


def test_what_is_in_the_cache_is_not_downloaded_again(served: Served, home: Home) -> None:
    folder = home.fetch()
    served.asked.clear()
    assert home.fetch() == folder
    assert not served.got


@pytest.mark.parametrize("missing", ["config.json", "model-00002-of-00002.safetensors"])
def test_a_snapshot_that_lacks_a_file_is_not_cached_weights(home: Home, missing: str) -> None:
    home.snapshot({name: content for name, content in SHARDED.items() if name != missing})
    assert home.cached() is None


def test_a_snapshot_with_a_damaged_index_is_not_cached_weights(home: Home) -> None:
    home.snapshot({**COMMON, "model.safetensors.index.json": b'{"weight_map": 7}'})
    assert home.cached() is None


def test_what_transformers_cached_by_its_short_name_is_found(home: Home) -> None:
    folder = home.snapshot(SAFETENSORS, "gpt2")
    assert home.cached("openai-community/gpt2") == folder


@pytest.mark.parametrize(
    ("arrives", "said"),
    [(WEIGHTS[::-1], "SHA-256"), (WEIGHTS[:-5], "2043 bytes arrived, the Hub has 2048")],
    ids=["other bytes", "too few"],
)
def test_what_arrives_damaged_is_refused_and_not_kept(
    served: Served, home: Home, arrives: bytes, said: str
) -> None:
    served.arrives = {"model.safetensors": arrives}
    text = home.fails()
    assert text.startswith(f"{REPO}/model.safetensors: ")
    assert said in text
    assert text.endswith("[G2-304]")
    served.arrives = {}
    assert (home.fetch() / "model.safetensors").read_bytes() == WEIGHTS


def test_what_was_damaged_in_the_cache_is_refused_and_not_kept(home: Home) -> None:
    (home.fetch() / "model.safetensors").write_bytes(b"short")
    assert "[G2-304]" in home.fails()
    assert (home.fetch() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_broke_off_says_so_and_goes_on(served: Served, home: Home) -> None:
    weights = WEIGHTS * 5632  # 11 MiB: 10 are written at once
    served.files["model.safetensors"] = weights
    served.breaks_off = True
    text = home.fails()
    assert text.startswith(f"{REPO}/model.safetensors: it broke off (")
    served.breaks_off = False
    served.asked.clear()
    assert (home.fetch() / "model.safetensors").read_bytes() == weights
    assert ("GET", "model.safetensors", f"bytes={10 * 2**20}-") in served.asked


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, "Connection refused"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"),
    ],
    ids=["no network", "offline mode"],
)
def test_without_the_hub_the_cache_is_taken_or_one_line_says_what_to_do(
    home: Home, environment: dict[str, str], reason: str
) -> None:
    assert home.fails(**environment) == (
        f"{REPO}: it is in no cache here, and the Hub can't be reached ({reason}); put "
        "config.json, model.safetensors, vocab.json and merges.txt into the folder "
        f"./{REPO}, or name another folder [G2-301]"
    )
    folder = home.snapshot(SAFETENSORS)
    assert home.calls("fetch", **environment) == [("", str(folder))]


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ({"/api": (404, "RepoNotFound")}, "the Hub has no such model, or a private one"),
        ({"/api": (404, "")}, "the Hub has no such model, or a private one"),
        ({"/api": (401, "")}, "the Hub refuses the token that is set here"),
        ({"/api": (503, "")}, "the Hub answers with status 503"),
        ({"config.json": (403, "GatedRepo")}, f"ask on hf.co/{REPO}, then run `hf auth login`"),
        ({"model.safetensors": (403, "")}, "the Hub answers with status 403"),
    ],
    ids=["unknown", "unknown to a mirror", "token", "down", "gated", "file"],
)
def test_a_refusal_is_one_line_that_says_why(
    served: Served, home: Home, refuses: dict[str, tuple[int, str]], said: str
) -> None:
    served.refuses = refuses
    text = home.fails()
    assert text.startswith(f"{REPO}: it is in no cache here, and ")
    assert said in text
    assert text.endswith("or name another folder [G2-301]")


def test_a_model_without_weights_that_are_read_is_refused(served: Served, home: Home) -> None:
    served.files = {**COMMON, **NOT_NEEDED}
    assert "on the Hub it has no weights that are read here" in home.fails()
    assert not served.got


def test_an_index_that_names_what_is_not_there_is_refused(served: Served, home: Home) -> None:
    served.files = {**SHARDED}
    del served.files["model-00002-of-00002.safetensors"]
    text = home.fails()
    assert "names model-00002-of-00002.safetensors, which is absent" in text
    assert served.got == {"model.safetensors.index.json"}


def test_what_has_no_room_on_the_disk_is_not_begun(served: Served, home: Home) -> None:
    served.sizes = {"model.safetensors": 10**18}
    [(kind, text)] = home.calls("fetch")
    assert kind == "FileError"
    assert text.startswith(f"{REPO}: 1000000000.0 GB are to be downloaded, and ")
    assert not served.got


def test_a_cache_that_cannot_be_written_is_one_line(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [(kind, text)] = home.calls("fetch", HF_HUB_CACHE=str(tmp_path / "file" / "cache"))
    assert kind == "FileError"
    assert text == f"{REPO}: huggingface_hub's cache can't be written: Not a directory [G2-403]"
