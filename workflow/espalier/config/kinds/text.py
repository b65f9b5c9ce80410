"""Text: rows without labels, for masked-language modelling."""

from __future__ import annotations

from espalier.config.kinds.rules import FILE_FORMATS, TaskRules

RULES = TaskRules(
    reported=("masked-accuracy", "perplexity"),
    needed=(),
    labelled=False,
    no_linear="its rows have no labels",
    no_unlabelled="its own rows have no labels",
    text_columns=(1,),
    columns="one column",
    # in .txt paragraphs are separated by blank lines; their column is called `text`
    formats=(*FILE_FORMATS, ".txt"),
    refused=("label", "classes", "metric", "also", "holdout", "stride", "max_answer_length", "template", "mean", "counts"),
    auto_class="AutoModelForMaskedLM",
    pipeline="fill-mask",
    own_head=True,
)
