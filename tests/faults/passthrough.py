"""A file system in user space that shows a folder: the smallest that a journal can be written to.

`python passthrough.py FOLDER MOUNT` mounts FOLDER at MOUNT and serves it until it is unmounted. Stopped with
SIGSTOP, it behaves as a network file system does whose server has gone: every call on it waits. It speaks the
kernel's protocol (include/uapi/linux/fuse.h) itself, so that the tests need no library for it, only root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable

LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR, RENAME, LINK = 1, 2, 3, 4, 9, 10, 11, 12, 13
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, INIT = 14, 15, 16, 17, 18, 20, 26
OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT = 27, 28, 29, 30, 34, 35, 36
BATCH_FORGET, RENAME2 = 42, 45
_NO_ANSWER = (FORGET, BATCH_FORGET, INTERRUPT)


class Passthrough:
    """Serves one folder. A node is a path; nothing is cached, so every call comes here."""

    def __init__(self, root: str, device: int) -> None:
        self._device = device
        self._paths = {1: root}
        self._next = 2
        # FLUSH is not among them, so the kernel leaves it out: a process that ends while this server does not answer
        # would wait in it for ever, and not even SIGKILL ends that.
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            INIT: self._init,
            LOOKUP: self._lookup,
            GETATTR: self._getattr,
            SETATTR: self._setattr,
            MKDIR: self._mkdir,
            UNLINK: self._unlink,
            RMDIR: self._rmdir,
            RENAME: self._rename,
            LINK: self._link,
            RENAME2: self._rename2,
            OPEN: self._open,
            CREATE: self._create,
            READ: self._read,
            WRITE: self._write,
            RELEASE: self._release,
            FSYNC: self._fsync,
            STATFS: self._statfs,
            OPENDIR: self._nothing_open,
            READDIR: self._readdir,
            RELEASEDIR: self._nothing,
            FSYNCDIR: self._nothing,
            ACCESS: self._nothing,
        }

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, 1 << 18)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # unmounted
            _, operation, unique, node, *_ = struct.unpack_from("<IIQQIIII", request)
            if operation in _NO_ANSWER:
                continue
            body, failed = b"", errno.ENOSYS
            answer = self._answers.get(operation)
            if answer is not None:
                try:
                    body, failed = answer(node, request[40:]), 0
                except OSError as error:
                    failed = error.errno or errno.EIO
            if failed:
                body = b""
            os.write(self._device, struct.pack("<IiQ", 16 + len(body), -failed, unique) + body)

    # -- names ------------------------------------------------------------------------------------------------

    def _init(self, node: int, body: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHHIIH22x", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 0, 0, 0, 0, 0)

    def _child(self, node: int, name: bytes) -> str:
        return os.path.join(self._paths[node], os.fsdecode(name.split(b"\0", 1)[0]))

    def _entry(self, path: str) -> bytes:
        attributes = self._attributes(path)
        node = next((known for known, at in self._paths.items() if at == path), 0)
        if not node:
            node, self._next = self._next, self._next + 1
            self._paths[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + attributes

    def _attributes(self, path: str) -> bytes:
        found = os.lstat(path)
        times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
        return struct.pack(
            "<6Q10I",
            found.st_ino,
            found.st_size,
            found.st_blocks,
            *(at // 10**9 for at in times),
            *(at % 10**9 for at in times),
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            0,
            4096,
            0,
        )

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._child(node, body))

    def _getattr(self, node: int, body: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attributes(self._paths[node])

    def _setattr(self, node: int, body: bytes) -> bytes:
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        if valid & 8:
            os.truncate(self._paths[node], size)
        return self._getattr(node, body)

    def _mkdir(self, node: int, body: bytes) -> bytes:
        path = self._child(node, body[8:])
        os.mkdir(path)
        return self._entry(path)

    def _unlink(self, node: int, body: bytes) -> bytes:
        os.unlink(self._child(node, body))
        return b""

    def _rmdir(self, node: int, body: bytes) -> bytes:
        os.rmdir(self._child(node, body))
        return b""

    def _link(self, node: int, body: bytes) -> bytes:
        path = self._child(node, body[8:])
        os.link(self._paths[struct.unpack_from("<Q", body)[0]], path)
        return self._entry(path)

    def _rename(self, node: int, body: bytes) -> bytes:
        (target,) = struct.unpack_from("<Q", body)
        old, new = body[8:].split(b"\0")[:2]
        before, after = self._child(node, old), self._child(target, new)
        os.rename(before, after)
        self._paths = {known: at for known, at in self._paths.items() if at != after}
        for known, at in self._paths.items():
            if at == before or at.startswith(f"{before}/"):
                self._paths[known] = after + at[len(before) :]
        return b""

    def _rename2(self, node: int, body: bytes) -> bytes:
        # Flags stand between the folder and the names; the one in use here, "do not replace", needs no care.
        return self._rename(node, body[:8] + body[16:])

    # -- files: the handle is our own descriptor ------------------------------------------------------------------

    def _open(self, node: int, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("<I", body)
        return self._opened(os.open(self._paths[node], flags & ~(os.O_CREAT | os.O_EXCL | os.O_APPEND)))

    def _create(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        path = self._child(node, body[16:])
        handle = os.open(path, flags & ~os.O_APPEND, stat.S_IMODE(mode))
        return self._entry(path) + self._opened(handle)

    def _opened(self, handle: int) -> bytes:
        # Direct I/O: no page cache of the kernel's between a write and this server.
        return struct.pack("<QII", handle, 1, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(handle, size, offset)

    def _write(self, node: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        return struct.pack("<II", os.pwrite(handle, body[40 : 40 + size], offset), 0)

    def _release(self, node: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def _fsync(self, node: int, body: bytes) -> bytes:
        os.fsync(struct.unpack_from("<Q", body)[0])
        return b""

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        answer = b""
        for place, name in enumerate(sorted(os.listdir(self._paths[node]))):
            raw = os.fsencode(name)
            if place >= offset:
                entry = struct.pack("<QQII", 1, place + 1, len(raw), 0) + raw
                entry += bytes(-len(entry) % 8)
                if len(answer) + len(entry) > size:
                    break
                answer += entry
        return answer

    def _statfs(self, node: int, body: bytes) -> bytes:
        found = os.statvfs(self._paths[1])
        return struct.pack(
            "<5Q4I24x",
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            found.f_bsize,
            255,
            found.f_frsize,
            0,
        )

    def _nothing(self, node: int, body: bytes) -> bytes:
        return b""

    def _nothing_open(self, node: int, body: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2).

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def unmount(target: str) -> None:
    """umount2(2), lazily: what still uses it keeps it until then."""
    ctypes.CDLL(None, use_errno=True).umount2(target.encode(), 2)


def main(folder: str, target: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    mount("passthrough", target, "fuse.passthrough", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
    print("serving", flush=True)
    Passthrough(os.path.abspath(folder), device).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
