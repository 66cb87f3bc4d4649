import subprocess
import sys

import pytest

from common.codec import LUMA_WEIGHTS, luma_weights
from sink.palette import RGB, Palette, to_yuv

#: The textbook's decoders: R = Y + a·V, G = Y − b·U − c·V, B = Y + d·U, with Y 0…1 and U, V −0.5…0.5.
DECODERS = {
    1: (1.5748, 0.1873, 0.4681, 1.8556),
    5: (1.402, 0.344136, 0.714136, 1.772),
    6: (1.402, 0.344136, 0.714136, 1.772),
    9: (1.4746, 0.16455, 0.57135, 1.8814),
}


def decode(yuv, matrix, full):
    a, b, c, d = DECODERS[matrix]
    y = yuv[0] / 255 if full else (yuv[0] - 16) / 219
    u, v = ((p - 128) / (255 if full else 224) for p in yuv[1:])
    return [255 * c for c in (y + a * v, y - b * u - c * v, y + d * u)]


@pytest.mark.parametrize("matrix", DECODERS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rgb", [*RGB, (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)])
def test_colours_survive_the_way_to_yuv_and_back(matrix, full, rgb):
    yuv = to_yuv(rgb, *LUMA_WEIGHTS[matrix], full)
    assert all(0 <= p <= 255 for p in yuv)
    assert decode(yuv, matrix, full) == pytest.approx(rgb, abs=2.5)


@pytest.mark.parametrize(
    ("matrix", "height", "taken"), [(2, 719, 6), (2, 720, 1), (0, 480, 6), (14, 2160, 1), (5, 2160, 5), (9, 240, 9)]
)
def test_an_unspecified_matrix_is_guessed_from_the_height(matrix, height, taken):
    assert luma_weights(matrix, height) == LUMA_WEIGHTS[taken]


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_text_contrasts_with_every_colour(color_range, matrix):
    palette = Palette(color_range, matrix, 1080)
    black, white = (0, 255) if color_range == 2 else (16, 235)
    for colour in palette.colours:
        assert colour.ramp[0] == colour.y
        assert colour.ramp[255] in (black, white)
        assert abs(int(colour.ramp[255]) - colour.y) >= 0.5 * (white - black) - 1
    assert len({c[:3] for c in palette.colours}) == len(RGB)


def test_a_label_has_one_colour_in_every_process():
    labels = ["person", "car", "dog", "人", "x" * 256, "\ud800"]
    ours = [Palette(1, 1, 720).of(label)[:3] for label in labels]
    code = f"from sink.palette import Palette; print([Palette(1, 1, 720).of(n)[:3] for n in {labels!a}])"
    theirs = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True
    )
    assert theirs.stdout.strip() == str(ours)
    # crc32("person") % 16 is 6, for ever.
    assert ours[0] == to_yuv(RGB[6], *LUMA_WEIGHTS[1], False)
