"""From the detector's two outputs to boxes, and from boxes to average precision. Numpy only."""

import numpy as np

# What the service uses too: overlap above which the weaker of two boxes goes.
NMS_IOU = 0.4
# Low, because the precision at every recall counts; a service shows boxes from 0.5 on.
LOWEST_SCORE = 0.02


def iou(box, boxes):
    """Intersection over union of one corner-form box with each of `boxes`."""
    left, top = np.maximum(box[:2], boxes[:, :2]).T
    right, bottom = np.minimum(box[2:], boxes[:, 2:]).T
    both = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return both / (area(box) + area(boxes) - both)


def detections(scores, boxes, lowest=LOWEST_SCORE):
    """Greedy non-maximum suppression over [N,2] scores and [N,4] boxes; gives (score, box) pairs, best first."""
    face = scores[:, 1]
    order = np.argsort(-face, kind="stable")
    order = order[face[order] >= lowest]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append((float(face[best]), boxes[best]))
        order = order[iou(boxes[best], boxes[order]) <= NMS_IOU]
    return kept


def average_precision(found, truth, at_iou=0.5):
    """Area under the precision-recall curve, all points (PASCAL VOC 2010 and later).

    `found[i]` holds picture i's (score, box) pairs, `truth[i]` its boxes. A truth is matched once, by the best-scored
    detection whose best overlap it is; every other detection is a false positive.
    """
    ranked = sorted(((s, i, b) for i, pairs in enumerate(found) for s, b in pairs), key=lambda d: -d[0])
    taken = [np.zeros(len(t), bool) for t in truth]
    hits = np.zeros(len(ranked))
    for n, (_, i, box) in enumerate(ranked):
        if len(truth[i]):
            overlap = iou(np.asarray(box), np.asarray(truth[i], float))
            best = int(overlap.argmax())
            if overlap[best] >= at_iou and not taken[i][best]:
                taken[i][best] = True
                hits[n] = 1
    recall = np.cumsum(hits) / max(1, sum(map(len, truth)))
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    # Precision at a recall is the best at that recall or any higher one.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))
