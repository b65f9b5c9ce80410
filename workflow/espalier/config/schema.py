"""The JSON schema by which editors complete and check config.yaml: `python -m espalier.config.schema > FILE`.

Its descriptions are the docstrings under the fields of the settings classes, as on the page docs/configuration.md.
"""

from __future__ import annotations

import json
from typing import Any

from espalier.config.data import Task
from espalier.config.explanations import as_sentences
from espalier.config.known_tasks import KNOWN
from espalier.config.project import Config


def schema() -> dict[str, Any]:
    """The schema of the configuration as users write it: a known task may leave out what its name brings."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    whole["required"].remove("bases")  # the teacher's checkpoint may be the only base
    for block in ("bases", "tasks", "plans"):
        whole["properties"][block]["additionalProperties"] = False  # names of another form
    own_names = whole["properties"]["tasks"].pop("patternProperties")
    (pattern, _), *_ = own_names.items()
    whole["properties"]["tasks"] |= {
        "properties": {name: {"$ref": "#/$defs/KnownTask"} for name in KNOWN},
        "patternProperties": {pattern.replace("^", f"^(?!({'|'.join(KNOWN)})$)"): {"$ref": "#/$defs/Task"}},
    }
    task = Task.model_json_schema()
    # what a kind has by default may be left out; which kinds need a text is for the settings to say
    task["required"].remove("text")
    whole["$defs"] |= {"Task": task, "KnownTask": {**task, "type": ["object", "null"], "required": []}}
    return _for_editors(whole)


def _for_editors(node: Any) -> Any:
    """Descriptions in whole sentences, and no titles, which only repeat the keys.

    A text under 'title' or 'description' belongs to the schema; a block there would be a key of the configuration.
    """
    if isinstance(node, list):
        return [_for_editors(item) for item in node]
    if not isinstance(node, dict):
        return node

    kept = {key: _for_editors(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if isinstance(kept.get("description"), str):
        kept["description"] = as_sentences(kept["description"])
    return kept


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
