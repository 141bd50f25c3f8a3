"""Thumbnails and filters of images, with Pillow: `pip install 'ganger[images]'`.

What these handlers show: defaults beside the handler (queue, priority,
timeout), and a library that is imported once, in the fork server, and shared
by all workers.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from engine import Context, handler

try:
    from PIL import Image, ImageFilter, ImageOps
except ImportError as error:
    raise ImportError("ganger_handlers.images needs Pillow: pip install 'ganger[images]'") from error

FILTERS: dict[str, type[ImageFilter.Filter]] = {
    "blur": ImageFilter.GaussianBlur,
    "contour": ImageFilter.CONTOUR,
    "edges": ImageFilter.FIND_EDGES,
    "emboss": ImageFilter.EMBOSS,
    "sharpen": ImageFilter.UnsharpMask,
}
SIDE_MAX = 10_000


class ThumbnailRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    output: Path
    width: int = Field(default=256, ge=1, le=SIDE_MAX)
    height: int = Field(default=256, ge=1, le=SIDE_MAX)
    crop: bool = False  # fill the whole rectangle instead of fitting into it


class FilterRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    output: Path
    filter: Literal["blur", "contour", "edges", "emboss", "sharpen"]
    passes: int = Field(default=1, ge=1, le=100)


@handler("thumbnail", queue="images", timeout=60, no_retry_on=(OSError, Image.DecompressionBombError))
def thumbnail(request: ThumbnailRequest) -> dict[str, object]:
    """Write a small copy of the image `path` to `output`, whose ending says the format; return its size in pixels."""
    size = (request.width, request.height)
    with Image.open(request.path) as original:
        upright = ImageOps.exif_transpose(original)
        small = ImageOps.fit(upright, size) if request.crop else ImageOps.contain(upright, size)
        _save(small, request.output)
        return {"path": str(request.path), "output": str(request.output), "width": small.width,
                "height": small.height, "original_width": original.width, "original_height": original.height}


@handler("filter_image", queue="images", timeout=120, no_retry_on=(OSError, Image.DecompressionBombError))
def filter_image(request: FilterRequest, ctx: Context) -> dict[str, object]:
    """Put the image `path` through a filter, `passes` times, and write it to `output`."""
    with Image.open(request.path) as original:
        image = original.convert("RGB")
    for number in range(1, request.passes + 1):
        image = image.filter(FILTERS[request.filter]())
        ctx.progress(number / request.passes, f"pass {number} of {request.passes}")
    _save(image, request.output)
    return {"path": str(request.path), "output": str(request.output), "width": image.width, "height": image.height}


def _save(image: Image.Image, output: Path) -> None:
    """Write under another name first, so that nobody ever reads half an image."""
    temporary = output.with_name(f".{output.stem}.part{output.suffix}")
    try:
        image.save(temporary)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
