"""Paths that aim at a size or a speed: their folders, and the table of times that is measured once."""

from __future__ import annotations

import re

NO_RECOVERY = {"epochs": 0.0}


def write_plans(clone, small, method, **plans):
    small["plans"] = {name: {"method": method, "recover": NO_RECOVERY, "path": path} for name, path in plans.items()}
    clone.write_config(small)


def test_a_table_is_measured_once_for_all_plans_that_aim_at_a_speed(clone, small):
    small["seeds"] = [42, 7]
    write_plans(clone, small, "cofi", fast=[{"speedup": 2}, {"speedup": 4}], short=[{"latency_ms": 12.5}])
    jobs = clone.jobs()
    assert [job for job in jobs if job.startswith("latency")] == ["latency"]
    assert {job for job in jobs if job.startswith("compress fast")} == {"compress fast 2x", "compress fast 4x"}
    assert "compress 7 short 12.5ms" in jobs


def test_compress_is_given_the_table(clone, small):
    write_plans(clone, small, "cofi", fast=[{"speedup": 4, "batch_size": 1}])
    result = clone.snakemake("--dry-run", "--printshellcmds", "results/small/minilm/docs-library/seed42/fast/4x/run.json")
    assert "--latency results/small/latency/minilm/b1-l128.json " in result.stdout + result.stderr


def test_a_size_needs_no_table(clone, small):
    write_plans(clone, small, "sdp", slim=[{"parameters": "5M"}, {"parameters": "800k"}])
    jobs = clone.jobs()
    assert {job for job in jobs if job.startswith("compress")} == {
        "compress slim 5M-parameters",
        "compress slim 800k-parameters",
    }
    assert "latency" not in jobs
    result = clone.snakemake(
        "--dry-run", "--printshellcmds", "results/small/minilm/docs-library/seed42/slim/5M-parameters/run.json"
    )
    assert re.search(r"--latency \s*\\\n", result.stdout + result.stderr)


def test_a_plan_that_cannot_aim_at_a_speed_is_refused(clone, small):
    write_plans(clone, small, "sdp", fast=[{"speedup": 4}])
    result = clone.snakemake("--dry-run")
    assert result.returncode != 0
    assert "plans.fast: method sdp cannot aim at speedup; allowed: parameters, sparsity" in result.stdout + result.stderr
