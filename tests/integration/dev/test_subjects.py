"""`./dev subjects`, which `./dev lint` calls: the subjects of new commits are short and in the imperative."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
AUTHOR = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Repository:
    """A repository with `./dev` and two commits on main, and a branch beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "dev", folder / "dev")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("add", "dev")
        self.commit("an old subject, from before there was a rule.")
        self.commit("Begin")
        self.git("checkout", "--quiet", "-b", "feature")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, env=self.environment(), check=True, capture_output=True)

    def commit(self, subject: str) -> None:
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)

    def subjects(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "dev", "subjects"], cwd=self.folder, env=self.environment(**variables),
                              check=False, capture_output=True, text=True)

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "BASE" and not name.startswith("GIT_")}
        return {**kept, **AUTHOR, "GIT_CONFIG_GLOBAL": os.devnull, **variables}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize("subject", [
    "Add the flag --wait", "Feed the pool from two queues", "Keep " + "a" * 67, "Revert 'added by mistake.'"])
def test_a_good_subject_passes(repository: Repository, subject: str) -> None:
    repository.commit(subject)
    done = repository.subjects()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("subject", "told"), [
    ("Keep " + "a" * 68, "73 characters, 72 at most"),
    ("Added the flag --wait", "not an imperative"),
    ("Adding the flag --wait", "not an imperative"),
    ("add the flag --wait", "not an imperative"),
    ("Add the flag --wait.", "without a full stop"),
])
def test_a_bad_subject_is_named(repository: Repository, subject: str, told: str) -> None:
    repository.commit(subject)
    repository.commit("Add one more")
    done = repository.subjects()
    assert done.returncode == 1
    assert told in done.stderr
    assert subject in done.stderr
    assert "Add one more" not in done.stderr


def test_only_the_commits_since_the_merge_base_count(repository: Repository) -> None:
    repository.commit("Add the flag --wait")
    assert repository.subjects().returncode == 0
    first = subprocess.run(["git", "rev-list", "--max-parents=0", "HEAD"], cwd=repository.folder, capture_output=True,
                           text=True, check=True).stdout.strip()
    repository.git("checkout", "--quiet", "main")
    repository.commit("wrong on main.")
    assert "wrong on main" in repository.subjects(BASE=first).stderr
    assert "Begin" not in repository.subjects(BASE=first).stderr


def test_on_the_branch_itself_the_newest_commit_counts(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "main")
    assert repository.subjects().returncode == 0
    repository.commit("wrong.")
    assert repository.subjects().returncode == 1


def test_a_base_that_is_no_commit_is_an_error(repository: Repository) -> None:
    done = repository.subjects(BASE="nowhere")
    assert done.returncode == 1
    assert done.stderr == "dev: BASE names 'nowhere', which is no commit that HEAD descends from\n"
