"""Crops of drawn faces, cut out as a detector gives them: the boxes are a little off.

The faces are those of `examples/facedetection/train/scenes.py`, masked or not; the same seed gives the same crops.
"""

import multiprocessing
import pathlib
import sys

import numpy as np
from PIL import Image

FACES = pathlib.Path(__file__).parent.parent.parent / "facedetection" / "train"
sys.path.append(str(FACES))

from scenes import scene  # noqa: E402  (it lies beside the other example)

# The model's input; crops are squeezed to it, whatever their proportions.
SIDE = 32
# How far each edge of a box may be from where it belongs, as a part of the box: a detector's boxes overlap the
# truth by 0.75 and more, and people cut out a face with a margin.
INWARDS, OUTWARDS = 0.10, 0.22
SCENE_WIDTHS = (200, 320, 480)


def jittered(rng, box, width, height):
    """A box like `box`, within the picture, in whole pixels; as wide and as tall as a pixel at least."""
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    left, top, right, bottom = rng.uniform(-INWARDS, OUTWARDS, 4)
    x1, x2 = max(0, round(x1 - left * w)), min(width, round(x2 + right * w))
    y1, y2 = max(0, round(y1 - top * h)), min(height, round(y2 + bottom * h))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def crops_of(seed):
    """The faces of one scene: (crop, mask) pairs."""
    rng = np.random.default_rng(seed)
    width = int(rng.choice(SCENE_WIDTHS))
    picture, faces = scene(rng, width, width * 3 // 4, larger=1 if width > 320 else 2)
    return [(picture.crop(jittered(rng, f["box"], *picture.size)), f["mask"]) for f in faces]


def squeezed(crop):
    return np.asarray(crop.resize((SIDE, SIDE), Image.BILINEAR)).transpose(2, 0, 1)


def sample(seed):
    return [(squeezed(crop), mask) for crop, mask in crops_of(seed)]


def samples(first_seed, scenes, processes):
    """All crops of so many scenes: pixels [N,3,32,32] and whether there is a mask [N]."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        drawn = pool.map(sample, range(first_seed, first_seed + scenes), chunksize=50)
    pairs = [pair for faces in drawn for pair in faces]
    return np.stack([pixels for pixels, _ in pairs]), np.array([mask for _, mask in pairs])
