"""One page and its pictures, which say what came out, how sure it is, and where it came from."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import ReportSpec
from espalier.report.analysis_figures import analyses_file
from espalier.report.page import report_page
from espalier.report.quality_figures import quality_file, size_file
from espalier.report.structure_figures import structure_file
from espalier.report.study import read_study
from espalier.report.training_figures import distance_file, training_file
from espalier.results.fractions import numbers_of
from espalier.results.places import read_fields
from espalier.results.summary import conditions
from espalier.runtime.files import atomic, write_json

TIMED = ("device", "threads", "length", "repeats", "latency_ms")
"""What the page shows of a cost.json; the rest of it stands in the table."""


def run(
    spec: str,
    *,
    table: Path,
    histories: list[Path],
    records: list[Path],
    scores: list[Path],
    costs: list[Path],
    structures: list[Path],
    analyses: list[Path],
    tasks: list[Path],
    report: Path,
    quality: Path,
    size: Path,
    structure: Path,
    training: Path,
    distance: list[Path],
    anatomy: list[Path],
    findings: list[Path],
) -> None:
    """Write report.html and the standalone figures; the same inputs give the same bytes.

    Args:
        spec: a `ReportSpec` as JSON.
        table: table.csv.
        histories: history.parquet of every stage, teacher and recovery.
        records: run.json of the same.
        scores: scores.json of every student and teacher.
        costs: cost.json of the same.
        structures: structure.json of every student.
        analyses: analysis.json of every student that was analysed.
        tasks: task.json of every task.
        report: where the page goes.
        quality: where the picture of score against sparsity goes.
        size: where the picture of score against stored size and speed goes.
        structure: where the picture of what structured students kept goes.
        training: where the picture of the training curves goes.
        distance: where the picture of the distances from the teacher goes, in a study with text tasks; else empty.
        anatomy: where the pictures of all analyses go, in a study that has some; else empty.
        findings: where the numbers in those and in the distances go, in a study that has either; else empty.
    """
    settings = ReportSpec.model_validate_json(spec)
    study = read_study(settings, table, histories, records, scores, structures, analyses, tasks)
    texts = {
        report: report_page(settings, study, conditions(read_fields(path, TIMED) for path in costs)),
        quality: quality_file(study.qualities, study.look),
        size: size_file(study.qualities, study.look),
        structure: structure_file(study.maps, study.look),
        training: training_file(study.curves, study.look),
        **{path: distance_file(study.compared, study.look) for path in distance},
        **{path: analyses_file(study.findings, study.fractions, study.look) for path in anatomy},
    }
    for path, text in texts.items():
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for path in findings:
        write_json(path, numbers_of(study.findings, study.fractions, study.compared))
