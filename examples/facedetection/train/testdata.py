"""Writes ../testdata: held-out scenes with their truth, from seeds that training never draws. Run `train.py` first.

    venv/bin/python testdata.py

    people.jpg, scene*.jpg, truth.json   12 pictures of mixed sizes, each drawn in its own size
    heldout/*.jpg, heldout/truth.json    60 small ones, for a test that computes AP@0.5 through the service

Fails unless the model reaches AP@0.5 0.90 on the small ones as they are on disk, JPEG losses included.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime
from PIL import Image

from average_precision import average_precision, detections
from scenes import scene
from train import HEIGHT, LEAST_AP, MODEL, WIDTH, normalised

SEED = 950_001
SIZES = [(640, 480), (320, 240), (800, 600), (480, 480), (400, 300), (720, 480)]
SMALL_SIZE, SMALL_COUNT, SMALL_BYTES = (200, 150), 60, 6000
TESTDATA = pathlib.Path(__file__).parent.parent / "testdata"


def save(picture, path, limit=None):
    """As JPEG, of the best quality that stays within `limit` bytes."""
    for quality in (85, 75, 65, 55, 45, 35):
        picture.save(path, quality=quality, optimize=True)
        if limit is None or path.stat().st_size <= limit:
            return
    sys.exit(f"{path.name} does not fit in {limit} bytes")


def entry(path, picture, faces):
    return {"file": path.name, "width": picture.width, "height": picture.height, "faces": faces}


def write_truth(folder, entries):
    lines = ",\n".join("  " + json.dumps(e) for e in entries)
    (folder / "truth.json").write_text("[\n" + lines + "\n]\n")


def written(folder, pictures, limit=None):
    """Saves (name, picture, faces) triples and their truth."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, picture, faces in pictures:
        save(picture, folder / name, limit)
        entries.append(entry(folder / name, picture, faces))
    write_truth(folder, entries)
    return entries


def people(seed):
    """The picture for the README: the first scene from `seed` on with four large enough faces, one of them masked."""
    while True:
        picture, faces = scene(np.random.default_rng(seed), 640, 480, count=4)
        large = all(f["box"][2] - f["box"][0] >= 70 for f in faces)
        if len(faces) == 4 and large and sum(f["mask"] for f in faces) == 1:
            return picture, faces
        seed += 1


def found(session, path):
    """The detector's answer to a file: (score, box in pixels) pairs."""
    picture = Image.open(path).convert("RGB")
    pixels = np.asarray(picture.resize((WIDTH, HEIGHT), Image.BILINEAR)).transpose(2, 0, 1)
    scores, boxes = session.run(["scores", "boxes"], {"input": normalised(pixels)[None]})
    return detections(scores[0], boxes[0] * np.array([picture.width, picture.height] * 2, np.float32))


def score(session, folder, entries):
    answers = [found(session, folder / e["file"]) for e in entries]
    return average_precision(answers, [[f["box"] for f in e["faces"]] for e in entries])


def main():
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    large = [("people.jpg", *people(SEED))]
    for n in range(11):
        large.append((f"scene{n + 1:02}.jpg", *scene(np.random.default_rng(SEED + 500 + n), *SIZES[n % len(SIZES)])))
    small = [(f"{n:02}.jpg", *scene(np.random.default_rng(SEED + 1000 + n), *SMALL_SIZE)) for n in range(SMALL_COUNT)]
    for folder, pictures, limit in ((TESTDATA, large, None), (TESTDATA / "heldout", small, SMALL_BYTES)):
        entries = written(folder, pictures, limit)
        total = sum((folder / e["file"]).stat().st_size for e in entries)
        reached = score(session, folder, entries)
        faces = sum(len(e["faces"]) for e in entries)
        print(f"{folder.name}: {len(entries)} pictures, {faces} faces, {total} bytes, AP@0.5 {reached:.4f}")
    if reached < LEAST_AP:
        sys.exit(f"AP@0.5 {reached:.4f} is below {LEAST_AP}")


if __name__ == "__main__":
    main()
