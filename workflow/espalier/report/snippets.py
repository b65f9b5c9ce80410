"""Python lines that open an exported model in one of its formats and answer texts: for cards and for `espalier choose`.

The lines read texts as training did, and need no package of ours but where layers are of unequal size and PyTorch runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from espalier.config.deployment.formats import FORMATS, Format
from espalier.config.job_specs import SERVING
from espalier.config.kinds import KIND_RULES, Kind
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
        len(serving["text"]) == 2,
        serving["max_length"],
        serving.get("stride"),
        serving.get("max_answer_length"),
        "auto_map" in config,
    )


def snippet(format: Format, inputs: TextInputs, folder: str) -> str:
    """Lines that end with `logits`, with `answers` where a text's answer is a span or a tag for each word, or with `vectors`.

    Args:
        format: one that the model has.
        inputs: of the model.
        folder: where the model lies, as Python will read it.
    """
    runtime = FORMATS[format].runtime
    opening = {"PyTorch": _torch, "onnxruntime": _onnx, "OpenVINO": _openvino}[runtime]
    imports, opened = opening(inputs, FORMATS[format].weights[0])

    if inputs.kind == "span":
        lines = [*_windows(inputs, runtime), *_RUN_SPAN[runtime], *_answers(inputs)]
    elif inputs.kind == "tokens":
        imports[-1] = imports[-1].replace("AutoTokenizer", "AutoConfig, AutoTokenizer")
        lines = [*_words(inputs, runtime), _RUN[runtime], *_TAGS]
    elif KIND_RULES[inputs.kind].vectors:
        states = _RUN[runtime].replace("logits", "states", 1).replace("logits", "last_hidden_state")
        lines = [*_texts(inputs, runtime), states, *_VECTORS]
    else:
        lines = [*_texts(inputs, runtime), _RUN[runtime]]
    return "\n".join([*imports, "", f"folder = {folder!r}", *opened, *lines])


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
_VECTORS = [
    'mask = encoded["attention_mask"][:, :, None]',
    "means = (states * mask).sum(1) / mask.sum(1)",
    "vectors = means / (means**2).sum(1)[:, None] ** 0.5",
]
"""From the states of tokens to vectors of length 1, in torch and in numpy."""
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
    return [
        "encoded = tokenizer(",
        f"    {texts}, padding=True, truncation=True, max_length={inputs.max_length},",
        f"    return_tensors={_tensors(runtime)},",
        ")",
    ]


def _words(inputs: TextInputs, runtime: str) -> list[str]:
    return [
        'sentences = [["the", "words", "of", "a", "sentence"]]  # what is longer than a row is cut off here',
        "encoded = tokenizer(",
        f'    [" ".join(words) for words in sentences], padding=True, truncation=True, max_length={inputs.max_length},',
        f"    return_offsets_mapping=True, return_tensors={_tensors(runtime)},",
        ")",
        'offsets = encoded.pop("offset_mapping").tolist()',
    ]


_TAGS = [
    "names, answers = AutoConfig.from_pretrained(folder).id2label, []",
    "for row, words in enumerate(sentences):",
    "    begin, tags = 0, []",
    "    for word in words:",
    "        places = [at for at, (start, end) in enumerate(offsets[row]) if max(start, begin) < min(end, begin + len(word))]",
    "        tags += [names[int(logits[row][place].argmax())] for place in places[:1]]",
    "        begin += len(word) + 1",
    "    answers.append(tags)",
]
"""The tag of each word, which stands at its first token, by the rule of espalier/data/tagged/windows.py."""


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
