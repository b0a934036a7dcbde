"""Pictures a second on one core: decode and tile, against transformers' PIL processor.

    python benchmarks/pictures.py

On photographs of scikit-image and scikit-learn at sizes as in the wild. Both start from the bytes
of the files; the peer normalises to float on the host, we leave that to the device.
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from critic_jax.imaging import ImageGeometry, open_picture, picture

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from published_set import picture_file

PICTURES = 120


def main() -> None:
    files = [picture_file(number) for number in range(PICTURES)]
    geometry = ImageGeometry()
    pinpoints = [[height, width] for width, height in geometry.pinpoints]
    peer = LlavaOnevisionImageProcessorPil(
        size={"height": 384, "width": 384},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=pinpoints,
    )

    def ours(file: bytes) -> int:
        return len(picture(open_picture(file), geometry).tiles)

    def theirs(file: bytes) -> int:
        return len(peer([Image.open(io.BytesIO(file)).convert("RGB")])["pixel_values"][0])

    assert [ours(f) for f in files[:20]] == [theirs(f) for f in files[:20]]
    rates = {"critic_jax": 0.0, "transformers": 0.0}
    for _ in range(3):  # the best of three, turn about
        for name, make in (("critic_jax", ours), ("transformers", theirs)):
            rates[name] = max(rates[name], _rate(make, files))
    for name, rate in rates.items():
        print(f"{name}: {rate:.1f} pictures a second")
    print(f"{rates['critic_jax'] / rates['transformers']:.2f}x")


def _rate(make: Callable[[bytes], int], files: list[bytes]) -> float:
    start = time.process_time()
    for file in files:
        make(file)
    return len(files) / (time.process_time() - start)


if __name__ == "__main__":
    main()
