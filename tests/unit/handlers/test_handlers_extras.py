"""The handlers that need an extra; skipped where it is not installed."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.handlers.recording_context import Ctx


class TestImages:
    @pytest.fixture
    def images(self) -> Any:
        pytest.importorskip("PIL")
        from ganger_handlers import images

        return images

    @pytest.fixture
    def picture(self, images: Any, tmp_path: Path) -> Path:
        path = tmp_path / "picture.png"
        images.Image.linear_gradient("L").resize((400, 200)).save(path)
        return path

    def test_a_thumbnail_fits(self, images: Any, picture: Path) -> None:
        output = picture.with_name("small.jpg")
        report = images.thumbnail(images.ThumbnailRequest(path=picture, output=output, width=100, height=100))
        assert (report["width"], report["height"], report["original_width"]) == (100, 50, 400)
        with images.Image.open(output) as small:
            assert (small.size, small.format) == ((100, 50), "JPEG")

    def test_a_cropped_one_fills(self, images: Any, picture: Path) -> None:
        output = picture.with_name("small.png")
        request = images.ThumbnailRequest(path=picture, output=output, width=64, height=64, crop=True)
        assert images.thumbnail(request)["width"] == images.thumbnail(request)["height"] == 64

    @pytest.mark.parametrize("name", ["blur", "contour", "edges", "emboss", "sharpen"])
    def test_filters(self, images: Any, picture: Path, name: str) -> None:
        ctx, output = Ctx(), picture.with_name("filtered.png")
        images.filter_image(images.FilterRequest(path=picture, output=output, filter=name, passes=2), ctx)
        assert [fraction for fraction, _ in ctx.reports] == [0.5, 1.0]
        assert sorted(path.name for path in picture.parent.iterdir()) == ["filtered.png", "picture.png"]

    def test_what_is_no_image_is_not_retried(self, images: Any, tmp_path: Path) -> None:
        path = tmp_path / "text.png"
        path.write_text("not an image")
        with pytest.raises(OSError) as caught:  # noqa: PT011  the next line says the rest
            images.thumbnail(images.ThumbnailRequest(path=path, output=tmp_path / "out.png"))
        assert not images.thumbnail.spec.may_retry(caught.value)
        assert list(tmp_path.iterdir()) == [path]

    def test_half_an_image_is_never_left(self, images: Any, picture: Path) -> None:
        output = picture.with_name("small.nonsense")
        with pytest.raises(ValueError, match="unknown file extension"):
            images.thumbnail(images.ThumbnailRequest(path=picture, output=output))
        assert list(picture.parent.iterdir()) == [picture]


class TestNumeric:
    @pytest.fixture
    def numeric(self) -> Any:
        pytest.importorskip("numpy")
        from ganger_handlers import numeric

        return numeric

    def test_eigenvalues_of_a_given_matrix(self, numeric: Any) -> None:
        report = numeric.eigenvalues(numeric.EigenvaluesRequest(matrix=[[2, 1], [1, 2]], largest=1))
        assert report == {"size": 2, "largest": [pytest.approx(3)], "trace": pytest.approx(4)}

    def test_eigenvalues_of_a_random_one(self, numeric: Any) -> None:
        report = numeric.eigenvalues(numeric.EigenvaluesRequest(size=20, largest=3))
        assert report == numeric.eigenvalues(numeric.EigenvaluesRequest(size=20, largest=3))
        assert [abs(value) for value in report["largest"]] == sorted(map(abs, report["largest"]), reverse=True)

    @pytest.mark.parametrize("matrix", [[[1, 2], [3, 4]], [[1, 2]], [[1], [1, 2]]])
    def test_a_wrong_matrix(self, numeric: Any, matrix: list[list[float]]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  numpy words one of them
            numeric.eigenvalues(numeric.EigenvaluesRequest(matrix=matrix))

    def test_a_price_is_near_the_exact_one(self, numeric: Any) -> None:
        ctx = Ctx()
        report = numeric.price_option(numeric.OptionRequest(samples=1_500_000, seed=7), ctx)
        assert abs(report["price"] - report["black_scholes"]) < 4 * report["standard_error"]
        assert report["black_scholes"] == pytest.approx(7.1281, abs=1e-3)
        assert [fraction for fraction, _ in ctx.reports] == [pytest.approx(2 / 3), 1.0]
