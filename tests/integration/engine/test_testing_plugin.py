"""The fixtures for users' tests, in a project that has nothing but them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[3]

TESTS = """
    import pytest
    from shop import order
    from engine.errors import TaskFailed

    @pytest.fixture
    def ganger_settings():
        return {"max_workers": 1, "max_retries": 1, "retry_backoff_s": 60}

    def test_inline(ganger_inline):
        assert ganger_inline.result(order.submit(book="Emma")) == "EMMA"
        task_id = order.submit(book=None)
        assert ganger_inline.status(task_id) == "RETRYING"
        ganger_inline.advance(60)
        with pytest.raises(TaskFailed, match="AttributeError"):
            ganger_inline.result(task_id)

    def test_inline_again(ganger_inline):
        assert ganger_inline.tasks() == []

    def test_with_workers(ganger, tmp_path):
        assert ganger.result(order.submit(book="Emma"), wait=20) == "EMMA"
        assert ganger.settings.redis_url is None
        assert ganger.settings.data_dir == tmp_path / "ganger"
        assert ganger.status().workers <= 1
"""


def test_a_project_tests_its_handlers_inline_and_with_workers(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent("""
        from engine import handler
        @handler("order")
        def order(payload):
            return payload["book"].upper()
    """))
    (tmp_path / "test_shop.py").write_text(textwrap.dedent(TESTS))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GANGER_REDIS_URL": "redis://nowhere.invalid"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'temp'}",
               *([] if _is_installed() else ["-p", "engine.testing.plugin"])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=55,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "engine.testing.plugin" for point in entry_points(group="pytest11"))
