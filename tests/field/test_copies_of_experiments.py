"""What is not in the copy of the repository in which `dvc exp run --temp` works is named, with what helps."""

from __future__ import annotations

import pytest

from espalier.config import ConfigError, parse
from espalier.config.layout import check_files

MINE = {"kind": "classification", "text": ["text"], "label": "label", "metric": "accuracy", "source": "files"}
HINT = "into the copy of `dvc exp run --temp` goes what git or DVC follows: `dvc add` the file, or give an absolute path"


@pytest.mark.parametrize(("place", "hinted"), [(".dvc/tmp/exps/standalone/tmp1", True), ("elsewhere", False)])
def test_a_file_beside_the_repository_is_not_in_the_copy(tmp_path, monkeypatch, small, place, hinted):
    """treeverse/dvc.org#4044: users are surprised that files which are not followed do not travel; treeverse/dvc#5800."""
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    monkeypatch.chdir(tmp_path / place)
    small["tasks"]["mine"] = {**MINE, "train": "../rows.csv", "validation": str(tmp_path / "rows.csv")}
    if not hinted:
        small["tasks"]["mine"]["train"] = "rows.csv"
    with pytest.raises(ConfigError) as error:
        check_files(parse(small))
    [problem] = error.value.problems
    assert problem.startswith("tasks.mine.train: no such file: ") and (HINT in problem) == hinted
