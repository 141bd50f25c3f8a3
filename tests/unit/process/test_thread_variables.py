"""How many threads numeric libraries are told to start."""

import pytest

from engine.adapters.kernel.prctl import THREAD_VARIABLES, set_threads


@pytest.mark.parametrize(("given", "expected"), [
    ({}, "4"), ({"OMP_NUM_THREADS": "1"}, "1"), ({"OMP_NUM_THREADS": "3,2"}, "3"), ({"OMP_NUM_THREADS": "many"}, "4"),
    ({"OMP_NUM_THREADS": "0"}, "4")])
def test_what_the_user_says_for_openmp_is_the_default_of_all_others(given: dict[str, str], expected: str) -> None:
    environ = dict(given)
    set_threads(4, environ)
    assert {environ[name] for name in THREAD_VARIABLES if name not in given} == {expected}
    assert environ | given == environ, "what the user has set stays"


def test_a_variable_of_its_own_goes_before_that_of_openmp() -> None:
    environ = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "6"}
    set_threads(4, environ)
    assert (environ["MKL_NUM_THREADS"], environ["OPENBLAS_NUM_THREADS"]) == ("6", "2")
