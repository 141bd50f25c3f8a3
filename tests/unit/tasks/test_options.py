"""The table of options: all that is derived from it agrees with it, and a new option is one entry."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from engine.config import Settings
from engine.config.option_reference import table
from engine.core.task.options import OPTIONS, Giver, Option, OptionType, amendable, given_by
from engine.core.task.policy import RunPolicy
from engine.core.task.record import RecordOptions
from engine.core.worker.start_method import METHODS
from engine.services.api.models.tasks import TaskCreate, TaskUpdate
from engine.services.composition import run_policy
from engine.tasks.options import CHECKS, HandlerOptions, SubmitOptions

ROOT = Path(__file__).parents[3]
every_option = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)


def test_type_checkers_know_the_options_of_the_table() -> None:
    assert HandlerOptions.__annotations__.keys() == given_by(Giver.HANDLER).keys()
    assert SubmitOptions.__annotations__.keys() == given_by(Giver.SUBMIT).keys()
    assert RecordOptions.__annotations__.keys() == {option.key for option in OPTIONS.values() if option.key}


def test_the_bodies_of_the_api_have_the_options_of_the_table() -> None:
    assert TaskCreate.model_fields.keys() == {"task_type", "payload", *given_by(Giver.API)}
    assert TaskUpdate.model_fields.keys() == amendable().keys()


@every_option
def test_an_entry_makes_sense(option: Option) -> None:
    assert option.about.endswith(".")
    assert len(option.about) <= 100
    assert bool(option.setting) != bool(option.default), "one of them says what holds where nobody gives it"
    assert (option.unit != "") == (option.high > 0 or option.type in (OptionType.MEMORY, OptionType.MEMORY_STEPS))
    assert not option.can_be_amended or Giver.API in option.by
    assert bool(option.choices) == (option.type is OptionType.CHOICE)
    if option.policy and option.key:
        assert option.key == option.name, "the policy of a task is read from its record"


@every_option
def test_a_setting_that_an_option_falls_back_to_is_of_its_kind(option: Option) -> None:
    if option.setting is None:
        return
    field = Settings.model_fields[option.setting]
    assert isinstance(field.json_schema_extra, dict)
    assert field.json_schema_extra["unit"] == option.unit
    check = CHECKS[option.name]
    for value in [field.get_default(call_default_factory=True), *(
            getattr(bound, side) for bound in field.metadata for side in ("ge", "le") if hasattr(bound, side))]:
        assert check(value) == value, "an option may have every value of its setting"


def test_what_holds_without_any_option_is_written_once() -> None:
    assert run_policy(Settings()) == RunPolicy()


def test_workers_start_in_the_ways_that_a_handler_may_ask_for() -> None:
    assert OPTIONS["start_method"].choices == METHODS
    assert get_args(Settings.model_fields["start_method"].annotation) == METHODS


def test_the_documentation_has_the_table() -> None:
    assert table(Settings()) in (ROOT / "docs" / "options.md").read_text(), \
        "write it anew: ./dev run python -m engine.config.option_reference docs/options.md"


def test_a_new_option_is_one_entry(redis_url: str) -> None:
    scenario = Path(__file__).with_name("new_option_scenario.py")
    done = subprocess.run([sys.executable, str(scenario), redis_url], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
