"""Answers that stay answers for some seconds."""

from __future__ import annotations

from beam_fraud.review.kept_answers import KeptAnswers


def test_an_answer_ends() -> None:
    kept, ended = KeptAnswers[str](60.0, 10), KeptAnswers[str](0.0, 10)
    for answers in (kept, ended):
        answers.keep(("how", "many"), "few")
    assert kept.get(("how", "many")) == "few"
    assert kept.get(("how", "much")) is None
    assert ended.get(("how", "many")) is None


def test_a_new_answer_replaces_the_old_ones_beyond_the_most() -> None:
    kept = KeptAnswers[int](60.0, 3)
    for number in range(4):
        kept.keep(number, number)
    assert [kept.get(number) for number in range(4)] == [None, None, None, 3]
