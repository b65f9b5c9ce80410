"""Stands in for `espalier/__main__.py`: a small file for every output, so that a whole DAG runs in seconds."""

import hashlib
import json
import sys
from pathlib import Path

from espalier.provenance.job_records import job_record

digest = hashlib.sha256("\0".join(sys.argv).encode()).hexdigest()
number = int(digest[:4], 16) / 16**4
option, spec, inputs, outputs = "", "", [], {}
for word in sys.argv[2:]:
    if word.startswith("--"):
        option = word
    elif option == "--spec":
        spec = word
    elif option not in ("--storing", "--work") and Path(word).exists():  # Snakemake has removed old outputs
        inputs.append(Path(word))
    elif option not in ("--storing", "--work"):
        outputs[Path(word)] = option
with job_record(sys.argv[1], [*inputs, *outputs], spec):
    for path, option in outputs.items():
        rows = f"plan,sparsity_encoder,score,size_mib,speedup_b32\nsdp,0.5,{number},1.0,1.0\n"
        texts = {".json": json.dumps({"score": number, option: digest}), ".csv": rows}
        path.write_text(texts.get(path.suffix, f"{digest} {option}\n"))
