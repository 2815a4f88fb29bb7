"""poll_oneoff: waiting for clocks and descriptors together. Files are always ready; the host's streams are asked."""

from __future__ import annotations

import fcntl
import struct
import termios
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Refused, require, store
from tarbox_wasi.descriptors import POLLED_ROOM, Descriptor
from tarbox_wasi.waiting import HUNG_UP, READABLE, WRITABLE

if TYPE_CHECKING:
    from tarbox_wasi.world import World

SUBSCRIPTIONS_MAX: Final = 65536
_INT: Final = struct.Struct("i")


class Event(NamedTuple):
    """In the order of its layout."""

    userdata: int
    error: int
    tag: int
    bytes: int = 0
    flags: int = 0


class Alarm(NamedTuple):
    """A clock's event, due at a host monotonic time in ns."""

    due: int
    event: Event


class Stream(NamedTuple):
    """An event that a stream of the host may bring."""

    host: int
    wanted: int
    event: Event


def poll_oneoff(world: World, memory: memoryview, subscriptions: int, events: int, count: int, count_at: int) -> int:
    """Events of what has come to pass, one of each such subscription; at least one. INVAL without subscriptions, or with too many; INTR."""
    if not 0 < count <= SUBSCRIPTIONS_MAX:
        raise Refused(Errno.INVAL)
    require(memory, subscriptions, count * abi.SUBSCRIPTION.size)
    require(memory, events, count * abi.EVENT.size)
    require(memory, count_at, abi.SIZE.size)
    happened: list[Event] = []
    alarms: list[Alarm] = []
    streams: list[Stream] = []
    for userdata, tag, what in abi.SUBSCRIPTION.iter_unpack(memory[subscriptions : subscriptions + count * abi.SUBSCRIPTION.size]):
        event = Event(userdata, Errno.SUCCESS, tag)
        try:
            if tag == abi.EVENT_CLOCK:
                alarms.append(Alarm(_due(world, *abi.SUBSCRIPTION_CLOCK.unpack(what)), event))
                continue
            descriptor = _polled(world, tag, *abi.SUBSCRIPTION_FD.unpack(what))
            ready = descriptor.ready(tag == abi.EVENT_FD_WRITE)
        except Refused as refused:
            happened.append(event._replace(error=refused.code))
            continue
        if ready is None:
            streams.append(Stream(descriptor.stream, WRITABLE if tag == abi.EVENT_FD_WRITE else READABLE, event))
        else:
            happened.append(event._replace(bytes=ready))
    happened += _wait(world, alarms, streams, wait=not happened)
    for number, event in enumerate(happened):
        store(abi.EVENT, memory, events + number * abi.EVENT.size, *event)
    store(abi.SIZE, memory, count_at, len(happened))
    return Errno.SUCCESS


def _due(world: World, clock: int, timeout: int, precision: int, flags: int) -> int:
    """When a clock gets there, as a host monotonic time. INVAL for a clock that nobody can wait for."""
    if clock not in (abi.CLOCK_REALTIME, abi.CLOCK_MONOTONIC) or flags & ~abi.SUBSCRIPTION_ABSTIME:
        raise Refused(Errno.INVAL)
    now = time.monotonic_ns()
    if not flags:
        return now + timeout
    return timeout + (world.monotonic_zero if clock == abi.CLOCK_MONOTONIC else now - time.time_ns())


def _polled(world: World, tag: int, fd: int) -> Descriptor:
    if tag not in (abi.EVENT_FD_READ, abi.EVENT_FD_WRITE):
        raise Refused(Errno.INVAL)
    return world.descriptors.get(fd, abi.POLL_FD_READWRITE | (abi.FD_WRITE if tag == abi.EVENT_FD_WRITE else abi.FD_READ))


def _wait(world: World, alarms: list[Alarm], streams: list[Stream], *, wait: bool) -> list[Event]:
    """What streams and alarms bring: what is there, and with `wait` the first that comes."""
    files: dict[int, int] = {}
    for stream in streams:
        files[stream.host] = files.get(stream.host, 0) | stream.wanted
    until = min((alarm.due for alarm in alarms), default=None) if wait else 0
    with world.unlocked():
        ready = world.waiter.wait(files, until)
    if ready is None:
        raise Refused(Errno.INTR)
    brought = [(stream, ready.get(stream.host, 0) & ~((READABLE | WRITABLE) ^ stream.wanted)) for stream in streams]
    now = time.monotonic_ns()
    return [_of_stream(stream, signs) for stream, signs in brought if signs] + [alarm.event for alarm in alarms if alarm.due <= now]


def _of_stream(stream: Stream, signs: int) -> Event:
    if stream.wanted == WRITABLE:
        size = POLLED_ROOM
    else:
        try:
            size = _INT.unpack(fcntl.ioctl(stream.host, termios.FIONREAD, bytes(_INT.size)))[0]
        except OSError:
            size = 1  # something is there, or the end
    return stream.event._replace(bytes=size, flags=abi.HANGUP if signs & HUNG_UP else 0)
