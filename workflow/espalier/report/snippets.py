"""Python lines that open an exported model in one of its formats and answer texts: for cards and for `espalier choose`.

The lines read texts as training did, and need no package of ours but where layers are of unequal size and PyTorch runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from espalier.config.deployment.formats import FORMATS, Format
from espalier.config.job_specs import SERVING
from espalier.config.kinds import KIND_RULES, Kind
from espalier.config.kinds.sides import Side, sides_of
from espalier.runtime.errors import UserError


class TextInputs(NamedTuple):
    """What lines must know of a model to feed it."""

    kind: Kind
    pair: bool
    """Whether a row is a pair of texts."""
    max_length: int
    """Tokens of the longest row; longer ones are cut."""
    stride: int | None
    """Kind span: tokens by which windows overlap."""
    max_answer_length: int | None
    """Kind span: longest answer, in tokens."""
    needs_code: bool
    """Whether PyTorch needs the classes of espalier, because layers are of unequal size."""
    sides: tuple[Side, ...] = ()
    """How columns make the texts of a row, where they are not the texts themselves; else nothing."""
    classes: tuple[str, ...] = ()
    """Names of the classes in order, where a text may have several; else nothing."""
    thresholds: tuple[float, ...] = ()
    """Kind multilabel: the probability of each class from which on it counts as predicted."""


def inputs_in(config: Mapping[str, Any]) -> TextInputs:
    """What the content of an exported model's config.json says.

    Raises:
        UserError: it has no section `espalier`, so an earlier version exported it.
    """
    serving = config.get(SERVING)
    if serving is None:
        raise UserError(
            f"config.json has no section '{SERVING}': the folder was exported by an earlier version; export it again"
        )
    return TextInputs(
        serving["kind"],
        len(sides_of(serving["text"], serving.get("template"))) == 2,
        serving["max_length"],
        serving.get("stride"),
        serving.get("max_answer_length"),
        "auto_map" in config,
        **details_in(config),
    )


def details_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TextInputs` that only some models need, from the content of config.json."""
    serving = config.get(SERVING, {})
    sides = sides_of(serving["text"], serving.get("template")) if "text" in serving else ()
    made = () if all(side.plain for side in sides) else sides
    if "thresholds" not in serving:
        return {"sides": made}
    names = {int(place): name for place, name in config["id2label"].items()}
    classes = tuple(names[place] for place in sorted(names))
    return {"sides": made, "classes": classes, "thresholds": tuple(serving["thresholds"])}


def snippet(format: Format, inputs: TextInputs, folder: str) -> str:
    """Lines that end with `logits`, or with `answers` where a text's answer is a span or a list of classes.

    Args:
        format: one that the model has.
        inputs: of the model.
        folder: where the model lies, as Python will read it.
    """
    runtime = FORMATS[format].runtime
    opening = {"PyTorch": _torch, "onnxruntime": _onnx, "OpenVINO": _openvino}[runtime]
    imports, opened = opening(inputs, FORMATS[format].weights[0])

    span = inputs.kind == "span"
    encoding = _windows(inputs, runtime) if span else _texts(inputs, runtime)
    running = [*_RUN_SPAN[runtime], *_answers(inputs)] if span else [_RUN[runtime], *_chosen_classes(inputs)]
    imports = [*(["import math"] if inputs.thresholds else []), *imports]
    return "\n".join([*imports, "", f"folder = {folder!r}", *opened, *encoding, *running])


Opening = tuple[list[str], list[str]]
"""Lines that import, and lines that open the model and its tokenizer."""
_TOKENIZER = "tokenizer = AutoTokenizer.from_pretrained(folder)"


def _torch(inputs: TextInputs, file: str) -> Opening:
    opened_by = KIND_RULES[inputs.kind].auto_class
    note = ["import espalier  # instead: trust_remote_code=True where the model is opened"] if inputs.needs_code else []
    imports = [*note, f"from transformers import {opened_by}, AutoTokenizer"]
    return imports, [f"model = {opened_by}.from_pretrained(folder)", _TOKENIZER]


def _onnx(inputs: TextInputs, file: str) -> Opening:
    imports = ["import onnxruntime", "from transformers import AutoTokenizer"]
    return imports, [f'session = onnxruntime.InferenceSession(f"{{folder}}/{file}")', _TOKENIZER]


