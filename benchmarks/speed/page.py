"""docs/speed.md, written from bench.json: `python -m benchmarks.speed.page > docs/speed.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.stages import by_weights
from benchmarks.speed.stopwatch import PARTS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/bench.json"
PAGE = ROOT / "docs/speed.md"
Found = Mapping[str, Any]
MET = {True: "yes", False: "**no**", None: "not measured here"}
APART = ("loss", "gradient")
"""What is compared of both sides' first step."""
HEAD = """# Speed

This page is written by `make bench` from `benchmarks/bench.json`; change neither by hand. Figures belong to one machine:

{machine}

Our side is the real training loop with the settings' defaults on random weights and random words, whose lengths are those of
the tasks named (`benchmarks/speed/lengths.json`). The reference is a plain step after public trainers, written in
`benchmarks/speed/references.py`: fp32, eager attention with hidden states kept, the teacher computed anew in every step,
batches in random order padded to their longest row, torch's own dropout, AdamW without its fused form, a student of full size
to the end. Both sides take their steps in turn inside one run. They compute the same: see the last table.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; all columns but the first are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_shown(cell) for cell in row)} |" for row in rows)])


def _shown(cell: object) -> str:
    if cell is None:
        return "–"
    return (
        f"{cell:.3g}"
        if isinstance(cell, float) and abs(cell) < 1000
        else f"{cell:,.0f}"
        if isinstance(cell, float)
        else str(cell)
    )


def text_of(results: Path = RESULTS) -> str:
    """The page."""
    found = json.loads(results.read_text())
    parts = [_machine(found), _aims(found), _methods(found), _cofi(found), _steps(found), _growth(found), _start(found)]
    return "\n\n".join([*parts, _equal(found)]) + "\n"


def _machine(found: Found) -> str:
    facts = found["machine"]
    told = (
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, {facts['capability']}, "
        f"{'with' if facts['hardware_bf16'] else 'without'} bf16 in hardware, torch {facts['torch']}, measured "
        f"{facts['measured'][:10]} in {found['total_seconds'] / 60:.0f} minutes. Batches have {found['batch']} rows, models "
        "the shape of MiniLM (6 layers, 384 dimensions, 12 heads, 1,536 FFN units)."
    )
    return HEAD.format(machine=told).rstrip()


def _aims(found: Found) -> str:
    rows = [(aim["what"], aim["value"], f"{aim['sense']} {aim['aim']:g}", MET[aim["met"]]) for aim in found["aims"]]
    return "## Aims\n\n" + table(("figure", "measured", "aim", "met"), rows)


def _methods(found: Found) -> str:
    rows = [
        (f"`{name}`", numbers["samples_per_second"], numbers["reference_samples_per_second"], numbers["ratio"])
        for name, numbers in {**found["methods"], "homodistil, masked head": found["homodistil_masked_head"]}.items()
    ]
    note = (
        "HomoDistil's reference computes logits of every token, as transformers' class does; in the line `masked head` it "
        "computes those of masked tokens alone, as ours does."
    )
    head = ("samples a second", "ours", "reference", "ratio")
    return f"## SDP, SPD and HomoDistil\n\n{table(head, rows)}\n\n{note}"


def _cofi(found: Found) -> str:
    """Points and wholes for each task and precision."""
    targets = next(iter(found["cofi"].values()))["fp32"]["whole_path"]["targets"]
    text = [
        "## CoFi over a stage and a path",
        "Samples a second at points of the ramp, which are expected sparsities, and summed up over a whole stage and a whole "
        "path. Gates follow a synthetic ramp: the method's own Lagrangian against random pulls, in the place of data.",
        f"If the time of a step were in proportion to the weights that are left, the path {targets} would take "
        f"{by_weights(targets):.2f} of its number of stages × its first stage; any cost that does not shrink adds to that.",
    ]
    for task, by_precision in found["cofi"].items():
        for precision, study in by_precision.items():
            text += [f"### Lengths of {task.upper()}, {precision}", _points(study), _padding(study)]
    return "\n\n".join(text)


def _points(study: Found) -> str:
    named = {"before pruning": study["before_pruning"], **{f"first stage at {p}": n for p, n in study["points"].items()}}
    for number, stage in enumerate(study["later_stages"], 2):
        named |= {f"stage {number} at {point}": numbers for point, numbers in stage.items()}
    rows = [(name, n["samples_per_second"], n.get("reference_samples_per_second"), n.get("ratio")) for name, n in named.items()]
    for whole in ("whole_stage", "whole_path"):
        numbers = study[whole]
        ratio = numbers.get("ratio")
        theirs = ratio and numbers["samples_per_second"] / ratio
        rows.append((f"{whole.replace('_', ' ')}, {numbers['method']}", numbers["samples_per_second"], theirs, ratio))
    return table(("samples a second", "ours", "reference", "ratio"), rows)


def _padding(study: Found) -> str:
    tokens = study["padded_tokens_a_step"]
    return (
        f"Tokens a step: {tokens['real']:,.0f} real ones; with padding {tokens['ours']:,.0f} in our batches "
        f"({tokens['ours_measured']:,.0f} in those measured), {tokens['reference']:,.0f} in batches in random order "
        f"({tokens['reference_measured']:,.0f})."
    )


def _steps(found: Found) -> str:
    """Where time and memory go."""
    rows = [
        (f"`{method}`", split["step_seconds"], *(f"{100 * split['shares'][part]:.1f} %" for part in PARTS))
        for method, split in found["split"].items()
    ]
    memory = [(f"`{method}`", numbers["ours_mib"], numbers["reference_mib"]) for method, numbers in found["memory"].items()]
    matmul = found["matmul"]
    told = (
        f"A dense CoFi step computes {matmul['operations_a_step'] / 1e9:.0f} billion operations in matrix products. At its "
        f"peak, which was measured with the products of an encoder layer on {matmul['tokens_of_peak']:,} tokens in the same "
        f"precision, this machine does {matmul['peak_operations_a_second'] / 1e9:.0f} billion a second: the step is at "
        f"{100 * matmul['share']:.0f} % of it."
    )
    parts = table(("dense step, RTE-like lengths", "seconds", *PARTS), rows)
    peaks = table(("peak memory, MiB", "ours", "reference"), memory)
    return f"## Where a step's time goes\n\n{parts}\n\n{told}\n\n{peaks}"


def _growth(found: Found) -> str:
    rows = []
    for what, sweep in found["growth"].items():
        pairs = zip(sweep["sizes"], sweep["step_seconds"], strict=True)
        rows.append((what, "; ".join(f"{size:,}: {seconds:.3g} s" for size, seconds in pairs), sweep["exponent"]))
    note = (
        "Seconds of a dense CoFi step; time grows as size to the power of the exponent. Rows have 32 tokens unless they grow."
    )
    return f"## Growth\n\n{note}\n\n" + table(("what grows", "size: seconds a step", "exponent"), rows)


def _start(found: Found) -> str:
    start = found["start"]
    rows: list[tuple[str, float]] = [
        ("a stage without a model has started, s", start["stage_without_model_seconds"]),
        ("a stage that trains has started, s", start["stage_that_trains_seconds"]),
    ]
    rows += [(f"planning {n['jobs']:,} jobs, processor s", n["processor_seconds"]) for n in start["planning"]]
    return "## Before training\n\n" + table(("what", "measured"), rows)


def _equal(found: Found) -> str:
    rows = []
    for method, numbers in found["equal"].items():
        losses = [f"{numbers[side]:.7g}" for side in ("ours", "reference")]
        rows.append((f"`{method}`", *losses, *(f"{numbers[f'{what}_difference']:.1e}" for what in APART)))
    note = (
        "Loss of a first step with the same weights, rows and draws, without dropout, in fp32; and relative differences of the "
        "losses and of the norms of the gradients. The benchmark stops where they differ by more than rounding."
    )
    head = ("method", "loss of ours", "of the reference", "difference", "of gradients")
    return f"## Both sides compute the same\n\n{note}\n\n{table(head, rows)}"


if __name__ == "__main__":
    print(text_of(), end="")
