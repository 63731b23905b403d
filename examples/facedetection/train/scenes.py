"""Drawn scenes with faces in them, for training and testing the demonstration detector.

A scene is a background, some clutter (a part of it made to look a little like a face: bare heads, balls with dots,
clocks) and up to four drawn people: hair, ears, eyes, brows, nose, mouth, beards, glasses, hats, medical masks, each
tilted, shaded and now and then partly covered. Everything is drawn larger than asked for and reduced, so edges are
smooth.

A face's truth is the box around the oval of its head, hair and hat left out, clipped to the picture:
`{"box": [x1, y1, x2, y2], "mask": bool}` in pixels. A face of which more than half is hidden is none. The same
seed gives the same scenes.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Width of a face as a part of the picture's width: 14 to 80 pixels of the detector's 160.
SMALLEST, LARGEST = 14 / 160, 80 / 160
# The part of a face's oval that must show for it to count.
LEAST_SHOWN = 0.5
# Height of the oval over its width.
TALL = (1.15, 1.38)

SKIN = [(255, 224, 196), (241, 194, 165), (224, 172, 130), (198, 134, 92), (150, 98, 62), (110, 70, 45), (80, 50, 34)]
HAIR = [
    (28, 22, 20),
    (60, 40, 28),
    (106, 72, 40),
    (170, 120, 60),
    (214, 186, 120),
    (150, 60, 30),
    (150, 150, 150),
    (225, 225, 220),
]
IRIS = [(60, 40, 25), (40, 80, 130), (60, 110, 70), (30, 30, 30)]
MASK = [(150, 200, 225), (235, 240, 242), (30, 30, 34), (120, 180, 150), (240, 190, 200), (60, 80, 140)]


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def any_color(rng):
    """Any colour, the loud ones less often."""
    color, gray = rng.uniform(0, 255, 3), rng.uniform(0, 0.85)
    return tuple(int(v) for v in color * (1 - gray) + color.mean() * gray)


def shifted(rng, color, by):
    """`color` with every channel moved a little, and all of them together a little."""
    delta = rng.integers(-by, by + 1, 3) // 2 + rng.integers(-by, by + 1)
    return tuple(int(np.clip(c + d, 0, 255)) for c, d in zip(color, delta))


def toned(color, factor):
    return tuple(int(np.clip(c * factor, 0, 255)) for c in color)


def oval(draw, x, y, a, b, **style):
    """An ellipse around (x, y) with half axes a and b."""
    draw.ellipse((x - a, y - b, x + a, y + b), **style)


def background(rng, width, height):
    kind = rng.integers(4)
    if kind == 0:  # a wall with an even fall of light
        ends = np.array([any_color(rng), any_color(rng)], np.float32)
        angle = rng.uniform(0, 2 * math.pi)
        x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
        t = np.clip(x * math.cos(angle) + y * math.sin(angle) + 0.5, 0, 1)[..., None].astype(np.float32)
        return Image.fromarray((ends[0] * (1 - t) + ends[1] * t).astype(np.uint8))
    if kind == 1:  # soft blobs, a background out of focus
        rows, columns = int(rng.integers(2, 9)), int(rng.integers(2, 9))
        small = np.array([[any_color(rng) for _ in range(columns)] for _ in range(rows)], np.uint8)
        return Image.fromarray(small).resize((width, height), Image.BICUBIC)
    picture = Image.new("RGB", (width, height), any_color(rng))
    draw = ImageDraw.Draw(picture)
    if kind == 2:  # wall and floor
        draw.rectangle((0, int(height * rng.uniform(0.4, 0.9)), width, height), fill=any_color(rng))
    else:  # stripes
        step, color = int(rng.integers(max(4, width // 40), width // 5)), any_color(rng)
        for x in range(0, width + height, 2 * step):
            draw.line((x, 0, x - rng.integers(2) * height, height), fill=color, width=step // 2 + 1)
    return picture


def clutter(rng, draw, width, height):
    """Things that aren't faces; a third of them try to be mistaken for one."""
    for _ in range(int(rng.integers(2, 12))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        size = rng.uniform(0.03, 0.28) * width
        color = any_color(rng)
        kind = rng.integers(9)
        if kind < 2:
            draw.rectangle((x, y, x + size * rng.uniform(0.3, 2), y + size * rng.uniform(0.3, 2)), fill=color)
        elif kind == 2:
            oval(draw, x, y, size / 2, size * rng.uniform(0.2, 0.8), fill=color)
        elif kind == 3:
            draw.line(
                [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(4)],
                fill=color,
                width=int(size / 12) + 1,
            )
        elif kind == 4:
            draw.polygon([(x + rng.uniform(-size, size), y + rng.uniform(-size, size)) for _ in range(5)], fill=color)
        elif kind == 5:  # text-like marks
            for i in range(int(rng.integers(3, 9))):
                draw.rectangle((x + i * size / 5, y, x + i * size / 5 + size / 9, y + size / 5), fill=color)
        elif kind == 6:  # a head turned away: skin and hair, no features
            skin = shifted(rng, pick(rng, SKIN), 15)
            oval(draw, x, y, size / 2, size * 0.62, fill=skin)
            draw.chord((x - size / 2, y - size * 0.62, x + size / 2, y + size * 0.62), 150, 390, fill=pick(rng, HAIR))
        elif kind == 7:  # a ball, bowling or beach
            oval(draw, x, y, size / 2, size / 2, fill=color)
            for _ in range(int(rng.integers(1, 6))):
                oval(
                    draw,
                    x + rng.uniform(-0.3, 0.3) * size,
                    y + rng.uniform(-0.3, 0.3) * size,
                    size / 14,
                    size / 14,
                    fill=any_color(rng),
                )
        else:  # a clock
            oval(draw, x, y, size / 2, size / 2, fill=(240, 240, 235), outline=color, width=int(size / 16) + 1)
            for angle in rng.uniform(0, 2 * math.pi, 2):
                draw.line(
                    (x, y, x + size * 0.38 * math.cos(angle), y + size * 0.38 * math.sin(angle)),
                    fill=(20, 20, 20),
                    width=int(size / 20) + 1,
                )


def draw_hair(rng, draw, x, y, a, b, color):
    """What lies behind the face: short, long, or none."""
    kind = rng.integers(4)
    if kind == 0:
        return
    oval(draw, x, y - 0.18 * b, a * 1.13, b * 1.02, fill=color)
    if kind == 3:
        draw.rounded_rectangle(
            (x - a * 1.16, y - 0.3 * b, x + a * 1.16, y + b * rng.uniform(0.8, 1.4)), radius=a * 0.4, fill=color
        )


def draw_features(rng, draw, x, y, a, b, skin, hair):
    """Eyes, brows, nose, mouth, beard. `x`, `y` is the middle of the oval, moved a little for a turned head."""
    dark = toned(skin, rng.uniform(0.55, 0.8))
    apart, eye = a * rng.uniform(0.36, 0.46), a * rng.uniform(0.13, 0.2)
    level = y - b * rng.uniform(0.08, 0.24)
    iris, open_by = pick(rng, IRIS), rng.uniform(0.45, 0.8)
    closed = rng.random() < 0.1
    line = max(1, int(a * 0.06))
    for side in (-1, 1):
        ex = x + side * apart
        if closed:
            draw.arc((ex - eye, level - eye, ex + eye, level + eye), 20, 160, fill=toned(dark, 0.5), width=line)
        else:
            oval(
                draw,
                ex,
                level,
                eye,
                eye * open_by,
                fill=(245, 245, 245),
                outline=toned(dark, 0.6),
                width=max(1, line // 2),
            )
            oval(draw, ex, level, eye * 0.5, eye * 0.5 * max(open_by, 0.7), fill=iris)
        draw.line(
            (ex - eye * 1.2, level - eye * 1.3, ex + eye * 1.2, level - eye * rng.uniform(1.2, 1.7)),
            fill=toned(hair, 0.8),
            width=line + 1,
        )
    nose = y + b * rng.uniform(0.12, 0.24)
    draw.line([(x, level + eye), (x - a * 0.12, nose), (x + a * 0.08, nose)], fill=dark, width=line)
    if rng.random() < 0.15:  # beard
        draw.chord((x - a * 0.8, y - b * 0.3, x + a * 0.8, y + b * 0.97), 15, 165, fill=hair)
    mouth, wide = y + b * rng.uniform(0.42, 0.56), a * rng.uniform(0.25, 0.45)
    lips = shifted(rng, (170, 70, 70), 30)
    kind = rng.integers(3)
    if kind == 0:
        draw.arc((x - wide, mouth - b * 0.15, x + wide, mouth + b * 0.12), 15, 165, fill=lips, width=line + 1)
    elif kind == 1:
        oval(draw, x, mouth, wide, b * rng.uniform(0.05, 0.12), fill=lips)
    else:
        draw.chord(
            (x - wide, mouth - b * 0.16, x + wide, mouth + b * 0.16),
            0,
            180,
            fill=(245, 240, 235),
            outline=lips,
            width=line,
        )
    if rng.random() < 0.2:  # glasses
        tint = None if rng.random() < 0.6 else (20, 20, 25)
        rim = eye * rng.uniform(1.5, 1.9)
        for side in (-1, 1):
            oval(draw, x + side * apart, level, rim, rim * 0.85, fill=tint, outline=(25, 25, 30), width=line)
        draw.line((x - apart + rim, level, x + apart - rim, level), fill=(25, 25, 30), width=line)


def draw_mask(rng, draw, x, y, a, b):
    """A medical or cloth mask from the bridge of the nose to the chin, with its straps and folds."""
    color = shifted(rng, pick(rng, MASK), 12)
    top, wide = y + b * rng.uniform(0.02, 0.14), a * rng.uniform(0.72, 0.86)
    edge = max(1, int(a * 0.05))
    for side in (-1, 1):
        for start, end in ((0.1, -0.05), (0.5, 0.2)):
            draw.line(
                (x + side * wide * 0.95, y + b * start, x + side * a, y + b * end), fill=toned(color, 0.85), width=edge
            )
    outline = [
        (-wide, top + b * 0.08),
        (-a * 0.2, top),
        (a * 0.2, top),
        (wide, top + b * 0.08),
        (wide * 0.86, y + b * 0.62),
        (a * 0.3, y + b * 0.98),
        (-a * 0.3, y + b * 0.98),
        (-wide * 0.86, y + b * 0.62),
    ]
    draw.polygon([(x + dx, py) for dx, py in outline], fill=color, outline=toned(color, 0.75))
    for i in range(int(rng.integers(0, 4))):
        fold = top + b * (0.22 + 0.18 * i)
        draw.line((x - wide * 0.8, fold, x + wide * 0.8, fold), fill=toned(color, 0.84), width=edge)


def shade(rng, patch):
    """Light from one side."""
    width, height = patch.size
    slope = rng.uniform(-0.45, 0.45)
    light = np.clip(1 + slope * np.linspace(-1, 1, width), 0.4, 1.4)
    pixels = np.asarray(patch).astype(np.float32)
    pixels[..., :3] *= light[None, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGBA")


def draw_person(rng, picture, owner, number, x, y, a, b, masked):
    """One head with its shoulders, the oval's middle at (x, y); gives the box around the tilted oval.

    `owner` says for every pixel whose face shows there: `number` in this one's oval, 0 in the rest of the person.
    """
    half = int(max(a * 2.3, b * 2.0))
    patch = Image.new("RGBA", (2 * half, 2 * half), (0, 0, 0, 0))
    draw = ImageDraw.Draw(patch)
    skin, hair = shifted(rng, pick(rng, SKIN), 14), shifted(rng, pick(rng, HAIR), 14)
    c = float(half)
    draw_hair(rng, draw, c, c, a, b, hair)
    for side in (-1, 1):
        oval(draw, c + side * a, c, a * 0.16, b * 0.2, fill=toned(skin, 0.9))
    oval(draw, c, c, a, b, fill=skin, outline=toned(skin, 0.8), width=max(1, int(a * 0.03)))
    turned = rng.uniform(-0.16, 0.16) * a
    draw_features(rng, draw, c + turned, c, a, b, skin, hair)
    if masked:
        draw_mask(rng, draw, c + turned * 0.6, c, a, b)
    if rng.random() < 0.35:  # fringe
        draw.chord((c - a * 1.03, c - b * 1.03, c + a * 1.03, c + b * 0.55), 195, 345, fill=hair)
    if rng.random() < 0.12:  # hat
        color = any_color(rng)
        draw.rectangle((c - a * 0.85, c - b * 1.5, c + a * 0.85, c - b * 0.62), fill=color)
        draw.rectangle((c - a * 1.3, c - b * 0.72, c + a * 1.3, c - b * 0.58), fill=toned(color, 0.8))
    patch = shade(rng, patch)
    tilt = rng.normal(0, 9)
    patch = patch.rotate(tilt, Image.BILINEAR)

    shirt = any_color(rng)
    if rng.random() < 0.7:
        for layer, skin_fill, shirt_fill in ((picture, toned(skin, 0.85), shirt), (owner, 0, 0)):
            draw = ImageDraw.Draw(layer)
            draw.rectangle((x - a * 0.4, y + b * 0.6, x + a * 0.4, y + b * 1.5), fill=skin_fill)
            draw.rounded_rectangle((x - a * 2, y + b * 1.3, x + a * 2, y + b * 3.2), radius=a * 0.7, fill=shirt_fill)
    corner = (round(x) - half, round(y) - half)
    picture.paste(patch, corner, patch)
    face = Image.new("1", patch.size)
    oval(ImageDraw.Draw(face), c, c, a, b, fill=1)
    owner.paste(0, corner, patch.getchannel("A").point(lambda v: 255 * (v > 127), "1"))
    owner.paste(number, corner, face.rotate(tilt))
    turn = math.radians(tilt)
    dx = math.hypot(a * math.cos(turn), b * math.sin(turn))
    dy = math.hypot(a * math.sin(turn), b * math.cos(turn))
    return [x - dx, y - dy, x + dx, y + dy]


def cover(rng, picture, owner, box):
    """Something in front of the face: a wall's edge, a table, a hand or ball, a pole."""
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    color = any_color(rng) if rng.random() < 0.6 else shifted(rng, pick(rng, SKIN), 14)
    kind, place, part = rng.integers(4), rng.random(), rng.uniform(0.12, 0.32)
    for layer, fill in ((picture, color), (owner, 0)):
        draw = ImageDraw.Draw(layer)
        if kind == 0 and place < 0.5:
            draw.rectangle((x1 - w, y1 - h, x1 + w * part, y2 + h * 0.4), fill=fill)
        elif kind == 0:
            draw.rectangle((x2 - w * part, y1 - h, x2 + w, y2 + h * 0.4), fill=fill)
        elif kind == 1:
            draw.rectangle((x1 - w * 0.3, y2 - h * part, x2 + w * 0.3, y2 + h), fill=fill)
        elif kind == 2:
            oval(draw, x1 + w * place, y2 - h * part, w * 0.25, h * 0.22, fill=fill)
        else:
            x = x1 + w * place
            draw.line((x - w * 0.4, y1 - h, x + w * 0.4, y2 + h), fill=fill, width=int(w * 0.12) + 1)


def places(rng, width, height, count):
    """Up to `count` heads (x, y, a, b) that leave one another's features free."""
    found = []
    for _ in range(count * 12):
        if len(found) == count:
            break
        # Even in the logarithm: as many heads between 14 and 28 pixels as between 28 and 56.
        a = width * math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST))) / 2
        b = a * rng.uniform(*TALL)
        if 2 * b > height * 0.95:
            continue
        x, y = rng.uniform(a * 0.8, width - a * 0.8), rng.uniform(b * 0.8, height - b * 0.8)
        if all(abs(x - ox) > (a + oa) * 1.02 or abs(y - oy) > (b + ob) * 1.02 for ox, oy, oa, ob in found):
            found.append((x, y, a, b))
    # Far heads first, so that near shoulders cover them and not the reverse.
    return sorted(found, key=lambda place: place[2])


