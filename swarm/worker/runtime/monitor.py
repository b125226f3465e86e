"""The monitor: a small process that outlives swarmd and looks after one task each.

Run by path (`python -I -S monitor.py`), it imports nothing of the package. What runs first is the
spawner: it reads the path of a task's directory per line on stdin, forks a monitor for it, and ends
at the end of stdin. A forked monitor costs 1 ms and shares its memory with the spawner.

A monitor has its own session and is the subreaper of its task, so it sees the end of everything the
task leaves behind. In the task's directory it reads `launch.json` and writes, each by rename:

    monitor.json  {"pid", "start_time"}                  while it lives it holds a lock on `lock`
    started.json  {"pid", "start_time", "started_at_ns"}
    log           one line a record: `<unix ns> <o|e> <F|P> <text>`, P where a line goes on
    exit.json     {"exit_code", "finished_at_ns", "oom", "message"}   on disk before it ends

On the spawner's stdout stands `forked <pid> <directory>`, and later, from the monitor itself,
`settled <directory>`: the task has started or could not be.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import pty
import resource
import selectors
import signal
import socket
import subprocess
import sys
import termios
import time
from typing import Any

LINE_BYTES_MAX = 16 * 1024
READ_BYTES = 64 * 1024
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)


def main() -> None:
    """The spawner: forks a monitor for each line of stdin."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    gc.freeze()
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    for line in requests:
        pid = os.fork()
        if pid == 0:
            _become_monitor(os.fsdecode(line.rstrip(b"\n")))
        os.write(1, b"forked %d %b" % (pid, line))


def _become_monitor(directory: str) -> None:
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        speaker = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _libc.prctl(PR_SET_NAME, b"swarm-monitor", 0, 0, 0)
        monitor = Monitor(directory, speaker)
        if monitor.take():
            monitor.run()
        status = 0
    finally:
        os._exit(status)


