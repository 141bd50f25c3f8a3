"""What people are told of threads and connections that the imports left."""

import pytest

from engine.core.worker import inherited_state

THREADS = {"threads": {"polars": 2, "reader": 1}, "modules": ["tasks"]}
SOCKETS = {"sockets": ["10.0.0.7:5432"], "modules": ["tasks"]}


def test_each_danger_has_a_sentence_with_the_module_and_the_names() -> None:
    threads, sockets = inherited_state.warnings({**THREADS, **SOCKETS})
    assert threads.startswith("the imports of tasks have started 3 threads (polars, reader);")
    assert sockets.startswith("the imports of tasks have opened 1 connection (to 10.0.0.7:5432);")
    assert all("docs/libraries.md" in text for text in (threads, sockets))


def test_threads_that_a_library_can_do_without_are_no_danger() -> None:
    assert inherited_state.warnings({"harmless": {"numpy (openblas)": 3}}) == []


def test_long_lists_are_cut() -> None:
    names = {f"t{number}": 1 for number in range(8)}
    assert inherited_state.threads_text({"threads": names}) == "8 threads (t0, t1, t2, t3, t4 and 3 more)"


@pytest.mark.parametrize(("inherited", "cpu_s", "tells"), [
    (THREADS, 0.05, True), (SOCKETS, 0.05, True), (THREADS, 5.0, False), (THREADS, None, False), ({}, 0.0, False)])
def test_only_a_run_that_hardly_used_the_processor_is_told_of_them(inherited: dict, cpu_s: float | None,
                                                                   tells: bool) -> None:
    assert bool(inherited_state.hint(inherited, cpu_s, 20.0)) == tells


def test_a_library_that_ends_the_process_for_the_fork_is_quoted() -> None:
    output = "begun\nTerminating: fork() called from a process already using GNU OpenMP, this is unsafe.\n"
    assert "its last words: Terminating: fork()" in inherited_state.last_words(output)
    assert inherited_state.last_words("begun") == inherited_state.last_words("") == ""
