"""Shared libraries that satisfy the loader and contain nothing else.

A stub has another library's name, symbols and versions, in a few kilobytes. Every symbol leads to one
instruction that ends the process: a call into a library that was removed is a mistake in the build. Only the
parts of ELF that this needs are written: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Symbol:
    """One name that a library defines, or needs from another."""

    name: str
    defined: bool
    version: str
    """The version that is needed, such as ``LIBAVCODEC_62``; empty if none is."""


_TRAPS = {62: b"\x0f\x0b", 183: b"\x00\x00\x20\xd4"}
"""``ud2`` on x86-64, ``brk`` on AArch64."""

_PAGE = 0x10000

_HEADER_BYTES, _SEGMENT_BYTES, _SYMBOL_BYTES = 64, 56, 24
"""Sizes of the file's header, a segment's header, and a dynamic symbol."""

_ET_DYN = 3
"""A shared library."""

# Types of sections (sh_type) and of dynamic entries (d_tag).
_SHT_DYNAMIC, _SHT_DYNSYM, _SHT_GNU_VERNEED, _SHT_GNU_VERSYM = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 0, 1, 4, 5, 6, 10, 11
_DT_SONAME, _DT_VERSYM, _DT_VERDEF, _DT_VERDEFNUM = 14, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD

# Types of segments (p_type), and their permissions (p_flags).
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_READ_EXECUTE, _READ_WRITE = 5, 6


def read_library(path: Path) -> tuple[int, set[str], list[Symbol]]:
    """Return a 64-bit library's machine, the names of the libraries it needs, and its dynamic symbols."""
    data = path.read_bytes()
    (machine,) = struct.unpack_from("<H", data, 18)
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + n * size) for n in range(count)]
    by_kind = {section[1]: section for section in sections}

    def part(kind: int) -> bytes:
        section = by_kind.get(kind)
        return data[section[4] : section[4] + section[5]] if section else b""

    symbols = by_kind[_SHT_DYNSYM]
    strings_at = sections[symbols[6]][4]

    def text(offset: int) -> str:
        return data[strings_at + offset : data.index(b"\0", strings_at + offset)].decode()

    versions = {}
    for name, index in _needed_versions(part(_SHT_GNU_VERNEED)):
        versions[index] = text(name)
    indices = [index for (index,) in struct.iter_unpack("<H", part(_SHT_GNU_VERSYM))]
    found = []
    for n, (name, _, _, section_index, _, _) in enumerate(struct.iter_unpack("<IBBHQQ", part(_SHT_DYNSYM))):
        version = versions.get(indices[n], "") if indices else ""
        found.append(Symbol(text(name), section_index != 0, version))
    tags = struct.iter_unpack("<qQ", part(_SHT_DYNAMIC))
    return machine, {text(value) for tag, value in tags if tag == _DT_NEEDED}, found


