"""Write the files by which sentence-transformers opens a model that gives vectors: mean of the tokens' states, length 1."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import ExportSpec
from espalier.deployment.sentences import modules, pooling, transformer
from espalier.runtime.files import read_json, write_json


def run(spec: str, *, config: Path, modules_json: Path, pooling_json: Path, transformer_json: Path) -> None:
    """Write the list of modules, and the settings of the encoder and of the pooling.

    Args:
        spec: an `ExportSpec` as JSON.
        config: config.json of the exported folder.
        modules_json, pooling_json, transformer_json: what is written into the folder.
    """
    serving = ExportSpec.model_validate_json(spec)
    write_json(pooling_json, pooling(read_json(config)["hidden_size"]))
    write_json(transformer_json, transformer(serving.max_length))
    write_json(modules_json, modules())