class Monitor:
    """Starts the task of one directory and stays until it has ended."""

    def __init__(self, directory: str, speaker: int) -> None:
        self._directory = directory
        self._speaker = speaker
        self._launch: dict[str, Any] = {}
        self._kept: list[int] = []  # descriptors held open until the end

    def take(self) -> bool:
        """Whether this process is now the task's only monitor and it has never had one."""
        lock = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if os.path.exists(self._path("monitor.json")):  # noqa: PTH110 - pathlib is slow to import
            return False
        self._kept.append(lock)
        return True

    def run(self) -> None:
        pid = os.getpid()
        self._write("monitor.json", {"pid": pid, "start_time": start_time(pid)})
        try:
            with open(self._path("launch.json"), "rb") as file:  # noqa: PTH123
                self._launch = json.load(file)
            task, streams = self._start()
        except (OSError, ValueError, KeyError, subprocess.SubprocessError, StartError) as error:
            self._ended(None, False, reason(error))
            self._tell()
            return
        self._write(
            "started.json",
            {"pid": task, "start_time": start_time(task), "started_at_ns": time.time_ns()},
        )
        self._tell()
        log = Log(self._path("log"), self._launch["log_bytes_max"], self._launch["log_files_max"])
        code = Relay(task, streams, log).run()
        log.close()
        self._ended(code, self._was_oom(), "")

    def _start(self) -> tuple[int, dict[int, bytes]]:
        if self._launch["kind"] == "oci":
            return self._start_oci()
        return self._start_process()

    def _start_process(self) -> tuple[int, dict[int, bytes]]:
        launch = self._launch
        child, streams = self._stdio(launch["tty"])
        process = subprocess.Popen(
            launch["argv"],
            env=dict(item.split("=", 1) for item in launch["env"]),
            cwd=launch["working_dir"] or "/",
            stdin=child[0],
            stdout=child[1],
            stderr=child[2],
            start_new_session=True,
            preexec_fn=self._settle,
        )
        for end in set(child):
            os.close(end)
        process.returncode = 0  # reaped by Relay
        return process.pid, streams

    def _settle(self) -> None:
        """In the child, just before it becomes the task."""
        launch = self._launch
        if launch["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number, soft, hard in launch["rlimits"]:
            resource.setrlimit(number, (soft, hard))
        if launch["oom_score_adj"]:
            with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
                file.write(str(launch["oom_score_adj"]))
        if launch["user"]:
            uid, gid, groups = launch["user"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        # After setuid, which would clear it: a task does not outlive its monitor.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def _stdio(self, tty: bool) -> tuple[tuple[int, int, int], dict[int, bytes]]:
        """The child's stdin, stdout, stderr, and our ends to read from."""
        if tty:
            ours, theirs = pty.openpty()
            os.set_inheritable(theirs, False)
            return (theirs, theirs, theirs), {ours: b"o"}
        if self._launch["open_stdin"]:
            stdin, kept = os.pipe()
            self._kept.append(kept)
        else:
            stdin = os.open(os.devnull, os.O_RDONLY)
        out_ours, out_theirs = os.pipe()
        err_ours, err_theirs = os.pipe()
        return (stdin, out_theirs, err_theirs), {out_ours: b"o", err_ours: b"e"}

    def _start_oci(self) -> tuple[int, dict[int, bytes]]:
        """Runs the OCI runtime, which leaves the container's first process to us to reap."""
        launch = self._launch
        child, streams = self._stdio(False)
        listener: socket.socket | None = None
        if launch["tty"]:
            listener = socket.socket(socket.AF_UNIX)
            # By a relative name: a socket's path may have 108 bytes at most.
            os.chdir(self._directory)
            listener.bind("console")
            listener.listen(1)
        process = subprocess.Popen(
            launch["argv"],
            env=dict(item.split("=", 1) for item in launch["env"]),
            cwd=self._directory,
            stdin=child[0],
            stdout=child[1],
            stderr=child[2],
        )
        for end in set(child):
            os.close(end)
        code = process.wait()
        if code != 0:
            raise StartError(self._oci_error(streams, code))
        if listener is not None:
            streams = {self._console(listener): b"o"}
            os.unlink("console")  # noqa: PTH108
        with open(self._path("pid")) as file:  # noqa: PTH123
            return int(file.read()), streams

    def _console(self, listener: socket.socket) -> int:
        connection, _ = listener.accept()
        _, descriptors, _, _ = socket.recv_fds(connection, 1024, 1)
        connection.close()
        listener.close()
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]

    def _oci_error(self, streams: dict[int, bytes], code: int) -> str:
        said = b""
        for stream in streams:
            os.set_blocking(stream, False)
            try:
                said += os.read(stream, READ_BYTES)
            except OSError:
                continue
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"the OCI runtime ended with {code}"

    def _was_oom(self) -> bool:
        for path in self._launch["oom_files"]:
            try:
                with open(path) as file:  # noqa: PTH123
                    counters = dict(line.split()[:2] for line in file if " " in line)
            except (OSError, ValueError):
                continue
            if int(counters.get("oom_kill", "0")) > 0:
                return True
        return False

    def _ended(self, code: int | None, oom: bool, message: str) -> None:
        self._write(
            "exit.json",
            {
                "exit_code": code,
                "finished_at_ns": time.time_ns(),
                "oom": oom,
                "message": message,
            },
            sync=True,
        )

    def _tell(self) -> None:
        try:
            os.write(self._speaker, b"settled %b\n" % os.fsencode(self._directory))
        except OSError:
            pass  # the agent is gone; the files tell the next one
        os.close(self._speaker)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _write(self, name: str, content: dict[str, Any], sync: bool = False) -> None:
        path = self._path(name)
        fresh = f"{path}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(descriptor, json.dumps(content).encode())
        if sync:
            os.fsync(descriptor)
        os.close(descriptor)
        os.rename(fresh, path)  # noqa: PTH104
        if sync:
            directory = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(directory)
            os.close(directory)


class Relay:
    """Brings what the task writes into the log, reaps, and ends with the task."""

    def __init__(self, task: int, streams: dict[int, bytes], log: Log) -> None:
        self._task = task
        self._log = log
        self._code: int | None = None
        self._selector = selectors.EpollSelector()
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        for descriptor, stream in streams.items():
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, Lines(stream))

    def run(self) -> int:
        """The task's exit code, 128 + n after signal n."""
        self._reap()  # it may have ended before the handler was there
        while self._code is None:
            for key, _ in self._selector.select():
                if key.fd == self._wake:
                    os.read(self._wake, READ_BYTES)
                    self._reap()
                else:
                    self._read(key.fd, key.data)
        self._end_descendants()
        for key in list(self._selector.get_map().values()):
            if key.fd != self._wake:
                while self._read(key.fd, key.data):
                    pass
                self._log.append(key.data.rest())
        return self._code

    def _read(self, descriptor: int, lines: Lines) -> bool:
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # the other side of a terminal is closed
            data = b""
        if data:
            self._log.append(lines.feed(data, time.time_ns()))
            return True
        self._log.append(lines.rest())
        self._selector.unregister(descriptor)
        os.close(descriptor)
        return False

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._task:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code

    def _end_descendants(self) -> None:
        """What a task leaves behind dies with it; orphans become our children one by one."""
        children = f"/proc/self/task/{os.getpid()}/children"
        while True:
            try:
                with open(children) as file:  # noqa: PTH123
                    for pid in file.read().split():
                        os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
            except OSError:
                return
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


