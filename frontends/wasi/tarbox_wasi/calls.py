"""The calls of WASI preview1 that are ours, one row each: the letters of its parameters, and who serves it.

Not here, because wasmtime's own serve as well: clocks, randomness, sched_yield, proc_exit and proc_raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tarbox_wasi import files, paths, polling, surroundings


class Call(NamedTuple):
    """`params`: "i" for an i32, "l" for an i64. The handler takes the world, the memory and these, unsigned; its result is an i32 errno."""

    params: str
    handler: Callable[..., int]


CALLS: Final[Mapping[str, Call]] = {
    "args_get": Call("ii", surroundings.args_get),
    "args_sizes_get": Call("ii", surroundings.args_sizes_get),
    "environ_get": Call("ii", surroundings.environ_get),
    "environ_sizes_get": Call("ii", surroundings.environ_sizes_get),
    "fd_advise": Call("illi", files.fd_advise),
    "fd_allocate": Call("ill", files.fd_allocate),
    "fd_close": Call("i", files.fd_close),
    "fd_datasync": Call("i", files.fd_datasync),
    "fd_fdstat_get": Call("ii", files.fd_fdstat_get),
    "fd_fdstat_set_flags": Call("ii", files.fd_fdstat_set_flags),
    "fd_fdstat_set_rights": Call("ill", files.fd_fdstat_set_rights),
    "fd_filestat_get": Call("ii", files.fd_filestat_get),
    "fd_filestat_set_size": Call("il", files.fd_filestat_set_size),
    "fd_filestat_set_times": Call("illi", files.fd_filestat_set_times),
    "fd_pread": Call("iiili", files.fd_pread),
    "fd_prestat_dir_name": Call("iii", files.fd_prestat_dir_name),
    "fd_prestat_get": Call("ii", files.fd_prestat_get),
    "fd_pwrite": Call("iiili", files.fd_pwrite),
    "fd_read": Call("iiii", files.fd_read),
    "fd_readdir": Call("iiili", files.fd_readdir),
    "fd_renumber": Call("ii", files.fd_renumber),
    "fd_seek": Call("ilii", files.fd_seek),
    "fd_sync": Call("i", files.fd_sync),
    "fd_tell": Call("ii", files.fd_tell),
    "fd_write": Call("iiii", files.fd_write),
    "path_create_directory": Call("iii", paths.path_create_directory),
    "path_filestat_get": Call("iiiii", paths.path_filestat_get),
    "path_filestat_set_times": Call("iiiilli", paths.path_filestat_set_times),
    "path_link": Call("iiiiiii", paths.path_link),
    "path_open": Call("iiiiillii", paths.path_open),
    "path_readlink": Call("iiiiii", paths.path_readlink),
    "path_remove_directory": Call("iii", paths.path_remove_directory),
    "path_rename": Call("iiiiii", paths.path_rename),
    "path_symlink": Call("iiiii", paths.path_symlink),
    "path_unlink_file": Call("iii", paths.path_unlink_file),
    "poll_oneoff": Call("iiii", polling.poll_oneoff),
    "sock_accept": Call("iii", files.sock_accept),
    "sock_recv": Call("iiiiii", files.sock_recv),
    "sock_send": Call("iiiii", files.sock_send),
    "sock_shutdown": Call("ii", files.sock_shutdown),
}
