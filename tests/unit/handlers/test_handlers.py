"""The ready-made handlers, called as the plain functions that they are."""

import bz2
import hashlib
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ganger_handlers
import pytest
from ganger_handlers import compress, digest, pure_python, source, text
from pydantic import ValidationError

from engine import SoftTimeout
from tests.unit.handlers.recording_context import Ctx


def soft_timeout_at(number: int) -> Callable[[int], None]:
    def at_report(count: int) -> None:
        if count == number:
            raise SoftTimeout

    return at_report


@pytest.fixture
def ctx() -> Any:
    return Ctx()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.txt").write_text("The cat sat on the mat.\nThe end.\n")
    (tmp_path / "sub" / "two.txt").write_text("A cat, again: CAT!\n")
    (tmp_path / "sub" / "code.py").write_text("import os\n")
    return tmp_path


class TestCompress:
    @pytest.mark.parametrize(("method", "decompress"),
                             [("zlib", zlib.decompress), ("bz2", bz2.decompress), ("lzma", lzma.decompress)])
    def test_what_it_writes_can_be_read_back(self, tmp_path: Path, ctx: Any, method: Any,
                                             decompress: Callable[[bytes], bytes]) -> None:
        content = b"all work and no play " * 50_000
        path, output = tmp_path / "in", tmp_path / "out"
        path.write_bytes(content)
        report = compress.compress(compress.CompressRequest(path=path, method=method, output=output), ctx)
        assert decompress(output.read_bytes()) == content
        assert report["bytes_in"] == len(content)
        assert report["bytes_out"] == output.stat().st_size
        assert report["ratio"] == round(len(content) / output.stat().st_size, 3)
        assert ctx.reports[-1][0] == 1

    def test_an_empty_file(self, tmp_path: Path, ctx: Any) -> None:
        path = tmp_path / "empty"
        path.touch()
        report = compress.compress(compress.CompressRequest(path=path), ctx)
        assert (report["bytes_in"], report["output"]) == (0, None)

    def test_a_run_that_is_stopped_leaves_no_output(self, tmp_path: Path) -> None:
        path, output = tmp_path / "in", tmp_path / "out"
        path.write_bytes(bytes(3 * compress.CHUNK_BYTES))
        output.write_bytes(b"of an earlier run")
        ctx: Any = Ctx(at_report=soft_timeout_at(2))
        with pytest.raises(SoftTimeout):
            compress.compress(compress.CompressRequest(path=path, output=output), ctx)
        assert output.read_bytes() == b"of an earlier run"
        assert sorted(tmp_path.iterdir()) == [path, output]

    @pytest.mark.parametrize("wrong", [{"method": "zip"}, {"level": 0}, {"level": 10}, {"levle": 3}, {"path": 7}])
    def test_a_wrong_request_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            compress.CompressRequest(**{"path": "x", **wrong})


