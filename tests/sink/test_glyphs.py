import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sink.glyphs import MAX_MASKS, Glyphs, Hershey, TrueType, clean

FONTS = [Hershey, *([TrueType] if hasattr(cv2, "FontFace") else [])]


def rows_with_ink(mask):
    return np.flatnonzero((mask > 128).any(axis=1))


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("size", [11, 12, 18, 27, 54, 100])
def test_capitals_fill_most_of_the_size_and_tails_are_inside(font, size):
    glyphs = Glyphs(size, 100 * size, font(size))
    rows = rows_with_ink(glyphs.piece("HE0"))
    # OpenCV 5 stands a smaller TrueType letter in for the stroke font's.
    assert (0.45 if font is Hershey else 0.55) * size <= rows[-1] - rows[0] + 1 <= 0.9 * size
    assert glyphs.height % 2 == 0
    assert size <= glyphs.height <= 1.4 * size + 2
    tail = rows_with_ink(glyphs.piece("gjpqy"))
    assert rows[-1] < tail[-1] < glyphs.height


@pytest.mark.parametrize("font", FONTS)
def test_small_digits_differ(font):
    glyphs = Glyphs(11, 400, font(11))
    masks = [glyphs.piece(str(i)) for i in range(10)]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert a.shape != b.shape or np.abs(a.astype(int) - b).sum() > 255


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("room", [8, 30, 80, 200])
def test_long_text_is_cut_to_the_room_with_an_ellipsis(font, room):
    glyphs = Glyphs(16, room, font(16))
    long = glyphs.piece("a very long label that goes on")
    assert long.shape[1] <= room + 2
    if room >= 30:
        assert long.any()
        # The ellipsis is on the baseline: the last columns hold no ink above it.
        dots = long[: long.shape[0] // 2, -8:]
        assert not (dots > 128).any()
    assert glyphs.piece("i").shape[1] < 16


def test_text_longer_than_any_picture_is_cut():
    glyphs = Glyphs(12, 1_000_000)
    assert glyphs.piece("x" * 100_000).shape[1] < 2000


@pytest.mark.parametrize("font", FONTS)
@given(text=st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_text_crashes(font, text):
    mask = Glyphs(12, 200, font(12)).piece(text)
    assert mask.dtype == np.uint8
    assert mask.shape[0] == Glyphs(12, 200, font(12)).height
    assert 1 <= mask.shape[1] <= 202


def test_clean_leaves_no_surrogate_and_no_control_character():
    assert clean("a\nb\t\tc\x00\x07 \u202e") == "a b c"
    assert clean("\ud800") == "?"
    assert clean("人物 é") == "人物 é"


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has only ASCII letters")
def test_other_scripts_have_their_own_letters():
    glyphs = Glyphs(24, 400)
    question = glyphs.piece("??")
    for text in ("人物", "Жя", "Åß"):
        mask = glyphs.piece(text)
        assert mask.any()
        assert mask.shape != question.shape or (mask != question).any()


def test_masks_are_kept_in_bounded_number_and_cannot_be_written():
    glyphs = Glyphs(12, 200)
    assert glyphs.piece("dog") is glyphs.piece("dog")
    for i in range(MAX_MASKS + 50):
        glyphs.piece(f"#{i}")
    assert glyphs.piece.cache_info().currsize == MAX_MASKS
    with pytest.raises(ValueError):
        glyphs.piece("dog")[0, 0] = 1
