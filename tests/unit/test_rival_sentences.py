"""What is said of rivals: who scores higher, who does not, and who is no larger at once."""

from __future__ import annotations

from espalier.results.rivals import rival_sentences
from espalier.results.summary import Group, Mean


def group(plan: str, score: float | None, mib: float | None = None, method: str | None = None, percent: str = "0") -> Group:
    means = {"score": None if score is None else Mean(score, None, 1), "size_mib": None if mib is None else Mean(mib, None, 1)}
    return Group("base", "task", plan, method or plan, None, percent, "accuracy", means)


TEACHER = group("teacher", 0.9, 80.0)
SDP = group("sdp", 0.8, 80.0, percent="50")
COFI = group("cofi", 0.65, 40.0, percent="95")
DENSE = group("dense", 0.85, 80.0)
LINEAR = group("linear", 0.7, 1.25)
TINY = group("tiny", 0.75, 16.8, "ready-made")


def test_a_win_and_a_loss_are_told_in_one_sentence():
    [said] = rival_sentences([TEACHER, SDP, COFI, DENSE, LINEAR])
    assert said == (
        "Against linear (0.700 at 1.2 MiB): sdp at 50 % (+0.100) and dense (+0.150) higher; cofi at 95 % (−0.050) no higher. "
        "linear is the better choice than cofi at 95 %: no lower, no larger."
    )


def test_a_student_that_is_better_and_no_larger_takes_a_rival_s_place():
    small = group("cofi", 0.8, 10.0, percent="60")
    [said] = rival_sentences([TEACHER, small, TINY])
    assert said == (
        "Against tiny (0.750 at 16.8 MiB): cofi at 60 % (+0.050) higher. cofi at 60 % can take its place: higher and no larger."
    )


def test_equal_scores_are_no_win():
    [said] = rival_sentences([TEACHER, group("sdp", 0.7, 80.0, percent="50"), LINEAR])
    assert "sdp at 50 % (+0.000) no higher. linear is the better choice than sdp at 50 %" in said


def test_each_rival_has_its_say_and_the_teacher_none():
    first, second = rival_sentences([TEACHER, LINEAR, SDP, TINY])
    assert first.startswith("Against linear (") and second.startswith("Against tiny (")
    assert "teacher" not in first + second and "tiny" not in first and "linear" not in second


def test_without_students_or_without_scores_there_is_nothing_to_say():
    assert rival_sentences([TEACHER, LINEAR]) == []
    assert rival_sentences([TEACHER, SDP]) == []
    assert rival_sentences([TEACHER, SDP, group("linear", None)]) == []


def test_a_size_that_is_not_known_decides_nothing():
    [said] = rival_sentences([TEACHER, SDP, group("linear", 0.9)])
    assert said == "Against linear (0.900): sdp at 50 % (−0.100) no higher."
