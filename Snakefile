# Espalier: one configuration in, small models and a report out. `snakemake --list` is the table of contents.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")
CLONE = workflow.current_basedir.get_path_or_uri(secret_free=True)
sys.path.insert(0, f"{CLONE}/workflow")  # the package of this clone, whatever is installed

from espalier.config.blocks import ConfigError
from espalier.config.syntax import check_syntax

IS_MODULE = not workflow.modifier.is_main_snakefile()  # another workflow imports this one and gives it its configuration

if not IS_MODULE:
    try:
        check_syntax(workflow.overwrite_configfiles or [Path("config.yaml")])
    except ConfigError as error:
        raise WorkflowError(str(error)) from None

    if not workflow.overwrite_configfiles:  # --configfile replaces config.yaml; by itself Snakemake would merge the two

        configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/bases.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/teacher.smk"
include: "workflow/rules/latency.smk"
include: "workflow/rules/compress.smk"
include: "workflow/rules/specialise.smk"
include: "workflow/rules/recover.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/card.smk"
include: "workflow/rules/table.smk"
include: "workflow/rules/report.smk"


wildcard_constraints:
    base=NAME,
    task=NAME,
    plan=NAME,
    seed=r"\d+",
    percent=targets.PERCENT,


rule all:
    """Everything that the configuration asks for: table, metrics, report, model cards."""
    default_target: True
    input:
        results=f"{RESULTS}/report.html",
        metrics=f"{RESULTS}/metrics.json",
        cards=[f"{folder}/compact/README.md" for folder in layout.students()],
    localrule: True
