"""config/ganger.toml is kept in step with the model."""

import re
import tomllib
from pathlib import Path

import pytest

from engine.config import Settings, load_settings
from engine.config.template import template
from engine.errors import InvalidSetting

SHIPPED = Path(__file__).parents[3] / "config" / "ganger.toml"

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


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ganger.toml"
    path.write_text("\ufefflease_s = 20\n", encoding="utf-8")
    assert load_settings({}, path, environ={}).settings.lease_s == 20


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ganger.toml").mkdir()
    with pytest.raises(InvalidSetting, match="is a folder"):
        load_settings({}, Path("ganger.toml") if named else None, environ={})


@pytest.mark.parametrize(("path", "module"), [("tasks.py", "tasks"), ("./tasks.py", "tasks"),
                                              ("my_app/tasks.py", "my_app.tasks")])
def test_a_file_in_place_of_a_module_is_told_with_its_module(path: str, module: str) -> None:
    with pytest.raises(InvalidSetting, match=f"the module of that file is '{module}'"):
        load_settings({"handlers": [path]}, environ={})
