"""Trains the handwritten digit classifier on scikit-learn's bundled digits and writes ../models/digits.onnx.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python train.py

    input   image          fp32 [N,1,8,8]  ink 1, paper 0
    output  probabilities  fp32 [N,10]

A quarter of the 1 797 digits (stratified, fixed seed) is held out. The rest is learnt three ways: as it is, shifted
by a pixel, and as `preprocess` gives it back after a user might have drawn it: enlarged, slanted, turned, with a
thinner or thicker pen, on paper. Two accuracies over the held-out digits are measured on the written file with ONNX
Runtime, and both must reach 0.97: `tiles` (the 8x8 pictures straight into the model) and `drawn` (each enlarged, dark
on white, with random margins, through `preprocess`). Also writes ../testdata: the held-out digits as one sheet, and two
pictures as a user would have them.

Accuracy: tiles 0.9933, drawn 0.9978. The digits were written by the same people as those learnt from; printed ones
(a font's narrow 1, 6 and 9) are often misread.
"""

import json
import os
import pathlib
import sys
import time
import warnings

# One thread: the layers are so small that more of them only wait for one another.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from preprocess import TILE, preprocess

SEED = 0
HELD_OUT = 0.25
LAYERS, DECAY, EPOCHS = (128, 64), 1e-3, 60
# Drawn copies of each training digit.
COPIES = 8
LEAST_ACCURACY = 0.97
SHEET_COLUMNS = 25
EXAMPLE = pathlib.Path(__file__).parent.parent


def enlarged(tile, width, height, filter=Image.BICUBIC):
    """The tile (0..1) as a width by height picture, ink bright."""
    return Image.fromarray((tile * 255).round().astype(np.uint8)).resize((width, height), filter)


def on_paper(picture, left, top, right, bottom):
    """Bright ink on black to dark ink on white, with margins."""
    width, height = picture.size
    sheet = Image.new("L", (left + width + right, top + height + bottom), 255)
    sheet.paste(picture.point(lambda v: 255 - v), (left, top))
    return sheet


