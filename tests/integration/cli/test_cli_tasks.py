"""Tasks and queues on the command line, where no pool runs them."""

from pathlib import Path

import pytest
from printed import document, one_line

from engine.cli.exit_codes import Exit

NOBODY = "01H5RC2K8D7QZ3V0M4T"


def test_submit_prints_the_id_and_nothing_else(ganger):
    result = ganger("submit", "echo", "--payload", '{"a": 1}')
    assert result.exit_code == 0
    task_id = result.stdout.strip()
    task = document(ganger("status", task_id, "--json"))
    assert task["id"] == task_id
    assert task["payload"] == {"a": 1}
    assert (task["task_type"], task["status"]) == ("echo", "QUEUED")
    assert (task["priority"], task["queue"]) == ("NORMAL", "default")
    assert {"name", "attempts", "result", "error", "created_at", "cpu_s", "peak_rss_bytes", "wall_s"} <= set(task)


def test_every_option_of_submit_reaches_the_task(ganger):
    task = document(ganger(
        "submit", "echo", "--name", "cover", "--queue", "images", "--priority", "urgent", "--delay", "60", "--expires",
        "90", "--timeout", "30", "--soft-timeout", "20", "--max-retries", "5", "--tag", "a", "--tag", "b", "--fair-key",
        "k", "--max-deliveries", "1", "--result-ttl", "60", "--idempotency-key", "once", "--webhook", "https://example.com/hook",
        "--traceparent", f"00-{'1' * 32}-{'2' * 16}-01", "--json"))
    assert (task["name"], task["queue"], task["priority"], task["status"]) == ("cover", "images", "URGENT", "PENDING")
    assert task["tags"] == ["a", "b"]
    assert task["due_at"] < task["expires_at"]
    again = ganger("submit", "echo", "--queue", "images", "--idempotency-key", "once")
    assert again.stdout.strip() == task["id"]


def test_the_payload_can_come_from_a_file_or_from_standard_input(ganger):
    Path("payload.json").write_text('["from a file"]')
    first = document(ganger("submit", "echo", "--payload", "@payload.json", "--json"))
    second = document(ganger("submit", "echo", "--payload", "-", "--json", input='["from stdin"]'))
    assert (first["payload"], second["payload"]) == (["from a file"], ["from stdin"])


def test_common_options_may_stand_before_the_command_too(ganger):
    task_id = ganger("--queue-prefix", "elsewhere", "submit", "echo").stdout.strip()
    assert document(ganger("--queue-prefix", "elsewhere", "--json", "status", task_id))["id"] == task_id
    assert ganger("status", task_id).exit_code == Exit.FAILED
    assert document(ganger("--json", "queues", "--queue-prefix", "elsewhere"))[0]["queue"] == "default"


def test_a_result_that_is_not_there_yet_is_waited_for_and_then_says_so(ganger):
    task_id = ganger("submit", "echo").stdout.strip()
    result = ganger("result", task_id)
    assert result.exit_code == Exit.WAITED
    assert "still QUEUED" in one_line(result)
    assert ganger("submit", "echo", "--wait-timeout", "0.05").exit_code == Exit.WAITED


@pytest.mark.parametrize("asked", [["submit", "echo", "--wait-timeout"], ["result", "--wait"]])
def test_who_waits_for_what_no_pool_can_run_is_told_so_once(ganger, monkeypatch, asked):
    monkeypatch.setattr("engine.cli.commands.task.REASON_AFTER_S", 0.01)
    of = [ganger("submit", "echo").stdout.strip()] if asked[0] == "result" else []
    told = ganger(asked[0], *of, *asked[1:], "0.05").stderr
    assert told.count("waits: no pool is running\n") == 1


def test_status_says_what_a_task_waits_for_as_json_too(ganger):
    task_id, cancelled = (ganger("submit", "echo").stdout.strip() for _ in range(2))
    ganger("cancel", cancelled)
    told = document(ganger("status", task_id, cancelled, "--json"))
    assert [task["reason"] for task in told] == ["no pool is running", None]


def test_cancel_retry_and_priority_of_a_task_that_waits(ganger):
    task_id = ganger("submit", "echo").stdout.strip()
    assert ganger("priority", task_id, "urgent").stdout == f"{task_id} is URGENT\n"
    cancelled = document(ganger("cancel", task_id, "--reason", "no need", "--json"))
    assert cancelled == [{"id": task_id, "status": "CANCELLED"}]
    refused = ganger("cancel", task_id)
    assert refused.exit_code == Exit.FAILED
    assert "CANCELLED" in one_line(refused)
    ended = ganger("result", task_id)
    assert ended.exit_code == Exit.FAILED
    assert "no need" in one_line(ended)
    assert document(ganger("result", task_id, "--json"))["cause"] == "cancelled"
    assert document(ganger("retry", "--status", "CANCELLED", "--json")) == [{"id": task_id, "status": "QUEUED"}]
    assert document(ganger("status", task_id, "--json"))["priority"] == "URGENT"


