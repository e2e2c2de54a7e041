"""What a file is, by its first bytes."""

import pytest

from bridgekit.matrix.sniff import sniff


@pytest.mark.parametrize(
    ("head", "declared", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n....", "text/html", "image/png"),
        (b"\xff\xd8\xff\xe0....", "", "image/jpeg"),
        (b"GIF89a...", "application/octet-stream", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "", "audio/wav"),
        (b"\x00\x00\x00\x18ftypavif", "", "image/avif"),
        (b"\x00\x00\x00\x18ftypmp42", "video/quicktime", "video/mp4"),
        (b"OggS\x00....OpusHead", "", "audio/ogg"),
        (b"\x1a\x45\xdf\xa3....", "audio/webm", "audio/webm"),
        (b"\xff\xfb\x90\x64", "", "audio/mpeg"),
        (b"PK\x03\x04", "application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
        (b"PK\x03\x04", "image/png", "application/zip"),
        (b"<html><script>", "image/png", "text/plain"),
        (b"<html><script>", "text/html", "text/html"),
        (b"\x00\x01\x02", "image/png", "application/octet-stream"),
        (b"hello \xc3\xa9", "", "text/plain"),
        (b"cut here \xc3", "", "text/plain"),
        (b"\xff\xff binary", "", "application/octet-stream"),
        (b"", "", "application/octet-stream"),
        (b"x", "not a mime\r\nX: y", "text/plain"),
    ],
)
def test_bytes_are_believed_before_words(head, declared, mime):
    assert sniff(head, declared) == mime
