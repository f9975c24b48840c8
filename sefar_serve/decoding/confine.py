"""What a decode process gives up before it reads the first byte of a stranger's video.

Resource limits hold on every system. On Linux, a seccomp filter takes away the system calls that reach beyond the
process, and Landlock the files of this machine. Both need no privileges; a kernel may lack either.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_FILTER_MODE = 2

_OPEN_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000  # the last is O_TMPFILE's own bit
_CLONE_THREAD = 0x10000

# Numbers of system calls: x86_64, aarch64 (0 where it has none).
_REFUSED = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, 0),
    "vfork": (58, 0),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "ioprio_set": (251, 30),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "creat": (85, 0),
    "truncate": (76, 45),
    "mkdir": (83, 0),
    "mkdirat": (258, 34),
    "mknod": (133, 0),
    "mknodat": (259, 33),
    "link": (86, 0),
    "linkat": (265, 37),
    "symlink": (88, 0),
    "symlinkat": (266, 36),
    "unlink": (87, 0),
    "unlinkat": (263, 35),
    "rmdir": (84, 0),
    "rename": (82, 0),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "chmod": (90, 0),
    "fchmodat": (268, 53),
    "chown": (92, 0),
    "fchownat": (260, 54),
}
# Their arguments are in memory, which a filter cannot read; callers fall back to the older ones.
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437)}
# The argument that decides, and the numbers.
_WRITING = {"open": (1, (2, 0)), "openat": (2, (257, 56))}
# Allowed on this process: its id is the first argument, or 0 for limits.
_ON_ITSELF = {"kill": (62, 129), "tgkill": (234, 131)}
_ON_ZERO = {"prlimit64": (302, 261)}
_CLONE = (56, 220)

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
"""Numbers from here on are those of another interface on x86_64."""

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_O_PATH = 0o10000000


def limit_resources(memory: int, *, writes: bool) -> None:
    """Limit what this process may use from now on.

    Args:
        memory: bytes of address space beyond those that it has. Only Linux keeps this limit.
        writes: whether it may write files.
    """
    _lower(resource.RLIMIT_CORE, 0)
    if not writes:
        _lower(resource.RLIMIT_FSIZE, 0)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def limit_cpu(seconds: float) -> None:
    """Limit the CPU time of this process from now on; it is killed after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that forked it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def confine() -> tuple[str, ...]:
    """Give up the network, other processes and the file system, where the kernel allows it. Cannot be undone.

    Code of Python and of libraries can still be read, files that are open can be used, and threads can be started.

    Returns:
        Which protections hold: ``landlock``, ``seccomp``.
    """
    if sys.platform != "linux":
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ()
    held = []
    if _hide_files(libc, _code_folders()):
        held.append("landlock")
    if _filter_calls(libc):
        held.append("seccomp")
    return tuple(held)


def _lower(which: int, to: int) -> None:
    _, hard = resource.getrlimit(which)
    bound = to if hard == resource.RLIM_INFINITY else min(to, hard)
    resource.setrlimit(which, (bound, bound))


def _code_folders() -> list[str]:
    """Where modules and libraries are that may be loaded late."""
    paths = sysconfig.get_paths()
    named = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return sorted(named | {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"})


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter_calls(libc: ctypes.CDLL) -> bool:
    if platform.machine() not in _MACHINES or sys.byteorder != "little":
        return False
    column, machine = _MACHINES[platform.machine()]
    code = _filter(column, machine)
    steps = (ctypes.c_uint64 * len(code))(*code)
    program = _Program(len(code), ctypes.addressof(steps))
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0) == 0)


def _filter(column: int, machine: int) -> list[int]:
    """The filter: classic BPF, each step as `struct sock_filter` in a number."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> int:
        return code | if_true << 16 | if_false << 24 | value << 32

    def argument(number: int) -> int:
        return step(_LOAD, 16 + 8 * number)  # its lower half

    refuse, allow = step(_RETURN, _ERRNO | errno.EPERM), step(_RETURN, _ALLOW)
    found = [step(_LOAD, 4), step(_EQUAL, machine, 1, 0), step(_RETURN, _KILL), step(_LOAD, 0)]
    if column == 0:
        found += [step(_AT_LEAST, _X32, 0, 1), refuse]
    for numbers in _REFUSED.values():
        if numbers[column]:
            found += [step(_EQUAL, numbers[column], 0, 1), refuse]
    for numbers in _UNKNOWN.values():
        found += [step(_EQUAL, numbers[column], 0, 1), step(_RETURN, _ERRNO | errno.ENOSYS)]
    for at, numbers in _WRITING.values():
        if numbers[column]:
            inner = [argument(at), step(_ANY_BIT, _OPEN_FOR_WRITING, 0, 1), refuse, allow]
            found += [step(_EQUAL, numbers[column], 0, len(inner)), *inner]
    for table, target in ((_ON_ITSELF, os.getpid()), (_ON_ZERO, 0)):
        for numbers in table.values():
            inner = [argument(0), step(_EQUAL, target, 1, 0), refuse, allow]
            found += [step(_EQUAL, numbers[column], 0, len(inner)), *inner]
    inner = [argument(0), step(_ANY_BIT, _CLONE_THREAD, 1, 0), refuse, allow]
    found += [step(_EQUAL, _CLONE[column], 0, len(inner)), *inner]
    return [*found, allow]


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def _hide_files(libc: ctypes.CDLL, readable: Iterable[str]) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << 13) - 1  # all of the first version; later ones add a right each
    rights |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0) | (1 << 15 if version >= 5 else 0)
    rules = _Ruleset(rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            try:
                folder = os.open(path, _O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # this system has no such folder
            try:
                rule = _Beneath(_READ_FILE | _READ_DIR, folder)
                libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
            finally:
                os.close(folder)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