class Lines:
    """Cuts one stream into records of the log."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._kept = b""
        self._time_ns = 0

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """The records that are complete now."""
        lines = (self._kept + data).split(b"\n")
        self._kept = lines.pop()
        self._time_ns = now_ns
        head = b"%d %b " % (now_ns, self._stream)
        records: list[bytes] = []
        for line in lines:
            text = line
            while len(text) > LINE_BYTES_MAX:
                records.append(b"%bP %b\n" % (head, text[:LINE_BYTES_MAX]))
                text = text[LINE_BYTES_MAX:]
            records.append(b"%bF %b\n" % (head, text))
        while len(self._kept) >= LINE_BYTES_MAX:
            records.append(b"%bP %b\n" % (head, self._kept[:LINE_BYTES_MAX]))
            self._kept = self._kept[LINE_BYTES_MAX:]
        return b"".join(records)

    def rest(self) -> bytes:
        """The last line, if it had no end."""
        text, self._kept = self._kept, b""
        return b"%d %b P %b\n" % (self._time_ns, self._stream, text) if text else b""


class Log:
    """The log on disk: `log`, and older ones `log.1`, `log.2`, ... up to the number wanted."""

    def __init__(self, path: str, bytes_max: int, files_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size

    def append(self, records: bytes) -> None:
        if not records:
            return
        try:
            if self._size and self._size + len(records) > self._bytes_max:
                self._rotate()
            self._size += os.write(self._descriptor, records)
        except OSError:
            pass  # a full disk costs log lines, and must not stop the task

    def _rotate(self) -> None:
        os.close(self._descriptor)
        names = [self._path] + [f"{self._path}.{n}" for n in range(1, self._files_max)]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if os.path.exists(newer):  # noqa: PTH110
                os.replace(newer, older)  # noqa: PTH105
        if len(names) == 1:
            os.unlink(self._path)  # noqa: PTH108
        self._open()

    def close(self) -> None:
        os.close(self._descriptor)


class StartError(Exception):
    """The OCI runtime could not start the container; it said why."""


def _wake(_number: int, _frame: object) -> None:
    """The signal's byte in the wakeup pipe is all that is wanted of it."""


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with its pid, its identity (proc(5))."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return int(file.read().rpartition(b")")[2].split()[19])


def reason(error: Exception) -> str:
    """One line for the user."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        return f'cannot run "{error.filename}": {error.strerror}'
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
