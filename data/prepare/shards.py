"""Ids to .bin files (data/README.md has the format)."""
import array
import os
import struct
import sys

FORMATS = {2: (20240520, 1, "H"), 4: (20240801, 7, "I")}  # bytes of an id: magic, version, array code


class Shards:
    """Collects ids in a file, because only their number tells where validation begins. Then cuts it."""

    def __init__(self, folder, vocab_size, limit):
        self.folder, self.limit, self.count = folder, limit, 0
        self.id_bytes = 2 if vocab_size <= 65536 else 4
        self.magic, self.version, self.code = FORMATS[self.id_bytes]
        self.path = os.path.join(folder, "ids")
        self.ids = open(self.path, "w+b")

    def add(self, ids):
        part = array.array(self.code)
        part.extend(ids)
        self.count += len(part)
        if sys.byteorder == "big":
            part.byteswap()
        self.ids.write(part)

    def write(self, name, first, last):
        """NAME_000000.bin, NAME_000001.bin, ..., each with its header."""
        self.ids.seek(first * self.id_bytes)
        for number, begin in enumerate(range(first, last, self.limit)):
            count = min(self.limit, last - begin)
            with open(os.path.join(self.folder, f"{name}_{number:06d}.bin"), "wb") as f:
                f.write(struct.pack("<256i", self.magic, self.version, count, *[0] * 253))
                left = count * self.id_bytes
                while part := self.ids.read(min(left, 1 << 20)):
                    f.write(part)
                    left -= len(part)
                f.flush()
                os.fsync(f.fileno())

    def close(self):
        self.ids.close()
        os.remove(self.path)
