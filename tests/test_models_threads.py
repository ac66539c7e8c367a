from __future__ import annotations

from collections.abc import Iterator

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_info, threadpool_limits

from beam_fraud.models.threads import set_single_threaded, use_one_thread


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    with threadpool_limits(2):
        yield


@pytest.mark.usefixtures("_threads_as_before")
def test_one_thread_holds_after_the_call() -> None:
    HistGradientBoostingClassifier(max_iter=1).fit([[0.0], [1.0]] * 20, [0, 1] * 20)
    assert any(library["num_threads"] > 1 for library in threadpool_info())
    use_one_thread()
    assert {library["num_threads"] for library in threadpool_info()} == {1}


def test_an_estimator_inside_a_pipeline_gets_one_job() -> None:
    model = make_pipeline(RandomForestClassifier(n_jobs=4))
    set_single_threaded(model)
    assert model[-1].n_jobs == 1


def test_what_is_no_estimator_is_left_alone() -> None:
    set_single_threaded({"n_jobs": 4})
