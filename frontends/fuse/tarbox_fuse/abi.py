"""The numbers and layouts of the kernel's FUSE protocol, 7.x, as <linux/fuse.h> fixes them. No behaviour.

All layouts are in the machine's byte order and without padding beyond what is spelled out. Times are read as signed
seconds, as the kernel does, so that dates before 1970 survive.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

MAJOR: Final = 7
MINOR: Final = 40  # the newest minor whose messages we know
ROOT_ID: Final = 1
PAGE: Final = 4096
MIN_READ_BUFFER: Final = 8192

# --- opcodes
LOOKUP: Final = 1
FORGET: Final = 2
GETATTR: Final = 3
SETATTR: Final = 4
READLINK: Final = 5
SYMLINK: Final = 6
MKNOD: Final = 8
MKDIR: Final = 9
UNLINK: Final = 10
RMDIR: Final = 11
RENAME: Final = 12
LINK: Final = 13
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
STATFS: Final = 17
RELEASE: Final = 18
FSYNC: Final = 20
SETXATTR: Final = 21
GETXATTR: Final = 22
LISTXATTR: Final = 23
REMOVEXATTR: Final = 24
FLUSH: Final = 25
INIT: Final = 26
OPENDIR: Final = 27
READDIR: Final = 28
RELEASEDIR: Final = 29
FSYNCDIR: Final = 30
ACCESS: Final = 34
CREATE: Final = 35
INTERRUPT: Final = 36
DESTROY: Final = 38
IOCTL: Final = 39
BATCH_FORGET: Final = 42
FALLOCATE: Final = 43
READDIRPLUS: Final = 44
RENAME2: Final = 45
LSEEK: Final = 46
COPY_FILE_RANGE: Final = 47
SYNCFS: Final = 50

# --- INIT flags; bits from 32 on travel in flags2, and only when INIT_EXT is set
ASYNC_READ: Final = 1 << 0
ATOMIC_O_TRUNC: Final = 1 << 3
EXPORT_SUPPORT: Final = 1 << 4
BIG_WRITES: Final = 1 << 5
AUTO_INVAL_DATA: Final = 1 << 12
DO_READDIRPLUS: Final = 1 << 13
READDIRPLUS_AUTO: Final = 1 << 14
ASYNC_DIO: Final = 1 << 15
WRITEBACK_CACHE: Final = 1 << 16
PARALLEL_DIROPS: Final = 1 << 18
MAX_PAGES: Final = 1 << 22
CACHE_SYMLINKS: Final = 1 << 23
HANDLE_KILLPRIV_V2: Final = 1 << 28
INIT_EXT: Final = 1 << 30

# --- flags within requests and replies
FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_FH: Final = 1 << 6
FATTR_ATIME_NOW: Final = 1 << 7
FATTR_MTIME_NOW: Final = 1 << 8
FATTR_CTIME: Final = 1 << 10
FATTR_KILL_SUIDGID: Final = 1 << 11

FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_NOFLUSH: Final = 1 << 5

OPEN_KILL_SUIDGID: Final = 1 << 0
WRITE_CACHE: Final = 1 << 0  # from the page cache: the handle is a guess, its O_APPEND means nothing
WRITE_KILL_SUIDGID: Final = 1 << 2

# --- layouts
IN_HEADER: Final = Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen in 8-byte units, padding
OUT_HEADER: Final = Struct("=IiQ")  # len, -errno, unique

_ATTR = "QQQqqqIIIIIIIIII"  # ino, size, blocks, atime, mtime, ctime, their ns, mode, nlink, uid, gid, rdev, blksize, flags
_ENTRY = "QQQQII" + _ATTR  # nodeid, generation, entry_valid, attr_valid, their ns, attr
ENTRY_OUT: Final = Struct("=" + _ENTRY)
ATTR_OUT: Final = Struct("=QII" + _ATTR)  # attr_valid, ns, dummy, attr
OPEN_OUT: Final = Struct("=QIi")  # fh, open_flags, backing_id
CREATE_OUT: Final = Struct("=" + _ENTRY + "QIi")  # an entry, then an open
DIRENT: Final = Struct("=QQII")  # ino, off, namelen, type; then the name, padded to 8
DIRENTPLUS: Final = Struct("=" + _ENTRY + "QQII")
WRITE_OUT: Final = Struct("=II")  # size, padding
GETXATTR_OUT: Final = Struct("=II")  # size, padding
LSEEK_OUT: Final = Struct("=Q")
STATFS_OUT: Final = Struct("=QQQQQIIII24x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding, spare
INIT_OUT: Final = Struct("=IIIIHHIIHHI28x")  # major, minor, max_readahead, flags, max_background, congestion_threshold,
#                                              max_write, time_gran, max_pages, map_alignment, flags2, unused

INIT_IN: Final = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_IN_EXT: Final = Struct("=IIIII44x")  # and flags2, unused
FORGET_IN: Final = Struct("=Q")  # nlookup
BATCH_FORGET_IN: Final = Struct("=I4x")  # count; then that many FORGET_ONE
FORGET_ONE: Final = Struct("=QQ")  # nodeid, nlookup
GETATTR_IN: Final = Struct("=I4xQ")  # flags, fh
SETATTR_IN: Final = Struct("=I4xQQQqqqIIII4xII4x")  # valid, fh, size, lock_owner, atime, mtime, ctime, their ns, mode, uid, gid
MKNOD_IN: Final = Struct("=III4x")  # mode, rdev, umask
MKDIR_IN: Final = Struct("=II")  # mode, umask
RENAME_IN: Final = Struct("=Q")  # newdir
RENAME2_IN: Final = Struct("=QI4x")  # newdir, flags
LINK_IN: Final = Struct("=Q")  # oldnodeid
OPEN_IN: Final = Struct("=II")  # flags of open(2), open_flags
CREATE_IN: Final = Struct("=IIII")  # flags of open(2), mode, umask, open_flags
RELEASE_IN: Final = Struct("=QIIQ")  # fh, flags, release_flags, lock_owner
FLUSH_IN: Final = Struct("=Q8xQ")  # fh, lock_owner
READ_IN: Final = Struct("=QQIIQI4x")  # fh, offset, size, read_flags, lock_owner, flags
WRITE_IN: Final = Struct("=QQIIQI4x")  # fh, offset, size, write_flags, lock_owner, flags of open(2); then the data
FSYNC_IN: Final = Struct("=QI4x")  # fh, fsync_flags
SETXATTR_IN: Final = Struct("=II")  # size, flags; then name NUL value (the longer form is not negotiated)
GETXATTR_IN: Final = Struct("=I4x")  # size of the caller's buffer, 0 to ask for the length
ACCESS_IN: Final = Struct("=I4x")  # mask
INTERRUPT_IN: Final = Struct("=Q")  # unique of the request meant
IOCTL_IN: Final = Struct("=QIIQII")  # fh, flags, cmd, arg, in_size, out_size
FALLOCATE_IN: Final = Struct("=QQQI4x")  # fh, offset, length, mode
LSEEK_IN: Final = Struct("=QQI4x")  # fh, offset, whence
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")  # fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
