# Espalier: one configuration in, small models and a report out. `snakemake --list` is the table of contents.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")
CLONE = workflow.current_basedir.get_path_or_uri(secret_free=True)
sys.path.insert(0, f"{CLONE}/workflow")  # the package of this clone, whatever is installed

from espalier.config.blocks import ConfigError
from espalier.config.command_line import take_command_line
from espalier.config.syntax import check_syntax

IS_MODULE = not workflow.modifier.is_main_snakefile()  # another workflow imports this one and gives it its configuration

if not IS_MODULE:
    try:
        check_syntax(workflow.overwrite_configfiles or [Path("config.yaml")])
    except ConfigError as error:
        raise WorkflowError(str(error)) from None

    if not workflow.overwrite_configfiles:  # --configfile replaces config.yaml; by itself Snakemake would merge the two

        configfile: "config.yaml"


if not IS_MODULE:
    try:
        take_command_line(config, workflow.config_settings.config_args or [])
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


include: "workflow/rules/common.smk"
include: "workflow/rules/digests.smk"
include: "workflow/rules/bases.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/unlabelled.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/teacher.smk"
include: "workflow/rules/own_teacher.smk"
include: "workflow/rules/teach.smk"
include: "workflow/rules/latency.smk"
include: "workflow/rules/compress.smk"
include: "workflow/rules/specialise.smk"
include: "workflow/rules/adopt.smk"
include: "workflow/rules/linear.smk"
include: "workflow/rules/recover.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/trim.smk"
include: "workflow/rules/vectors.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/card.smk"
include: "workflow/rules/table.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/requests.smk"


wildcard_constraints:
    base=one_of(study.bases),
    task=one_of(study.tasks),
    plan=f"{TEACHER}(?=/0/)|{plans_where(lambda plan: True)}",
    seed=one_of(map(str, study.seeds)),
    percent=targets.PERCENT,


rule all:
    """Everything that the configuration asks for: tables, metrics, report, model cards."""
    default_target: True
    input:
        results=f"{RESULTS}/report.html",
        metrics=f"{RESULTS}/metrics.json",
        deployed=[f"{RESULTS}/deploy.csv"] if study.deploy.formats else [],
        cards=layout.cards(),
        trimmed=[f"{folder}/trim.json" for folder in layout.trimmed()],
    localrule: True


if workflow.is_main_process and not IS_MODULE:
    refuse_unknown_files()
    say_what_is_left_aside()
    run_again_what_has_no_note()


# Only a main Snakefile's handlers count, so a workflow that imports this one keeps its own.
onstart:
    # Jobs on other machines could not reach the server; those that a cluster runs here belong under its own limits.
    if workflow.local_exec:
        serve_stages()


onsuccess:
    keep_notes(RESULTS)


onerror:
    keep_notes(RESULTS)
