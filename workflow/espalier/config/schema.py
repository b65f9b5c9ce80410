"""The JSON schema by which editors complete and check config.yaml: `python -m espalier.config.schema > FILE`."""

from __future__ import annotations

import json
from typing import Any

from espalier.config.data import Task
from espalier.config.known_tasks import KNOWN
from espalier.config.project import Config


def schema() -> dict[str, Any]:
    """The schema of the configuration as users write it: a known task may leave out what its name brings."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    for block in ("bases", "tasks", "plans"):
        whole["properties"][block]["additionalProperties"] = False  # names of another form
    own_names = whole["properties"]["tasks"].pop("patternProperties")
    (pattern, _), *_ = own_names.items()
    whole["properties"]["tasks"] |= {
        "properties": {name: {"$ref": "#/$defs/KnownTask"} for name in KNOWN},
        "patternProperties": {pattern.replace("^", f"^(?!({'|'.join(KNOWN)})$)"): {"$ref": "#/$defs/Task"}},
    }
    task = Task.model_json_schema()
    whole["$defs"] |= {"Task": task, "KnownTask": {**task, "type": ["object", "null"], "required": []}}
    return _without_titles(whole)


def _without_titles(node: Any) -> Any:
    """pydantic's titles repeat the keys; a text under 'title' is one, a block under it would be a key of that name."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_titles(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
