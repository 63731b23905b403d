"""From a user's picture to the model's 8x8 tile: the reference for the service's Rust code.

Every step is one the host offers (to gray, crop, pad, resize with the bilinear filter, which widens with the reduction
as in Pillow and in the `image` and `fast_image_resize` crates) or a short loop over gray pixels. The model is trained
through this very function: change it and train again. Accuracy over the held-out digits, drawn and sent through it:
see `train.py`.
"""

import numpy as np
from PIL import Image

TILE = 8
# A pixel is ink when it stands out from the paper by this part of the darkest ink's distance.
INK = 0.30
# The least distance between paper and darkest ink, of 255, that counts as a digit at all.
FAINTEST = 16


def preprocess(picture):
    """[8,8] float32, ink 1 and paper 0, or None where nothing stands out from the paper."""
    gray = np.asarray(picture.convert("L"))
    # 1. The paper's brightness is the median of the outermost pixels; ink is what differs from it, darker or brighter.
    border = np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])
    paper = int(np.sort(border)[len(border) // 2])
    ink = np.abs(gray.astype(np.int16) - paper).astype(np.uint8)
    strongest = int(ink.max())
    if strongest < FAINTEST:
        return None
    # 2. The box around everything that is clearly ink.
    rows, columns = np.where((ink >= INK * strongest).any(1))[0], np.where((ink >= INK * strongest).any(0))[0]
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    # 3. Crop it and pad it with paper to a square, the digit in the middle: the tiles learnt from are as tight, their
    #    digits fill the height and keep their own width.
    side = max(right - left, bottom - top)
    x, y = (side - (right - left)) // 2, (side - (bottom - top)) // 2
    square = np.zeros((side, side), np.uint8)
    square[y : y + bottom - top, x : x + right - left] = ink[top:bottom, left:right]
    # 4. Reduce, and stretch so that the paper is 0 and the strongest ink is 1.
    tile = np.asarray(Image.fromarray(square).resize((TILE, TILE), Image.BILINEAR)).astype(np.float32)
    return tile / max(1.0, tile.max())
