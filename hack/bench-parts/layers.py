#!/usr/bin/env python3
"""Writes the layers of the images that pulls are measured with: layers.py OUT

Four tars for each image, 120 MB each, in files as long as a distribution's; about three times as long
as when gzipped. The same bytes each time.
"""

import io
import pathlib
import random
import sys
import tarfile

LAYERS = 8
BYTES = 120_000_000
SIZES = [700, 1500, 3000, 6000, 12_000, 25_000, 50_000, 100_000, 500_000]
EPOCH = 1767225600  # 2026-01-01


def words(dice):
    """What the text is made of: fewer words compress better."""
    return [dice.randbytes(dice.randint(4, 24)) for _ in range(1200)]


def entry(archive, path, kind, data=b""):
    member = tarfile.TarInfo(path)
    member.type, member.mtime, member.size = kind, EPOCH, len(data)
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    archive.addfile(member, io.BytesIO(data))


def layer(number, out):
    dice = random.Random(number)
    vocabulary = words(dice)
    written = files = 0
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        while written < BYTES:
            directory = f"usr/share/layer-{number}/{files // 40:03}"
            if files % 40 == 0:
                entry(archive, directory, tarfile.DIRTYPE)
            size = dice.choice(SIZES)
            text = b"".join(dice.choices(vocabulary, k=size // 12))[:size]
            entry(archive, f"{directory}/{files % 40:02}", tarfile.REGTYPE, text)
            written += len(text)
            files += 1


for number in range(LAYERS):
    layer(number, pathlib.Path(sys.argv[1]) / f"bench-{number}.tar")
