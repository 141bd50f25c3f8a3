"""Settings: four sources, one validation, errors that name themselves and their nearest neighbour."""

import math
from pathlib import Path

import pytest

from engine.client.client import settings_for
from engine.config import Settings, load_settings, resolve
from engine.config.limits import bounds_of, limit_of, without_password
from engine.errors import InvalidSetting

NUMBERS = [name for name, field in Settings.model_fields.items() if "number" in limit_of(name)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(flags=None, file=None, **environ):
    return load_settings(flags, file, environ=environ)


def refusal(flags=None, file=None, **environ) -> InvalidSetting:
    with pytest.raises(InvalidSetting) as caught:
        load(flags, file, **environ)
    return caught.value


def written(text: str, name: str = "ganger.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_without_any_source_each_value_is_its_default():
    loaded = load()
    assert set(loaded.sources.values()) == {"default"}
    assert set(loaded.sources) == set(Settings.model_fields)
    assert loaded.settings == Settings()
    assert loaded.settings.pools["default"].queues == ("*",)
    assert loaded.config_file is None


def test_each_source_goes_before_the_one_before_it_and_is_remembered():
    written('max_workers = 3\nmax_retries = 4\nlease_s = 20\ntask_timeout = 7.5\n')
    loaded = load({"max_retries": 6, "lease_s": None}, GANGER_MAX_RETRIES="5", GANGER_LEASE_S="30")
    settings = loaded.settings
    assert (settings.max_workers, settings.lease_s, settings.max_retries, settings.task_timeout) == (3, 30.0, 6, 7.5)
    assert loaded.sources["max_workers"] == "file ganger.toml"
    assert loaded.sources["lease_s"] == "environment GANGER_LEASE_S"
    assert loaded.sources["max_retries"] == "flag --max-retries"
    assert loaded.sources["data_dir"] == "default"


def test_the_argument_of_a_call_is_not_named_as_a_flag():
    with pytest.raises(InvalidSetting, match=r"redis_url = 'localhost:6379' \(str, from argument redis_url\)"):
        settings_for(None, redis_url="localhost:6379")


def test_the_file_is_found_by_name_then_by_environment_then_in_its_places():
    beside = written("max_retries = 1", "config/ganger.toml")
    assert load().config_file == beside
    here = written("max_retries = 2")
    assert load().config_file == here
    other = written("max_retries = 3", "other.toml")
    assert load(GANGER_CONFIG="other.toml").config_file == other
    named = written("max_retries = 4", "named.toml")
    assert load(file=named, GANGER_CONFIG="other.toml").settings.max_retries == 4


def test_a_file_that_was_named_has_to_be_there_and_to_be_toml():
    assert "there is no configuration file 'gone.toml'" in str(refusal(file=Path("gone.toml")))
    assert "gone.toml" in str(refusal(GANGER_CONFIG="gone.toml"))
    problem = refusal(file=written("max_workers = = 3"))
    assert "cannot read" in str(problem)
    assert "line 1" in str(problem)
    Path("binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in str(refusal(file=Path("binary.toml")))


@pytest.mark.parametrize(("arrange", "words"), [
    (lambda: refusal(file=written("max_worker = 3")), ["'max_worker'", "ganger.toml", "'max_workers'"]),
    (lambda: refusal(GANGER_MAXRETRIES="3"), ["GANGER_MAXRETRIES", "'GANGER_MAX_RETRIES'"]),
    (lambda: refusal({"queue_prefx": "x"}), ["'queue_prefx'", "'queue_prefix'"]),
    (lambda: refusal(file=written("[pools.a]\nqueue = ['x']")), ["pools.a.queue", "'queues'"]),
    (lambda: refusal(GANGER_CONFG="x"), ["GANGER_CONFG", "'GANGER_CONFIG'"]),
], ids=["file", "environment", "flag", "pool", "name of the file"])
def test_an_unknown_name_is_refused_and_its_nearest_neighbour_named(arrange, words):
    message = str(arrange())
    assert message.startswith("unknown ")
    assert all(word in message for word in words), message


OF_SERVICES = {
    "GANGER_SERVICE_HOST": "10.0.0.7", "GANGER_SERVICE_PORT": "8000", "GANGER_SERVICE_PORT_HTTP": "8000",
    "GANGER_PORT": "tcp://10.0.0.7:8000", "GANGER_PORT_8000_TCP": "tcp://10.0.0.7:8000",
    "GANGER_PORT_8000_TCP_PROTO": "tcp", "GANGER_PORT_8000_TCP_PORT": "8000", "GANGER_PORT_8000_TCP_ADDR": "10.0.0.7",
    "GANGER_API_SERVICE_HOST": "10.0.0.8", "GANGER_API_PORT": "tcp://10.0.0.8:80", "GANGER_API_PORT_80_UDP_ADDR": "::1",
    "GANGER_NAME": "/web/ganger", "GANGER_ENV_PATH": "/bin", "GANGER_1_PORT_80_TCP_PORT_START": "80"}


def test_variables_of_a_service_that_is_named_ganger_are_passed_over():
    loaded = load_settings(environ=OF_SERVICES)
    assert loaded.sources["api_port"] == "default"
    assert load_settings(environ={**OF_SERVICES, "GANGER_API_PORT": "8001"}).settings.api_port == 8001


@pytest.mark.parametrize("variable", ["GANGER_PORT", "GANGER_NAME", "GANGER_ENV_PATH", "GANGER_SERVICE", "GANGER_HOST"])
def test_others_that_look_like_them_are_unknown(variable):
    with pytest.raises(InvalidSetting, match=f"unknown environment variable {variable}"):
        load_settings(environ={variable: "8000"})
    with pytest.raises(InvalidSetting, match="api_port = 'tcp:"):
        load_settings({"api_port": "tcp://10.0.0.8:80"}, environ={})


def test_an_unknown_name_near_nothing_gets_no_suggestion():
    assert "did you mean" not in str(refusal({"zzzzzz": 1}))


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_held_by_both_bounds(name):
    low, high = bounds_of(Settings.model_fields[name])
    for value in (low - 1, high + 1, math.nan, math.inf, True, "many"):
        problem = refusal({name: value})
        assert problem.field == name
        assert limit_of(name) in str(problem)
        assert type(value).__name__ in str(problem)


@pytest.mark.parametrize("name", NUMBERS)
def test_both_bounds_themselves_are_accepted(name):
    partners = {"soft_timeout": {"task_timeout": 0}, "retry_backoff_s": {"retry_backoff_s_max": 30 * 86400}}
    for value in bounds_of(Settings.model_fields[name]):
        partner = {"retry_backoff_s": 0} if name == "retry_backoff_s_max" else partners.get(name, {})
        assert getattr(load({name: value, **partner}).settings, name) == value


@pytest.mark.parametrize(("flags", "field"), [
    ({"redis_url": "http://host"}, "redis_url"),
    ({"redis_url": "redis://"}, "redis_url"),
    ({"redis_url": "redis://host:99999/0"}, "redis_url"),
    ({"redis_url": "redis://[half"}, "redis_url"),
    ({"redis_url": "unix://"}, "redis_url"),
    ({"queue_prefix": "a{b}"}, "queue_prefix"),
    ({"queue_prefix": ""}, "queue_prefix"),
    ({"queue_prefix": "x" * 65}, "queue_prefix"),
    ({"handlers": ["not a module"]}, "handlers.0"),
    ({"handlers": ["os; import sys"]}, "handlers.0"),
    ({"handlers": [".relative"]}, "handlers.0"),
    ({"log_level": "loud"}, "log_level"),
    ({"log_format": "xml"}, "log_format"),
    ({"pools": {}}, "pools"),
    ({"pools": {"a b": {}}}, "pools"),
    ({"pools": {"a": {"queues": []}}}, "pools.a.queues"),
    ({"pools": {"a": {"queues": ["x,y"]}}}, "pools.a.queues.0"),
    ({"pools": {"a": {"max_workers": 0}}}, "pools.a.max_workers"),
    ({"pools": "{"}, "pools"),
    ({"handlers": "["}, "handlers"),
    ({"soft_timeout": 10, "task_timeout": 10}, "soft_timeout"),
    ({"retry_backoff_s": 10, "retry_backoff_s_max": 9}, "retry_backoff_s"),
])
def test_a_wrong_value_is_refused_by_the_name_of_its_field(flags, field):
    problem = refusal(flags)
    assert problem.field == field
    assert problem.limit


def test_everything_that_is_wrong_is_found_at_once():
    written("max_worker = 1\nlease_s = 0")
    loaded, problems = resolve({"log_level": "loud"}, environ={"GANGER_NO_SUCH": "1"})
    assert loaded is None
    assert {problem.field for problem in problems} == {"max_worker", "lease_s", "log_level", "GANGER_NO_SUCH"}


def test_lists_and_tables_can_come_as_text():
    settings = load({"handlers": "a.b, c"}, GANGER_POOLS='{"gpu": {"queues": ["x"], "max_workers": 1}}').settings
    assert settings.handlers == ("a.b", "c")
    assert load({"handlers": '["a.b"]'}).settings.handlers == ("a.b",)
    assert list(settings.pools) == ["gpu"]
    assert settings.pools["gpu"].max_workers == 1


def test_an_empty_variable_counts_as_not_set():
    assert load(GANGER_REDIS_URL="", GANGER_CONFIG="", GANGER_MAX_WORKERS="").settings == Settings()


def test_an_empty_url_as_a_flag_goes_back_to_the_embedded_redis():
    assert load({"redis_url": ""}, GANGER_REDIS_URL="redis://host").settings.redis_url is None


def test_settings_are_frozen_and_travel_as_json():
    settings = load({"max_workers": 3, "pools": {"a": {"queues": ["x"]}}}).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.max_workers = 4
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("url", ["redis://user:hunter2@host/0", "redis://:hunter2@host", "http://u:hunter2@h",
                                 "redis://[half:hunter2@host", "unix:///s.sock?password=hunter2&db=1"])
def test_no_password_is_ever_shown(url):
    assert "hunter2" not in without_password(url)
    if not url.startswith("unix"):
        assert "hunter2" not in str(refusal({"redis_url": url.replace("redis://", "http://")}))
