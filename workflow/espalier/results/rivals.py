"""What one could take instead of a student, and which students are better: sentences that are computed from the table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from espalier.config.project import TEACHER
from espalier.results.summary import Group, size_text


def rival_sentences(inside: Sequence[Group]) -> list[str]:
    """One sentence or two for each rival of a base and task: which students score higher, which do not, and at what size.

    Args:
        inside: groups of one base and task, teacher and rivals among them. Scores are means over seeds; higher is better.
    """
    scored = [group for group in inside if group.means.get("score") and group.plan != TEACHER]
    rivals = [group for group in scored if group.is_rival]
    students = [group for group in scored if not group.is_rival]
    return [" ".join([_verdict(rival, students), *_at_its_size(rival, students)]) for rival in rivals if students]


def _verdict(rival: Group, students: Sequence[Group]) -> str:
    """Who scores higher than a rival, and who does not, each with the difference."""
    higher = [student for student in students if _lead(student, rival) > 0]
    others = [student for student in students if _lead(student, rival) <= 0]
    parts = [
        f"{_listed([_with_lead(student, rival) for student in named])} {words}"
        for named, words in ((higher, "higher"), (others, "no higher"))
        if named
    ]
    return f"Against {rival.plan} ({_facts(rival)}): {'; '.join(parts)}."


def _at_its_size(rival: Group, students: Sequence[Group]) -> list[str]:
    """Who is no larger and better at once: the rival than students, or students than the rival."""
    beaten = [student for student in students if _lead(student, rival) <= 0 and _mib(rival) <= _mib(student)]
    ahead = [student for student in students if _lead(student, rival) > 0 and _mib(student) <= _mib(rival)]
    said = []
    if beaten:
        said.append(
            f"{rival.plan} is the better choice than {_listed([_name(student) for student in beaten])}: no lower, no larger."
        )
    if ahead:
        said.append(f"{_listed([_name(student) for student in ahead])} can take its place: higher and no larger.")
    return said


def _lead(student: Group, rival: Group) -> float:
    """How much higher the student's score is."""
    return student.means["score"].mean - rival.means["score"].mean


def _mib(group: Group) -> float:
    """Total size in PyTorch where that is known, else that of the weights."""
    size = group.means.get("total_mib") or group.means.get("size_mib")
    return size.mean if size else math.inf


def _name(student: Group) -> str:
    return student.plan if student.percent == "0" else f"{student.plan} at {student.label}"


def _with_lead(student: Group, rival: Group) -> str:
    lead = f"{_lead(student, rival):+.3f}".replace("-", "−")
    return f"{_name(student)} ({lead})"


def _facts(rival: Group) -> str:
    size = _mib(rival)
    return f"{rival.means['score'].mean:.3f}" + (f" at {size_text(size)} MiB" if math.isfinite(size) else "")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