def loaded(library: bytes) -> bytes:
    """Return a 64-bit ``library`` without what no loader reads: section headers and debugging symbols.

    Everything that is loaded stays in its place. Call ``read_library`` before, as it needs the headers.
    """
    (table_at,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", library, table_at + n * size) for n in range(count)]
    end = max(table_at + count * size, *(offset + length for _, _, offset, _, _, length, *_ in segments))
    bare = bytearray(library[:end])
    struct.pack_into("<Q", bare, 40, 0)
    struct.pack_into("<HHH", bare, 58, 0, 0, 0)
    return bytes(bare)


def _needed_versions(table: bytes) -> Iterator[tuple[int, int]]:
    """Yield name and index of each version in a ``.gnu.version_r``."""
    at = 0
    while table:
        _, count, _, first, following = struct.unpack_from("<HHIII", table, at)
        entry = at + first
        for _ in range(count):
            _, _, index, name, next_entry = struct.unpack_from("<IHHII", table, entry)
            yield name, index
            entry += next_entry
        if not following:
            return
        at += following


def stub(name: str, machine: int, symbols: Iterable[Symbol]) -> bytes:
    """Build a library called ``name`` in which each of ``symbols`` ends the process."""
    symbols = sorted(symbols, key=lambda symbol: symbol.name)
    versions = sorted({symbol.version for symbol in symbols} - {""})
    strings = _Strings()
    soname = strings.place(name)
    begin = _HEADER_BYTES + 4 * _SEGMENT_BYTES  # of the loaded part, which starts with the trap
    names = [symbol.name for symbol in symbols]
    functions = _symbol_table(names, begin, strings)
    defined = _version_definitions([name, *versions], strings)
    # 0: local, 1: this file without a version, from 2 on: the versions.
    indices = [0] + [versions.index(s.version) + 2 if s.version else 1 for s in symbols]
    body, at = bytearray(_TRAPS[machine].ljust(8, b"\0")), {}
    for part, content in (
        ("hash", _hash_table(names)),
        ("symbols", functions),
        ("strings", bytes(strings.packed)),
        ("indices", struct.pack(f"<{len(indices)}H", *indices)),
        ("versions", defined),
    ):
        at[part] = begin + len(body)
        body += content + bytes(-len(content) % 8)
    read_only = begin + len(body)
    dynamic = b"".join(
        struct.pack("<qQ", tag, value)
        for tag, value in (
            (_DT_SONAME, soname),
            (_DT_HASH, at["hash"]),
            (_DT_STRTAB, at["strings"]),
            (_DT_STRSZ, len(strings.packed)),
            (_DT_SYMTAB, at["symbols"]),
            (_DT_SYMENT, _SYMBOL_BYTES),
            (_DT_VERSYM, at["indices"]),
            (_DT_VERDEF, at["versions"]),
            (_DT_VERDEFNUM, len(versions) + 1),
            (_DT_NULL, 0),
        )
    )
    writable = read_only + _PAGE  # the loader writes to the dynamic section, so it needs its own pages
    return b"".join(
        [
            b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
            struct.pack("<HHIQ", _ET_DYN, machine, 1, 0),  # version 1, no entry point
            struct.pack("<QQI", _HEADER_BYTES, 0, 0),  # segments after this header, no sections, no flags
            struct.pack("<HHHHHH", _HEADER_BYTES, _SEGMENT_BYTES, 4, 64, 0, 0),
            _segment(_PT_LOAD, _READ_EXECUTE, 0, 0, read_only, _PAGE),
            _segment(_PT_LOAD, _READ_WRITE, read_only, writable, len(dynamic), _PAGE),
            _segment(_PT_DYNAMIC, _READ_WRITE, read_only, writable, len(dynamic), 8),
            _segment(_PT_GNU_STACK, _READ_WRITE, 0, 0, 0, 16),  # a stack that is not executable
            body,
            dynamic,
        ]
    )


class _Strings:
    """A string table: strings one after the other, each identified by its offset."""

    def __init__(self) -> None:
        self.packed = bytearray(b"\0")

    def place(self, value: str) -> int:
        """Add ``value``; return its offset."""
        at = len(self.packed)
        self.packed += value.encode() + b"\0"
        return at


def _hash_table(names: Sequence[str]) -> bytes:
    """Pack the hash table for finding the symbols ``names``, which are numbered from 1."""
    buckets, chain = [0] * (len(names) + 1), [0] * (len(names) + 1)
    for n, name in enumerate(names, start=1):
        bucket = _hash(name) % len(buckets)
        chain[n], buckets[bucket] = buckets[bucket], n
    return struct.pack(f"<{2 + 2 * len(chain)}I", len(buckets), len(chain), *buckets, *chain)


def _symbol_table(names: Iterable[str], address: int, strings: _Strings) -> bytes:
    """Pack global functions called ``names``, all of them at ``address``, after the empty symbol."""
    functions = (struct.pack("<IBBHQQ", strings.place(name), 0x12, 0, 1, address, 0) for name in names)
    return bytes(_SYMBOL_BYTES) + b"".join(functions)


def _version_definitions(names: Sequence[str], strings: _Strings) -> bytes:
    """Pack versions called ``names``; the first is the file itself."""
    defined = b""
    for index, name in enumerate(names, start=1):
        more = 28 if index < len(names) else 0
        defined += struct.pack("<HHHHIII", 1, int(index == 1), index, 1, _hash(name), 20, more)
        defined += struct.pack("<II", strings.place(name), 0)
    return defined


def _segment(kind: int, flags: int, offset: int, address: int, size: int, align: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, align)


def _hash(name: str) -> int:
    """Hash a symbol's name as the System V ABI does."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value
