"""Records of event files: length, content, and a checksum of each.

TensorBoard's own `RecordWriter` computes the checksums in a Python loop over
the bytes, which was half the time that the monitor took at the end of an
epoch. Here a row of bytes is one look-up in a table.
"""

import functools
import struct

import numpy as np

# CRC-32C (Castagnoli), bits reversed.
_POLYNOMIAL = 0x82F63B78
# Bytes that are looked up at once.
_ROW = 256
# Where the table of each place of a row begins.
_PLACES = 256 * np.arange(_ROW)


def in_utf8(text: str) -> str:
    """A text that has UTF-8, as files have it.

    Half a surrogate pair has none: it becomes what Python writes for it.
    """
    return text.encode(errors="backslashreplace").decode()


def record(content: bytes) -> bytes:
    """One record of an event file.

    Args:
        content: A serialized event.
    """
    length = struct.pack("<Q", len(content))
    return b"".join(
        [
            length,
            struct.pack("<I", masked_checksum(length)),
            content,
            struct.pack("<I", masked_checksum(content)),
        ]
    )


def masked_checksum(data: bytes) -> int:
    """The checksum of data, as event files hold it."""
    crc = _crc(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc(data: bytes) -> int:
    """CRC-32C: of a few bytes one by one, of many row by row."""
    table, first, of_byte = _tables()
    if len(data) < _ROW:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = of_byte[crc & 0xFF ^ byte] ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    # Zeros in front change nothing while the state is still 0.
    rows = np.zeros((-(-len(data) // _ROW), _ROW), np.uint8)
    flat = rows.reshape(-1)[-len(data) :]
    flat[:] = np.frombuffer(data, np.uint8)
    # It does not start from 0, which is the same as other first bytes.
    flat[:4] ^= 0xFF
    sums = np.bitwise_xor.reduce(table.take(rows + _PLACES), axis=1)
    crc = 0
    for of_row in sums.tolist():
        # What the rows before have left is moved on by one row.
        crc = (
            of_row
            ^ first[0][crc & 0xFF]
            ^ first[1][crc >> 8 & 0xFF]
            ^ first[2][crc >> 16 & 0xFF]
            ^ first[3][crc >> 24]
        )
    return crc ^ 0xFFFFFFFF


@functools.cache
def _tables() -> tuple[np.ndarray, list[list[int]], list[int]]:
    """What each byte adds at each place of a row, at the first four, alone."""
    of_byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        of_byte = of_byte >> 1 ^ np.where(of_byte & 1, _POLYNOMIAL, 0).astype(
            np.uint32
        )
    places = [of_byte]
    for _ in range(_ROW - 1):
        places.append(of_byte[places[-1] & 0xFF] ^ places[-1] >> 8)
    table = np.stack(places[::-1])
    return table.reshape(-1), table[:4].tolist(), table[-1].tolist()