def drawn(rng, tile, vary):
    """The tile as a user might send it. `vary`: with another pen, slant and proportions, for training."""
    side = int(rng.integers(64, 161))
    width = height = side
    if vary:
        width = int(side * rng.uniform(0.8, 1.2))
    filter = [Image.BILINEAR, Image.BICUBIC, Image.LANCZOS][rng.integers(3)]
    picture = enlarged(tile, width, height, filter)
    if vary:
        slant, turn = rng.uniform(-0.2, 0.2), rng.uniform(-8, 8)
        picture = on_paper(picture, *[side // 4] * 4).point(lambda v: 255 - v)
        w, h = picture.size
        picture = picture.transform((w, h), Image.AFFINE, (1, slant, -slant * h / 2, 0, 1, 0), Image.BILINEAR).rotate(
            turn, Image.BILINEAR
        )
        if rng.random() < 0.6:  # a pen: hard edges, thinner or thicker
            edge, soft = rng.uniform(70, 190), rng.uniform(8, 60)
            pixels = np.asarray(picture).astype(np.float32)
            picture = Image.fromarray((np.clip((pixels - edge) / soft + 0.5, 0, 1) * 255).astype(np.uint8))
    return on_paper(picture, *(int(v) for v in rng.integers(2, side // 2, 4)))


def shifts(tiles):
    """Each tile moved one pixel in four directions, paper coming in."""
    moved = []
    for rows, columns in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        padded = np.pad(tiles, ((0, 0), (1, 1), (1, 1)))
        moved.append(padded[:, 1 - rows : 1 - rows + TILE, 1 - columns : 1 - columns + TILE])
    return np.concatenate(moved)


def learn(tiles, labels):
    rng = np.random.default_rng(SEED)
    inputs, answers = [tiles, shifts(tiles)], [labels, np.tile(labels, 4)]
    for _ in range(COPIES):
        for tile, label in zip(tiles, labels):
            seen = preprocess(drawn(rng, tile, vary=True))
            if seen is not None:
                inputs.append(seen[None])
                answers.append([label])
    inputs, answers = np.concatenate(inputs), np.concatenate(answers)
    network = MLPClassifier(
        LAYERS,
        alpha=DECAY,
        max_iter=EPOCHS,
        batch_size=128,
        learning_rate_init=2e-3,
        n_iter_no_change=EPOCHS,
        random_state=SEED,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is chosen, not reached
    return network.fit(inputs.reshape(len(inputs), -1), answers)


def export(network, path):
    """The layers as an ONNX graph; flattening is part of it."""
    nodes, constants, x = [helper.make_node("Flatten", ["image"], ["flat"], axis=1)], [], "flat"
    last = len(network.coefs_) - 1
    for n, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_)):
        constants += [
            numpy_helper.from_array(weight.astype(np.float32), f"weight{n}"),
            numpy_helper.from_array(bias.astype(np.float32), f"bias{n}"),
        ]
        nodes.append(helper.make_node("Gemm", [x, f"weight{n}", f"bias{n}"], [f"layer{n}"]))
        if n < last:
            nodes.append(helper.make_node("Relu", [f"layer{n}"], [f"relu{n}"]))
            x = f"relu{n}"
    nodes.append(helper.make_node("Softmax", [f"layer{last}"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, TILE, TILE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="wharf")
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)


def write_sheet(tiles, labels, folder):
    """All held-out digits in rows of SHEET_COLUMNS tiles, ink bright; unused tiles at the end stay black."""
    rows = -(-len(tiles) // SHEET_COLUMNS)
    sheet = np.zeros((rows * TILE, SHEET_COLUMNS * TILE), np.uint8)
    for n, tile in enumerate(tiles):
        y, x = n // SHEET_COLUMNS * TILE, n % SHEET_COLUMNS * TILE
        sheet[y : y + TILE, x : x + TILE] = (tile * 255).round()
    Image.fromarray(sheet).save(folder / "heldout.png", optimize=True)
    (folder / "heldout.json").write_text(
        json.dumps({"tile": TILE, "columns": SHEET_COLUMNS, "labels": [int(v) for v in labels]}) + "\n"
    )


def penned(tile, width, height, margins):
    """The tile as if written with a dark pen on white paper: enlarged smoothly and its edges made crisp."""
    room = np.pad(tile, 1)  # so that strokes at the tile's edge get round ends
    picture = enlarged(room, width, height)
    pixels = np.clip((np.asarray(picture).astype(np.float32) - 110) / 50 + 0.5, 0, 1)
    ink = Image.fromarray((pixels * 215).astype(np.uint8))
    return on_paper(ink, *margins).point(lambda v: v - 6)


def write_pictures(classify, tiles, labels, folder):
    """seven.png and three.jpg: held-out digits, by their place on the sheet, that a person reads at a glance too."""
    for place, digit, name, box, margins in (
        (138, 7, "seven.png", (140, 180), (36, 28, 24, 32)),
        (193, 3, "three.jpg", (46, 46), (9, 10, 9, 8)),
    ):
        if labels[place] != digit:
            sys.exit(f"held-out digit {place} is a {labels[place]}, not a {digit}: the split has changed")
        penned(tiles[place], *box, margins).save(folder / name, quality=92, optimize=True)
        probability = classify(preprocess(Image.open(folder / name))[None])[0, digit]
        print(f"{name}: {digit} with probability {probability:.4f}")
        if probability < 0.9:
            sys.exit(f"{name} is not read with confidence")


def main():
    started = time.time()
    digits = load_digits()
    tiles, labels = (digits.images / 16).astype(np.float32), digits.target
    seen, held_out, seen_labels, truth = train_test_split(
        tiles, labels, test_size=HELD_OUT, stratify=labels, random_state=SEED
    )
    path, testdata = EXAMPLE / "models" / "digits.onnx", EXAMPLE / "testdata"
    export(learn(seen, seen_labels), path)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    classify = lambda batch: session.run(["probabilities"], {"image": batch[:, None].astype(np.float32)})[0]
    rng = np.random.default_rng(SEED + 1)
    sent = np.stack([preprocess(drawn(rng, tile, vary=False)) for tile in held_out])
    print(f"{path.name}: {path.stat().st_size} bytes, {time.time() - started:.0f} s")
    failed = False
    for name, batch in (("tiles", held_out), ("drawn", sent)):
        accuracy = float((classify(batch).argmax(1) == truth).mean())
        print(f"held-out accuracy, {name}: {accuracy:.4f} of {len(truth)}")
        failed |= accuracy < LEAST_ACCURACY
    testdata.mkdir(exist_ok=True)
    write_sheet(held_out, truth, testdata)
    write_pictures(classify, held_out, truth, testdata)
    if failed:
        sys.exit(f"accuracy below {LEAST_ACCURACY}")


if __name__ == "__main__":
    main()
