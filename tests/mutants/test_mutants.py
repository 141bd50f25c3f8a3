"""The table of mutants is up to date, and a few of them are found; `./dev mutants` tries all."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, copy_of_all, is_caught, spoilt
from tests.mutants.table import MUTANTS, Mutant

SEED = ("if at_run ~= run then return 'STALE' end", "min(max(self.lease_s, (end_ms - now_ms) / 1000),")


def test_there_are_enough_of_them_and_each_is_another() -> None:
    assert len(MUTANTS) >= 40
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_line_is_there_once_and_so_are_its_tests(mutant: Mutant) -> None:
    assert spoilt(mutant, (ROOT / mutant.path).read_text(encoding="utf-8"))
    files = [word for word in mutant.tests.split() if word.startswith("tests/")]
    assert files
    assert all((ROOT / file).exists() for file in files)


def test_some_of_them_are_found(tmp_path: Path) -> None:
    folder = copy_of_all(tmp_path)
    for mutant in MUTANTS:
        if mutant.old in SEED:
            assert is_caught(mutant, folder), mutant.name
