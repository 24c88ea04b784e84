"""A stock kernel whose first instructions end the machine: what it takes to get there can be measured.

The code at the entry point of the vmlinux in a bzImage is replaced by a write to the debug-exit port, for each form of payload that
the bench uses: gzip, and LZ4 of nothing but literals (tests/guests/linux/lz4_store.c), which can be changed in place.
"""
import struct
import zlib

# mov al, 10h; out F4h, al; cli; hlt
CODE = bytes((0xb0, 0x10, 0xe6, 0xf4, 0xfa, 0xf4))
LZ4_MAGIC = struct.pack("<I", 0x184C2102)
PT_LOAD = 1


def payload_range(image):
    """Of a bzImage (boot protocol 2.08 on): (offset in the file, length)."""
    setup_sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    return (setup_sectors + 1) * 512 + offset, length


def entry_offset(elf):
    """Where in an ELF file the code stands that runs first."""
    entry, table = struct.unpack_from("<QQ", elf, 24)
    size, count = struct.unpack_from("<HH", elf, 54)
    for i in range(count):
        kind, _, offset, _, physical, in_file = struct.unpack_from("<IIQQQQ", elf, table + i * size)
        if kind == PT_LOAD and physical <= entry < physical + in_file:
            return offset + entry - physical
    raise ValueError("the kernel has no segment with its entry point")


def literal_parts(payload):
    """Of a stored payload: (offset in it, bytes) of each run of literals."""
    at = len(LZ4_MAGIC)
    while at + 4 < len(payload):
        size = struct.unpack_from("<I", payload, at)[0]
        start = at + 5
        length = payload[at + 4] >> 4
        if length == 15:
            while payload[start] == 255:
                length, start = length + 255, start + 1
            length, start = length + payload[start], start + 1
        if start + length != at + 4 + size:
            return   # behind the last block: the plain size
        yield start, length
        at += 4 + size


def stored(image):
    offset, length = payload_range(image)
    payload = image[offset:offset + length]
    plain = b"".join(payload[start:start + size] for start, size in literal_parts(payload))
    entry = entry_offset(plain)
    for start, size in literal_parts(payload):
        if entry + len(CODE) <= size:
            at = offset + start + entry
            return image[:at] + CODE + image[at + len(CODE):]
        entry -= size
    raise ValueError("the entry point stands across two blocks")


def gzipped(image):
    """(the bzImage, its payload)"""
    offset, length = payload_range(image)
    unpack = zlib.decompressobj(wbits=31)
    plain = unpack.decompress(image[offset:offset + length])
    entry = entry_offset(plain)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    payload = packer.compress(plain[:entry] + CODE + plain[entry + len(CODE):]) + packer.flush()
    changed = bytearray(image[:offset] + payload + unpack.unused_data + image[offset + length:])
    struct.pack_into("<I", changed, 0x24c, len(payload) + len(unpack.unused_data))
    return bytes(changed), payload


def make(linux, stored_path, gzip_path, payload_path):
    """From the folder of the Linux guest."""
    stored_path.write_bytes(stored((linux / "bzImage.stored").read_bytes()))
    image, payload = gzipped((linux / "bzImage").read_bytes())
    gzip_path.write_bytes(image)
    payload_path.write_bytes(payload)