def _openvino(inputs: TextInputs, file: str) -> Opening:
    imports = ["import openvino", "from transformers import AutoTokenizer"]
    # some processors compute in bfloat16 unless they are told not to
    compiled = f'model = openvino.compile_model(f"{{folder}}/{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})'
    return imports, [compiled, _TOKENIZER]


_FED = {
    "onnxruntime": "{each.name: encoded[each.name] for each in session.get_inputs()}",
    "OpenVINO": "{each.any_name: encoded[each.any_name] for each in model.inputs}",
}
"""Runtime → the inputs that the model reads."""
_RUN = {
    "PyTorch": "logits = model(**encoded).logits",
    "onnxruntime": f'logits = session.run(["logits"], {_FED["onnxruntime"]})[0]',
    "OpenVINO": f'logits = model({_FED["OpenVINO"]})["logits"]',
}
_RUN_SPAN = {
    "PyTorch": [
        "outputs = model(**encoded)",
        "start_logits, end_logits = outputs.start_logits.tolist(), outputs.end_logits.tolist()",
    ],
    "onnxruntime": [f"start_logits, end_logits = session.run(None, {_FED['onnxruntime']})"],
    "OpenVINO": [
        f"outputs = model({_FED['OpenVINO']})",
        'start_logits, end_logits = outputs["start_logits"], outputs["end_logits"]',
    ],
}


def _tensors(runtime: str) -> str:
    """The arrays that a runtime reads; files take token types where their model reads them."""
    return '"pt"' if runtime == "PyTorch" else '"np", return_token_type_ids=True'


def _texts(inputs: TextInputs, runtime: str) -> list[str]:
    texts = '["a text"], ["the other text"]' if inputs.pair else '["a text"]'
    rows: list[str] = []
    if inputs.sides:
        columns = dict.fromkeys(name for side in inputs.sides for name in side.columns)
        rows = [f"rows = [{dict.fromkeys(columns, 'a text')!r}]"]
        texts = ",\n    ".join(f"[{side.code('row')} for row in rows]" for side in inputs.sides)
    return [
        *rows,
        "encoded = tokenizer(",
        f"    {texts}, padding=True, truncation=True, max_length={inputs.max_length},",
        f"    return_tensors={_tensors(runtime)},",
        ")",
    ]


def _chosen_classes(inputs: TextInputs) -> list[str]:
    """The classes of each text, where a text may have several."""
    if not inputs.thresholds:
        return []
    return [
        f"names, thresholds = {list(inputs.classes)!r}, {list(inputs.thresholds)!r}",
        "chances = [[1 / (1 + math.exp(-value)) for value in row] for row in logits.tolist()]",
        "answers = [[name for name, p, least in zip(names, row, thresholds) if p >= least] for row in chances]",
    ]


def _windows(inputs: TextInputs, runtime: str) -> list[str]:
    return [
        'questions, contexts = ["a question"], ["its context"]',
        "encoded = tokenizer(",
        '    [question.lstrip() for question in questions], contexts, padding=True, truncation="only_second",',
        f"    max_length={inputs.max_length}, stride={inputs.stride}, return_overflowing_tokens=True,",
        f"    return_offsets_mapping=True, return_tensors={_tensors(runtime)},",
        ")",
        'windows, offsets = encoded.pop("overflow_to_sample_mapping").tolist(), encoded.pop("offset_mapping").tolist()',
    ]


def _answers(inputs: TextInputs) -> list[str]:
    """The best answer over all windows, by the rule of espalier/data/spans.py."""
    return [
        "best = {}",
        "for window, question in enumerate(windows):",
        "    places = [place for place, part in enumerate(encoded.sequence_ids(window)) if part == 1]",
        "    for first, start in enumerate(places):",
        f"        for end in places[first : first + {inputs.max_answer_length}]:",
        "            score = start_logits[window][start] + end_logits[window][end]",
        '            if score > best.get(question, (-float("inf"), ""))[0]:',
        "                best[question] = score, contexts[question][offsets[window][start][0] : offsets[window][end][1]]",
        "answers = [best[question][1].strip() for question in range(len(questions))]",
    ]
