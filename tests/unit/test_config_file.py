"""config/ganger.toml is kept in step with the model."""

import re
import tomllib
from pathlib import Path

import pytest

from engine.config import Settings, load_settings
from engine.config.template import template

SHIPPED = Path(__file__).parents[2] / "config" / "ganger.toml"

# Their defaults are no values.
EXAMPLES = ("redis_url", "redis_binary", "handlers", "max_workers", "frozen_memory_max", "pools")


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)


def test_the_shipped_file_is_the_one_that_the_model_makes():
    assert SHIPPED.read_text() == template(), "write it anew: ganger config init --force config/ganger.toml"


def test_it_changes_nothing_as_it_is():
    assert tomllib.loads(template()) == {}


def test_it_shows_every_setting_with_its_default():
    shown = tomllib.loads(uncommented(template()))
    assert list(shown) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if name not in EXAMPLES:
            assert str(shown[name]) == str(field.default) or shown[name] == field.default, name


def test_every_line_of_it_is_accepted(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text(uncommented(template()))
    loaded = load_settings({}, path, environ={})
    assert set(loaded.sources.values()) == {f"file {path}"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name):
    assert len(Settings.model_fields[name].description or "") > 10
