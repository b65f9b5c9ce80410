# Models that give vectors: the jobs of export.smk and trim.smk, with the files by which sentence-transformers opens a folder.
#   in:   as there
#   out:  as there, and modules.json · 1_Pooling/config.json · sentence_bert_config.json in the same folder


use rule export as export_vectors with:
    output:
        config=f"{STUDENT}/compact/config.json",
        weights=f"{STUDENT}/compact/model.safetensors",
        code=f"{STUDENT}/compact/modeling_espalier.py",
        onnx=f"{STUDENT}/compact/{ONNX_FILE}",
        tokenizer_json=f"{STUDENT}/compact/tokenizer.json",
        tokenizer_config=f"{STUDENT}/compact/tokenizer_config.json",
        sentences=paths_in(f"{STUDENT}/compact", SENTENCE_FILES),
    log:
        f"logs/export_vectors/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/export_vectors/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*VECTORS)),


use rule trim as trim_vectors with:
    output:
        config=f"{STUDENT}/trimmed/config.json",
        weights=f"{STUDENT}/trimmed/model.safetensors",
        code=f"{STUDENT}/trimmed/modeling_espalier.py",
        onnx=f"{STUDENT}/trimmed/{ONNX_FILE}",
        tokenizer_json=f"{STUDENT}/trimmed/tokenizer.json",
        tokenizer_config=f"{STUDENT}/trimmed/tokenizer_config.json",
        report=f"{STUDENT}/trimmed/trim.json",
        sentences=paths_in(f"{STUDENT}/trimmed", SENTENCE_FILES),
    log:
        f"logs/trim_vectors/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/trim_vectors/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*VECTORS)),
