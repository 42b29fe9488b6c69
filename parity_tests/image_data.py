"""Image files for tests."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

GRADIENT = np.stack(np.broadcast_arrays(np.arange(0, 240, 10)[None], np.arange(0, 200, 10)[:, None], 7), 2)
PICTURE = Image.fromarray(GRADIENT.astype(np.uint8))  # 24 x 20


def encoded(form: str = "PNG", image: Image.Image = PICTURE, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def raw_png(size: tuple[int, int], depth: int, color: int, pixels: bytes) -> bytes:
    """Encode a PNG with a bit depth and color type that Pillow cannot write."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0),
        b"IDAT": zlib.compress(pixels),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def fill(root: Path, files: dict[str, int]) -> Path:
    for name, count in files.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(encoded("PNG", Image.new("RGB", (3, 2))))
    return root