class TestDigest:
    def test_of_a_file(self, folder: Path, ctx: Any) -> None:
        path = folder / "one.txt"
        report = digest.digest(digest.DigestRequest(path=path, algorithm="blake2b"), ctx)
        assert report["digest"] == hashlib.blake2b(path.read_bytes()).hexdigest()
        assert (report["files"], report["bytes"]) == (1, path.stat().st_size)

    def test_of_a_folder_depends_on_names_and_content_only(self, folder: Path, tmp_path_factory: Any, ctx: Any) -> None:
        def digest_of(path: Path, pattern: str = "*") -> Any:
            return digest.digest(digest.DigestRequest(path=path, pattern=pattern), Ctx())  # type: ignore[arg-type]

        copy = tmp_path_factory.mktemp("copy")
        for path in sorted(folder.rglob("*.*"), reverse=True):
            (copy / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
        (copy / "link").symlink_to(copy / "one.txt")
        first = digest_of(folder)
        assert first["files"] == 3
        assert digest_of(copy)["digest"] == first["digest"]
        assert digest_of(folder, "*.txt")["files"] == 2
        (copy / "one.txt").rename(copy / "eins.txt")
        assert digest_of(copy)["digest"] != first["digest"]

    def test_a_missing_file(self, tmp_path: Path, ctx: Any) -> None:
        with pytest.raises(FileNotFoundError):
            digest.digest(digest.DigestRequest(path=tmp_path / "no"), ctx)


class TestSource:
    CODE = '''\
import os
from . import near
from json import (dumps,  # a comment
                  loads)

class Thing:
    def method(self, items):  # more
        if self and items or os:
            return [item for item in items]
        for item in items:
            pass

async def short(): pass
'''

    def test_counts(self, tmp_path: Path, ctx: Any) -> None:
        path = tmp_path / "thing.py"
        path.write_text(self.CODE)
        report: Any = source.analyse_source(source.SourceRequest(path=path), ctx)
        assert report["lines"] == 13
        assert report["comment_lines"] == 2
        assert (report["classes"], report["functions"]) == (1, 2)
        assert report["longest"] == report["most_complex"] == {"name": "method", "line": 7, "lines": 5, "complexity": 6}
        assert report["imports"] == [".", "json", "os"]
        assert report["commonest_names"]["item"] == 3

    def test_a_file_without_functions(self, tmp_path: Path, ctx: Any) -> None:
        path = tmp_path / "empty.py"
        path.touch()
        report: Any = source.analyse_source(source.SourceRequest(path=path), ctx)
        assert report["longest"] is None
        assert report["functions"] == 0

    def test_what_is_not_python_is_not_retried(self, tmp_path: Path, ctx: Any) -> None:
        path = tmp_path / "broken.py"
        path.write_text("def (:\n")
        with pytest.raises(SyntaxError) as caught:
            source.analyse_source(source.SourceRequest(path=path), ctx)
        assert not source.analyse_source.spec.may_retry(caught.value)


class TestText:
    def test_search(self, folder: Path, ctx: Any) -> None:
        found = text.search_text({"root": str(folder), "pattern": "(?i)cat", "glob": "*.txt", "matches_max": 1}, ctx)
        assert (found["found"], found["files"], found["complete"]) == (2, 2, True)
        assert found["matches"] == [{"path": str(folder / "one.txt"), "line": 1, "text": "The cat sat on the mat."}]

    def test_search_returns_what_it_has_at_its_soft_timeout(self, folder: Path) -> None:
        ctx: Any = Ctx(at_report=soft_timeout_at(1))
        found = text.search_text({"root": str(folder), "pattern": "cat", "glob": "*.txt"}, ctx)
        assert (found["found"], found["files"], found["complete"]) == (1, 1, False)

    def test_word_statistics(self, folder: Path, ctx: Any) -> None:
        report = text.word_statistics({"root": str(folder), "top": 2}, ctx)
        assert report == {"files": 2, "words": 11, "different_words": 7, "commonest": {"the": 3, "cat": 3},
                          "longest": "again"}

    @pytest.mark.parametrize("payload", [{}, {"root": "/nowhere", "pattern": "x"}, {"root": ".", "pattern": "("}])
    def test_what_another_run_would_only_repeat_is_not_retried(self, payload: dict[str, Any], ctx: Any) -> None:
        with pytest.raises(Exception) as caught:  # noqa: PT011  which one is the next line's question
            text.search_text(payload, ctx)
        assert not text.search_text.spec.may_retry(caught.value)


class TestPurePython:
    @pytest.mark.parametrize(("below", "count", "last"),
                             [(2, 0, []), (3, 1, [2]), (4, 2, [3, 2]), (26, 9, [23, 19, 17, 13, 11]),
                              (1_000_000, 78_498, [999_983, 999_979, 999_961, 999_959, 999_953])])
    def test_primes(self, below: int, count: int, last: list[int]) -> None:
        assert pure_python.primes({"below": below}) == {"below": below, "count": count, "last": last}

    def test_primes_below_nothing(self) -> None:
        with pytest.raises(ValueError, match="below: 1 is not between"):
            pure_python.primes({"below": 1})

    def test_mandelbrot(self, ctx: Any) -> None:
        lines = pure_python.mandelbrot(pure_python.MandelbrotRequest(width=33, height=3), ctx)["lines"]
        assert [len(line) for line in lines] == [33, 33, 33]
        assert lines[1][20] == "@"
        assert lines[0][0] == " "


def test_every_module_is_named_in_the_table() -> None:
    folder = Path(ganger_handlers.__file__).parent
    for path in folder.glob("[a-z]*.py"):
        assert f"    {path.stem} " in (ganger_handlers.__doc__ or "")
