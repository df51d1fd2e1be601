"""The zip that a bundle is: members stored one behind the other, and not a byte besides.

Any zip tool opens it. This reader takes only what this writer writes, header for header: no compression to hide a bomb
in, no two members over the same bytes, nothing before, between or behind them, and no second opinion of what is inside.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from drivetrain.errors import BundleRefused

__all__ = ["read_stored_zip", "write_stored_zip"]

# The headers of https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_MADE_BY, _NEEDS = 3 << 8 | 20, 20  # Unix, zip 2.0
_DATE = 1 << 5 | 1  # 1 January 1980: equal content gives equal bytes
_MODE = 0o644 << 16
_MAX_NAME_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    crc: int
    size: int  # bytes
    offset: int  # of its header

    def local_header(self) -> bytes:
        name = self.name.encode("ascii")
        return _LOCAL.pack(b"PK\3\4", _NEEDS, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(name), 0) + name

    def entry(self) -> bytes:
        name = self.name.encode("ascii")
        sizes = (self.crc, self.size, self.size, len(name), 0, 0, 0, 0, _MODE, self.offset)
        return _ENTRY.pack(b"PK\1\2", _MADE_BY, _NEEDS, 0, 0, 0, _DATE, *sizes) + name


def write_stored_zip(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members in their order; names are ASCII. Equal members give equal bytes."""
    parts: list[bytes] = []
    entries: list[bytes] = []
    offset = 0
    for name, data in members.items():
        member = _Member(name=name, crc=zlib.crc32(data), size=len(data), offset=offset)
        header = member.local_header()
        parts += [header, data]
        entries.append(member.entry())
        offset += len(header) + len(data)
    directory = b"".join(entries)
    end = _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), offset, 0)
    return b"".join([*parts, directory, end])


def read_stored_zip(
    file: BinaryIO, *, where: str, max_members: int, check: Callable[[str, int], None]
) -> dict[str, bytes]:
    """name -> bytes of an archive of write_stored_zip; `check(name, size)` may refuse a member before any is read.

    Raises BundleRefused: bundle_zip, bundle_size, bundle_path or bundle_member. OSError is the caller's.
    """
    directory, offset, count = _read_end(file, where, max_members)
    found = _parse_directory(directory, where, count)
    for member in found:
        check(member.name, member.size)
    if len({member.name for member in found}) != len(found):
        raise BundleRefused("bundle_member", where, got="a member twice", want="each member once")
    at = 0
    for member in found:
        if member.offset != at:
            got = f"{member.name} at byte {member.offset:,}, where {at:,} is due: members overlap, or hide something"
            raise BundleRefused("bundle_size", where, got=got, want="members one behind the other")
        at += len(member.local_header()) + member.size
    if at != offset:
        raise BundleRefused(
            "bundle_size", where, got=f"{at:,} bytes of members in {offset:,}", want="members, and nothing besides"
        )
    if directory != b"".join(member.entry() for member in found):
        raise _damaged(where, "a directory with fields of its own", "the plain directory that drivetrain writes")
    file.seek(0)
    return {member.name: _read_member(file, where, member) for member in found}


def _read_end(file: BinaryIO, where: str, max_members: int) -> tuple[bytes, int, int]:
    """(directory, where it begins, how many members it must list)."""
    size = file.seek(0, 2)
    if size < _END.size:
        raise _damaged(where, f"{size} bytes", "a zip archive")
    file.seek(size - _END.size)
    tail = file.read(_END.size)
    signature, *_, count, directory_bytes, offset, _ = _END.unpack(tail)
    if signature != b"PK\5\6":
        raise _damaged(where, "no zip directory at its end", "a whole zip archive with nothing behind it")
    if count > max_members:
        raise BundleRefused("bundle_size", where, got=f"{count} members", want=f"at most {max_members}")
    is_plain = tail == _END.pack(b"PK\5\6", 0, 0, count, count, directory_bytes, offset, 0)
    if not is_plain or offset + directory_bytes + _END.size != size:
        raise _damaged(where, "bytes before, between or behind its parts", "a whole zip archive and nothing else")
    if directory_bytes > max_members * (_ENTRY.size + _MAX_NAME_BYTES):
        raise BundleRefused("bundle_size", where, got=f"a directory of {directory_bytes:,} bytes", want="a small one")
    file.seek(offset)
    return file.read(directory_bytes), offset, count


def _parse_directory(directory: bytes, where: str, count: int) -> list[_Member]:
    found: list[_Member] = []
    at = 0
    while at < len(directory):
        if at + _ENTRY.size > len(directory):
            raise _damaged(where, "a directory cut short", "a whole one")
        signature, *_, flags, method, _, _, crc, packed, size, name_bytes, extra, comment, _, _, mode, offset = (
            _ENTRY.unpack_from(directory, at)
        )
        raw = directory[at + _ENTRY.size : at + _ENTRY.size + name_bytes]
        at += _ENTRY.size + name_bytes + extra + comment
        if signature != b"PK\1\2" or at > len(directory):
            raise _damaged(where, "a damaged directory", "a whole one")
        if not raw or not raw.isascii() or len(raw) > _MAX_NAME_BYTES:
            raise BundleRefused("bundle_path", where, got=raw, want="names of ASCII letters")
        name = raw.decode("ascii")
        if stat.S_IFMT(mode >> 16) not in (0, stat.S_IFREG):
            raise BundleRefused("bundle_path", name, got="a link or a device", want="a plain file")
        if method or flags & 1:
            raise BundleRefused("bundle_size", name, got="a compressed or locked member", want="a stored one")
        if size != packed:
            raise BundleRefused("bundle_size", name, got="two different sizes", want="one size")
        found.append(_Member(name=name, crc=crc, size=size, offset=offset))
    if len(found) != count:
        raise _damaged(where, f"{len(found)} members in a directory of {count}", "as many as it says")
    return found


def _read_member(file: BinaryIO, where: str, member: _Member) -> bytes:
    header = member.local_header()
    if file.read(len(header)) != header:
        raise _damaged(where, f"two headers of {member.name} that differ", "the same in both places")
    data = file.read(member.size)
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise BundleRefused(
            "bundle_digest", member.name, got="other bytes than its checksum says", want="the bytes as written"
        )
    return data


def _damaged(where: str, got: str, want: str) -> BundleRefused:
    return BundleRefused("bundle_zip", where, got=got, want=want)
