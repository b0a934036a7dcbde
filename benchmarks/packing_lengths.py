"""Write packing_lengths.npz: lengths like those of LLaVA-Critic-113k, from a stated model.

    python benchmarks/packing_lengths.py

The published set's own lengths can take this file's place: `critic-data import` writes them. The
model, in the absence of the data:

- 8,000 pictures; each has 1 + Geometric judgments, 2.46 on average as published (112,936 on 46k).
- Sizes in pixels: 70 % as COCO has them (640x480, 480x640, 640x427, 500x375, 427x640), 14 % squares
  of 224 to 512, 12 % small (100 to 330 a side), 4 % screens and pages (800x1000 to 1280x720). The
  published files hold 39 kB a pointwise and 77 kB a pairwise row, so large pictures must be few.
- Text tokens, log-normal: prompts with median 420 (sigma 0.45), judgments with median 170
  (sigma 0.5), both cut at 3,000. Records of one picture share 34 tokens of text (the system turn
  and the head of the user's), and one pair in five shares its question and more: 40 to 300.
"""

from pathlib import Path

import numpy as np

PICTURES = 8_000
COCO = ((640, 480), (480, 640), (640, 427), (500, 375), (427, 640))
SQUARES = ((224, 224), (336, 336), (448, 448), (512, 512))
PAGES = ((1024, 768), (1280, 720), (800, 1000), (899, 1024))


def main() -> None:
    dice = np.random.default_rng(113)
    sizes, first, text, shared = [], [], [], []
    for _ in range(PICTURES):
        sizes.append(_size(dice))
        first.append(len(text))
        for place in range(1 + min(dice.geometric(1 / 2.46) - 1, 30)):
            prompt = min(dice.lognormal(np.log(420), 0.45), 3000)
            answer = min(dice.lognormal(np.log(170), 0.5), 3000)
            text.append(int(prompt + answer))
            common = int(dice.integers(40, 300)) if dice.random() < 0.2 else 34
            shared.append(min(common, *text[-2:]) if place else 0)
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(
        path,
        sizes=np.array(sizes, np.int16),
        first=np.array(first, np.int32),
        text=np.array(text, np.int16),
        shared=np.array(shared, np.int16),
    )
    print(f"{path}: {len(text)} records, {PICTURES} pictures")


def _size(dice: np.random.Generator) -> tuple[int, int]:
    kind = dice.random()
    if kind < 0.70:
        return COCO[int(dice.integers(len(COCO)))]
    if kind < 0.84:
        return SQUARES[int(dice.integers(len(SQUARES)))]
    if kind < 0.88:
        return PAGES[int(dice.integers(len(PAGES)))]
    return int(dice.integers(100, 331)), int(dice.integers(100, 331))


if __name__ == "__main__":
    main()
