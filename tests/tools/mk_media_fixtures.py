#!/usr/bin/env python3
"""Writes tests/golden/resize.txt and tests/golden/pixels.txt: what Pillow makes of pictures that tests make again or read from there.
usage: mk_media_fixtures.py FOLDER     (Pillow 13.0.0 with libjpeg-turbo 3 and libwebp 1.6 wrote those that are committed)
resize.txt: width height new-width new-height filter crc32; the source's bytes are those of noise() below.
pixels.txt: name width height crc32 hex: the crc32 of convert("RGB") of the file that hex spells."""
import io, os, random, sys, zlib
import PIL
from PIL import Image

def noise(w, h):
    x, out = 1, bytearray()
    for _ in range(w * h * 3):
        x = (x * 1103515245 + 12345) & 0xFFFFFFFF
        out.append(x >> 24)
    return Image.frombytes("RGB", (w, h), bytes(out))

def smooth(w, h):
    return Image.frombytes("RGB", (w, h), bytes(v & 255 for y in range(h) for x in range(w) for v in (x * 5 + y, 255 - y * 6, (x * y) // 3)))

def crc(im): return "%08x" % zlib.crc32(im.tobytes())

def main(folder):
    filters = [Image.NEAREST, Image.BOX, Image.BILINEAR, Image.HAMMING, Image.BICUBIC, Image.LANCZOS]
    rng = random.Random(13)
    sizes = [(1, 1, 1, 1), (1, 1, 7, 5), (7, 5, 1, 1), (1, 9, 4, 3), (9, 1, 3, 4), (17, 13, 17, 13), (17, 13, 17, 5), (17, 13, 6, 13), (64, 48, 31, 17),
             (31, 17, 64, 48), (40, 90, 30, 20), (90, 40, 20, 30), (33, 70, 40, 9), (300, 3, 40, 11), (3, 300, 11, 40), (100, 100, 99, 101), (128, 128, 3, 2)]
    sizes += [tuple(rng.randint(1, m) for m in (90, 90, 70, 70)) for _ in range(20)]
    with open(os.path.join(folder, "resize.txt"), "w") as f:
        for w, h, W, H in sizes:
            for i, k in enumerate(filters): f.write("%d %d %d %d %d %s\n" % (w, h, W, H, i, crc(noise(w, h).resize((W, H), k))))
    im = smooth(31, 23)
    def alpha(): a = im.convert("RGBA"); a.putalpha(im.convert("L")); return a
    files = [("jpeg-%s" % s.replace(":", ""), im, dict(format="JPEG", quality=q, subsampling=s)) for s, q in (("4:4:4", 80), ("4:2:2", 70), ("4:2:0", 90), ("4:1:1", 60))]
    files += [("jpeg-progressive", im, dict(format="JPEG", quality=75, progressive=True)), ("jpeg-gray", im.convert("L"), dict(format="JPEG", quality=75)),
              ("jpeg-cmyk", im.convert("CMYK"), dict(format="JPEG", quality=75)), ("jpeg-restart", im, dict(format="JPEG", quality=50, restart_marker_blocks=2)),
              ("webp-lossy", im, dict(format="WEBP", quality=70)), ("webp-lossless", im, dict(format="WEBP", lossless=True)), ("webp-alpha", alpha(), dict(format="WEBP", quality=60)),
              ("webp-animated", im, dict(format="WEBP", save_all=True, append_images=[im.rotate(180)], duration=250, quality=50)),
              ("gif", im.quantize(60), dict(format="GIF")), ("gif-transparent", im.quantize(16), dict(format="GIF", transparency=3)), ("tiff-lzw", im, dict(format="TIFF", compression="tiff_lzw")),
              ("bmp-palette", im.quantize(16), dict(format="BMP"))]
    with open(os.path.join(folder, "pixels.txt"), "w") as f:
        for name, picture, how in files:
            b = io.BytesIO()
            picture.save(b, **how)
            out = Image.open(io.BytesIO(b.getvalue())).convert("RGB")
            f.write("%s %d %d %s %s\n" % (name, *out.size, crc(out), b.getvalue().hex()))
    print("Pillow", PIL.__version__)

main(sys.argv[1])
