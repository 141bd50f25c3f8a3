"""What may be the name of a queue, and which name was probably meant."""

import pytest

from engine.core.task.names import check_queue_name, did_you_mean, is_queue_name, nearest
from engine.errors import InvalidOption


@pytest.mark.parametrize("name", ["a", "A-Z_0.9", "x" * 64])
def test_a_queue_name_is_returned_as_it_is(name):
    assert check_queue_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a,b", "a:b", "*", "ü", "a\n", None, 3, b"a", ["a"]])
def test_anything_else_is_refused_with_value_type_and_limit(name):
    assert not is_queue_name(name)
    with pytest.raises(InvalidOption, match="1 to 64 of the characters") as caught:
        check_queue_name(name, "queue")
    assert caught.value.field == "queue"
    assert type(name).__name__ in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(("typed", "meant"), [
    ("thumbnial", "thumbnail"), ("THUMBNAIL", "thumbnail"), ("thumb", "thumbnail"), ("zzz", None), ("", None),
])
def test_the_nearest_name(typed, meant):
    assert nearest(typed, ["thumbnail", "digest"]) == meant


def test_the_end_of_a_message():
    assert did_you_mean("digets", ["digest"]) == "; did you mean 'digest'?"
    assert did_you_mean("zzz", ["digest"]) == ""
