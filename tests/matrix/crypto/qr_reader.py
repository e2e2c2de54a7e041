"""A camera for tests: what a QR code in a PNG holds, read by ZXing."""

from __future__ import annotations

import zlib

import zxingcpp


def scanned(png: bytes) -> bytes:
    """What the one QR code of the picture holds. Raises AssertionError where there is none."""
    width, height, pixels = _grey(png)
    found = zxingcpp.read_barcodes(
        memoryview(pixels).cast("B", shape=[height, width]),
        formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode),
    )
    assert len(found) == 1, "there is no QR code to be seen"
    return found[0].bytes


def _grey(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and a byte for each pixel, of a PNG in two shades (W3C PNG, 11.2)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, packed, at = 0, 0, b"", 8
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        data = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height = (int.from_bytes(data[i : i + 4], "big") for i in (0, 4))
            assert data[8:] == bytes((1, 0, 0, 0, 0)), "another kind of PNG"
        if kind == b"IDAT":
            packed += data
        at += size + 12
    rows = zlib.decompress(packed)
    line = (width + 7) // 8 + 1
    bits = bytearray()
    row = bytes(line - 1)
    for start in range(0, len(rows), line):
        kind, above, row = rows[start : start + 1], row, rows[start + 1 : start + line]
        assert kind in (b"\0", b"\2"), "another filter"
        if kind == b"\2":  # W3C PNG, 9.2: the difference to the row above
            row = bytes((one + other) % 256 for one, other in zip(row, above, strict=True))
        bits += bytes(255 * (row[x // 8] >> (7 - x % 8) & 1) for x in range(width))
    return width, height, bytes(bits)
