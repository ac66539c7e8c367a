from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_info, threadpool_limits

from beam_fraud.models.predict import libraries_loaded, set_single_threaded, use_one_thread


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    with threadpool_limits(2):
        # This thread may have done it in another test.
        libraries_loaded()
        yield


def threads() -> set[int]:
    """Return the number of threads of the libraries in this thread."""
    return {library["num_threads"] for library in threadpool_info()}


@pytest.mark.usefixtures("_threads_as_before")
def test_one_thread_holds_after_the_call_and_in_every_thread_that_calls() -> None:
    HistGradientBoostingClassifier(max_iter=1).fit([[0.0], [1.0]] * 20, [0, 1] * 20)
    assert max(threads()) > 1
    use_one_thread()
    assert threads() == {1}

    def elsewhere() -> set[int]:
        use_one_thread()
        return threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == {1}


@pytest.mark.usefixtures("_threads_as_before")
def test_libraries_that_load_later_are_limited_as_well() -> None:
    use_one_thread()
    threadpool_limits(2)
    use_one_thread()
    assert max(threads()) > 1, "once is enough while nothing is loaded"
    libraries_loaded()
    use_one_thread()
    assert threads() == {1}


def test_an_estimator_inside_a_pipeline_gets_one_job() -> None:
    model = make_pipeline(RandomForestClassifier(n_jobs=4))
    set_single_threaded(model)
    assert model[-1].n_jobs == 1


def test_other_objects_are_not_changed() -> None:
    set_single_threaded({"n_jobs": 4})
