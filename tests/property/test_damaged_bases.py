"""Whatever is wrong with a base, `fetch` says it in one sentence, and what it lets through can be trained on."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espalier.data.tokenizer import open_tokenizer
from espalier.models.files import open_base
from espalier.runtime.errors import UserError
from espalier.stages.data import fetch
from tests import tiny

OUTPUTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json")
SIZES = [0, 1, -1, 2, 3, 7, 33, 10**6, 10**9, 2**63, 10**30]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(SIZES),
    st.floats(allow_nan=False),
    st.sampled_from(["", "x", "../x", "bert", "gelu", "flash_attention_2", "float16", "\u0000", "1"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 5), max_size=3),
    st.dictionaries(st.sampled_from(["a", "type", "0"]), st.integers(-2, 5), max_size=2),
)
SLOW_START = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that no test changes."""
    return tiny.write_base(tmp_path_factory.mktemp("base"))


def places(content: Any, place: tuple = ()) -> list[tuple]:
    """The place of every value inside a JSON value; of a long list or table the first few."""
    inner = enumerate(content[:4]) if isinstance(content, list) else content.items() if isinstance(content, dict) else ()
    return [found for key, value in list(inner)[:40] for found in ((*place, key), *places(value, (*place, key)))]


def changed(content: Any, place: tuple, value: Any, remove: bool) -> Any:
    """A copy with another value in this place, or with none."""
    content = json.loads(json.dumps(content))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


def try_it(base: Path, file: str, damage: Any) -> None:
    """Fetch a copy of the base with one file damaged; go on with what was fetched."""
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "base", Path(place) / "out"
        shutil.copytree(base, folder)
        damage(folder / file)
        paths = {Path(name).stem.replace("model", "weights"): out / name for name in OUTPUTS}
        try:
            fetch.run(json.dumps({"base": {"source": "local", "path": str(folder)}}), **paths)
        except UserError as error:
            assert str(folder) in str(error) and len(str(error).splitlines()) == 1, str(error)
            assert not out.exists()
            return
        go_on(out)


def go_on(out: Path) -> None:
    """What the next stages do with a base: a tokenizer, a model, a forward pass."""
    try:
        encoder = open_tokenizer([out / "tokenizer.json", out / "tokenizer_config.json"], 8)
        model = open_base([out / "config.json", out / "model.safetensors"], "classification", ["a", "b"]).eval()
    except UserError:
        return
    encoded = encoder(["word1 word2", "word3"], ["word4", "word5 word6"], padding=True, truncation=True, max_length=8)
    with torch.no_grad():
        model(**{name: torch.tensor(values) for name, values in encoded.items()})


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@given(data=st.data())
@SLOW_START
def test_a_setting_of_another_kind(base: Path, file: str, data: st.DataObject) -> None:
    content = json.loads((base / file).read_text())
    place = data.draw(st.sampled_from(places(content)))
    damaged = changed(content, place, data.draw(VALUES), data.draw(st.booleans()))
    try_it(base, file, lambda path: path.write_text(json.dumps(damaged)))


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "pad_token_id"])
@pytest.mark.parametrize("value", [*SIZES, None, "2", 2.5, True, [2]])
def test_a_size_of_any_size(base: Path, key: str, value: Any) -> None:
    content = json.loads((base / "config.json").read_text())
    try_it(base, "config.json", lambda path: path.write_text(json.dumps(content | {key: value})))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@given(data=st.data())
@SLOW_START
def test_bytes_that_are_lost_or_changed(base: Path, file: str, data: st.DataObject) -> None:
    content = (base / file).read_bytes()
    # the header of safetensors stands at the beginning
    at = data.draw(st.integers(0, min(len(content), 4000) - 1))
    damaged = data.draw(
        st.sampled_from(
            [content[:at], content[at:], content[:at] + bytes([content[at] ^ 0x15]) + content[at + 1 :], b"", b"\xff\xfe"]
        )
    )
    try_it(base, file, lambda path: path.write_bytes(damaged))


@given(data=st.data())
@SLOW_START
def test_an_index_of_parts_that_is_damaged(base: Path, data: st.DataObject) -> None:
    def damage(path: Path) -> None:
        path.with_name("model.safetensors").rename(path.with_name("part-1.safetensors"))
        path.write_text(json.dumps(changed(index, place, value, remove)))

    index = {"metadata": {"total_size": 1}, "weight_map": {"embeddings.LayerNorm.bias": "part-1.safetensors"}}
    place, value, remove = data.draw(st.sampled_from(places(index))), data.draw(VALUES), data.draw(st.booleans())
    try_it(base, "model.safetensors.index.json", damage)


@given(data=st.data())
@SLOW_START
def test_a_vocabulary_that_is_damaged(base: Path, data: st.DataObject) -> None:
    lines = data.draw(
        st.lists(st.sampled_from(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "A", "", " ", "\x00"]), max_size=9)
    )

    def damage(path: Path) -> None:
        (path.parent / "tokenizer.json").unlink()
        path.write_text("\n".join(lines))

    try_it(base, "vocab.txt", damage)
