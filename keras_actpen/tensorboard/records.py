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
    """The checksum of data of at least 4 bytes, as event files hold it."""
    crc = _crc(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc(data: bytes) -> int:
    """CRC-32C, row by row."""
    table, first = _tables()
    # Zeros in front change nothing while the state is still 0.
    rows = np.zeros((-(-len(data) // _ROW), _ROW), np.uint8)
    flat = rows.reshape(-1)[-len(data) :]
    flat[:] = np.frombuffer(data, np.uint8)
    # It does not start from 0, which is the same as other first bytes.
    flat[:4] ^= 0xFF
    sums = np.bitwise_xor.reduce(table[np.arange(_ROW), rows], axis=1)
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
def _tables() -> tuple[np.ndarray, list[list[int]]]:
    """What each byte adds at each place of a row, and the first four places."""
    of_byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        of_byte = of_byte >> 1 ^ np.where(of_byte & 1, _POLYNOMIAL, 0).astype(
            np.uint32
        )
    places = [of_byte]
    for _ in range(_ROW - 1):
        places.append(of_byte[places[-1] & 0xFF] ^ places[-1] >> 8)
    table = np.stack(places[::-1])
    return table, table[:4].tolist()