def finish(rng, picture, width, height):
    """Reduce to the size asked for and give it the look of a camera: contrast, blur, noise."""
    picture = picture.resize((width, height), Image.BOX)
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.5) * width / 160))
    pixels = np.asarray(picture).astype(np.float32)
    pixels = (pixels - 127) * rng.uniform(0.6, 1.15) + 127 + rng.uniform(-30, 30)
    pixels += rng.normal(0, rng.uniform(0, 7), pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def scene(rng, width, height, count=None, larger=2):
    """A picture with up to `count` faces (None: 0 to 4) and their truth; drawn `larger` times too large and reduced."""
    w, h = width * larger, height * larger
    picture = background(rng, w, h)
    clutter(rng, ImageDraw.Draw(picture), w, h)
    if count is None:
        count = int(rng.choice(5, p=[0.12, 0.28, 0.25, 0.2, 0.15]))
    owner, heads, boxes = Image.new("L", (w, h)), [], []
    for x, y, a, b in places(rng, w, h, count):
        masked = bool(rng.random() < 0.3)
        boxes.append(draw_person(rng, picture, owner, len(boxes) + 1, x, y, a, b, masked))
        heads.append((math.pi * a * b, masked))
        if rng.random() < 0.15:
            cover(rng, picture, owner, boxes[-1])
    shown = np.bincount(np.asarray(owner).ravel(), minlength=len(heads) + 1)[1:]
    faces = []
    for (area, masked), box, pixels in zip(heads, boxes, shown):
        if pixels >= LEAST_SHOWN * area:
            x1, y1, x2, y2 = (v / larger for v in box)
            clipped = [max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)]
            faces.append({"box": [round(v, 1) for v in clipped], "mask": masked})
    return finish(rng, picture, width, height), faces