def test_status_of_several_is_a_list(ganger):
    ids = [ganger("submit", "echo", "--name", name).stdout.strip() for name in ("one", "two")]
    assert [task["id"] for task in document(ganger("status", *ids, "--json"))] == ids
    text = ganger("status", *ids).stdout
    assert "one" in text
    assert "two" in text


def test_tasks_are_listed_as_a_table_that_is_not_cut_off_in_a_pipe(ganger):
    name = "n" * 150
    task_id = ganger("submit", "echo", "--name", name, "--priority", "high").stdout.strip()
    ganger("submit", "other")
    text = ganger("tasks", "--type", "echo").stdout
    assert task_id in text
    assert name in text
    assert "other" not in text
    assert [task["id"] for task in document(ganger("tasks", "--priority", "high", "--json"))] == [task_id]
    assert document(ganger("tasks", "--name", "nobody", "--json")) == []
    assert "no task matches" in ganger("tasks", "--name", "nobody").stderr


def test_tasks_are_waited_for_and_deleted(ganger):
    ids = [ganger("submit", "echo").stdout.strip() for _ in range(2)]
    late = ganger("wait", *ids, "--timeout", "0.05")
    assert late.exit_code == Exit.WAITED
    assert late.stdout == f"{ids[0]} QUEUED\n{ids[1]} QUEUED\n"
    ganger("cancel", ids[0])
    deleted = ganger("delete", *ids)
    assert deleted.exit_code == Exit.FAILED
    assert deleted.stdout == "1 task deleted\n"
    assert deleted.stderr.startswith("1 task not deleted: not ended yet (ganger cancel ID)")
    assert ganger("status", ids[0]).exit_code == Exit.FAILED
    ganger("cancel", ids[1])
    ended = ganger("wait", ids[1], "--json")
    assert ended.exit_code == Exit.FAILED
    assert document(ended)[0]["status"] == "CANCELLED"
    assert document(ganger("delete", ids[1], "--json")) == {"deleted": 1}
    assert NOBODY in one_line(ganger("wait", NOBODY))


# -- queues --------------------------------------------------------------------------------------------------------


def test_queues_are_listed_paused_resumed_and_purged(ganger):
    for priority in ("low", "high", "high"):
        ganger("submit", "echo", "--queue", "images", "--priority", priority)
    for command in (["queues"], ["queues", "list"]):
        assert document(ganger(*command, "--json"))[0]["queued"] == {"URGENT": 0, "HIGH": 2, "NORMAL": 0, "LOW": 1}
    assert document(ganger("queues", "pause", "images", "--json")) == {"queue": "images", "paused": True}
    assert "paused" in ganger("queues").stdout
    assert ganger("queues", "resume", "images").stdout == "images is open\n"
    assert document(ganger("queues", "purge", "images", "--yes", "--json")) == {"queue": "images", "purged": 3}
    assert document(ganger("tasks", "--status", "CANCELLED", "--json"))


def test_purging_asks_first(ganger):
    ganger("submit", "echo", "--queue", "images")
    for answer in ("n\n", ""):
        refused = ganger("queues", "purge", "images", input=answer)
        assert refused.exit_code == Exit.USAGE
        assert "nothing was purged" in refused.stderr
    asked = ganger("queues", "purge", "images", input="y\n")
    assert "Cancel the task that waits in images?" in asked.stderr
    assert asked.stdout.endswith("1 task of images cancelled\n")
    nothing = ganger("queues", "purge", "images")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (Exit.OK, "0 tasks of images cancelled\n", "")


def test_pausing_a_queue_that_nobody_knows_says_so(ganger):
    ganger("submit", "echo", "--queue", "images")
    paused = ganger("queues", "pause", "image")
    assert paused.stdout == "image is paused\n"
    assert paused.stderr == "there are no tasks in image yet; did you mean 'images'?\n"
    assert ganger("queues", "pause", "images").stderr == ""


# -- the engine, without one ---------------------------------------------------------------------------------------


def test_without_a_pool_the_views_say_so(ganger):
    assert document(ganger("workers", "--json")) == []
    assert document(ganger("tree", "--json")) == []
    assert "no pool is running" in ganger("workers").stderr
    assert "no engine is running" in ganger("tree").stderr
    ganger("submit", "echo", "--priority", "urgent")
    seen = document(ganger("top", "--json"))
    assert seen["queues"][0]["queued"]["URGENT"] == 1
    assert seen["counters"]["submitted"] == 1
    assert seen["statuses"]["QUEUED"] == 1
    assert "submitted 1" in ganger("top", "--once").stdout
