"""A task and its image as an OCI runtime configuration (runtime-spec config.json), pure.

What a container gets is what Docker gives it: capabilities, masked paths, mounts, devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.worker.runtime.oci.user import ContainerUser
from swarm.worker.runtime.port import RuntimeRefused, TaskRun

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_US = 100_000
DEFAULT_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
    "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
ALL_CAPABILITIES = (
    *DEFAULT_CAPABILITIES,
    "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH", "IPC_LOCK", "IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN",
    "MAC_OVERRIDE", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
    "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "WAKE_ALARM",
)  # fmt: skip
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
)  # fmt: skip
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# What Docker's profile denies and no capability in the default set allows (docs.docker.com,
# "Seccomp security profiles"); with SYS_ADMIN the second list is allowed.
DENIED_CALLS = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module",
    "finit_module", "get_kernel_syms", "init_module", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "move_pages", "nfsservctl", "open_by_handle_at",
    "perf_event_open", "query_module", "quotactl", "reboot", "request_key", "settimeofday",
    "stime", "swapoff", "swapon", "_sysctl", "sysfs", "uselib", "userfaultfd", "ustat", "vm86",
    "vm86old",
)  # fmt: skip
DENIED_WITHOUT_ADMIN = ("mount", "umount", "umount2", "pivot_root", "setns", "unshare")
CLONE_NEWUSER = 0x10000000
ENOSYS = 38

STANDARD_MOUNTS: tuple[dict[str, Any], ...] = (
    {
        "destination": "/proc",
        "type": "proc",
        "source": "proc",
        "options": ["nosuid", "noexec", "nodev"],
    },
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/sys",
        "type": "sysfs",
        "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"],
    },
    {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": ["ro", "nosuid", "noexec", "nodev"],
    },
    {
        "destination": "/dev/mqueue",
        "type": "mqueue",
        "source": "mqueue",
        "options": ["nosuid", "noexec", "nodev"],
    },
    {
        "destination": "/dev/shm",  # noqa: S108 - the container's
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
)


@dataclass(frozen=True, slots=True)
class BindMount:
    """Something of this machine at a place in the container."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"


@dataclass(frozen=True, slots=True)
class Place:
    """Where on this machine the container is put together."""

    root: str
    cgroup: str
    netns: str
    hostname: str
    binds: Sequence[BindMount]


def runtime_config(
    run: TaskRun, image: Mapping[str, Any], user: ContainerUser, place: Place
) -> dict[str, Any]:
    """`image` is the "config" object of the image's configuration."""
    capabilities = _capabilities(run)
    return {
        "ociVersion": "1.0.2",
        "process": _process(run, image, user, capabilities),
        "root": {"path": place.root, "readonly": run.read_only},
        "hostname": place.hostname,
        "mounts": [*STANDARD_MOUNTS, *_mounts(run, place)],
        "linux": {
            "cgroupsPath": place.cgroup,
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": place.netns},
            ],
            "resources": _resources(run),
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0", **run.sysctls},
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READ_ONLY_PATHS),
            "seccomp": _seccomp("CAP_SYS_ADMIN" in capabilities),
        },
    }


def command_line(run: TaskRun, image: Mapping[str, Any]) -> list[str]:
    """ENTRYPOINT and CMD by Docker's rules: a new entrypoint drops the image's CMD.

    Raises RuntimeRefused where there is nothing to run.
    """
    if run.command:
        argv = [*run.command, *run.args]
    else:
        argv = [*(image.get("Entrypoint") or ()), *(run.args or image.get("Cmd") or ())]
    if run.init:
        argv = ["/sbin/docker-init", "--", *argv]
    if not argv or argv == ["/sbin/docker-init", "--"]:
        raise RuntimeRefused(f'image "{run.image}" has no command: give the service one', "command")
    return argv


def environment(run: TaskRun, image: Mapping[str, Any], hostname: str, home: str) -> list[str]:
    """Docker's own, then the image's, then the task's; a name alone takes a variable away."""
    merged: dict[str, str] = {}
    first = [DEFAULT_PATH, f"HOSTNAME={hostname}", *(["TERM=xterm"] if run.tty else [])]
    for item in [*first, *(image.get("Env") or ()), *run.env]:
        name, equals, value = item.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    merged.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in merged.items()]


def _process(
    run: TaskRun, image: Mapping[str, Any], user: ContainerUser, capabilities: list[str]
) -> dict[str, Any]:
    hostname = run.hostname or default_hostname(run.task_id)
    # A process that is not root gets no capability unless a file gives it (Docker 20.10 on).
    held = capabilities if user.uid == 0 else []
    return {
        "terminal": run.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": command_line(run, image),
        "env": environment(run, image, hostname, user.home),
        "cwd": run.working_dir or image.get("WorkingDir") or "/",
        "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
        "rlimits": [
            {
                "type": f"RLIMIT_{limit.name.upper()}",
                "soft": _rlimit(limit.soft),
                "hard": _rlimit(limit.hard),
            }
            for limit in run.ulimits
        ],
        "oomScoreAdj": run.oom_score_adj,
        "noNewPrivileges": False,
    }


def default_hostname(task_id: str) -> str:
    """As Docker names a container by its id's first twelve characters."""
    return task_id[:12]


def _rlimit(value: int) -> int:
    return value if value >= 0 else 2**64 - 1


def _capabilities(run: TaskRun) -> list[str]:
    def names(listed: Sequence[str], field: str) -> list[str]:
        bare = [name.upper().removeprefix("CAP_") for name in listed]
        for name in bare:
            if name != "ALL" and name not in ALL_CAPABILITIES:
                raise RuntimeRefused(f'there is no capability "{name}"', field)
        return bare

    added, dropped = names(run.cap_add, "cap_add"), names(run.cap_drop, "cap_drop")
    held = set(ALL_CAPABILITIES if "ALL" in added else DEFAULT_CAPABILITIES)
    held -= held if "ALL" in dropped else set(dropped)
    held |= set(added) - {"ALL"}
    return sorted(f"CAP_{name}" for name in held)


def _resources(run: TaskRun) -> dict[str, Any]:
    limits = run.limits
    resources: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    memory = {"limit": limits.memory_bytes, "reservation": limits.memory_reservation_bytes}
    memory = {key: value for key, value in memory.items() if value}
    if limits.memory_and_swap_bytes is not None:
        memory["swap"] = limits.memory_and_swap_bytes
    if limits.swappiness is not None:
        memory["swappiness"] = limits.swappiness
    if memory:
        resources["memory"] = memory
    if limits.nano_cpus:
        quota = limits.nano_cpus * CPU_PERIOD_US // 1_000_000_000
        resources["cpu"] = {"quota": max(quota, 1000), "period": CPU_PERIOD_US}
    if limits.pids:
        resources["pids"] = {"limit": limits.pids}
    return resources


def _mounts(run: TaskRun, place: Place) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {
            "destination": bind.target,
            "type": "bind",
            "source": bind.source,
            "options": ["rbind", bind.propagation, "ro" if bind.read_only else "rw"],
        }
        for bind in place.binds
    ]
    for mount in run.mounts:
        if mount.kind == "tmpfs":
            size = [f"size={mount.tmpfs_size_bytes}"] if mount.tmpfs_size_bytes else []
            options = ["nosuid", "nodev", "noexec", f"mode={mount.tmpfs_mode:o}", *size]
            options += ["ro"] if mount.read_only else []
            mounts.append(
                {
                    "destination": mount.target,
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": options,
                }
            )
    # A mount below another comes after it, whatever the order they were given in.
    return sorted(mounts, key=lambda mount: mount["destination"].rstrip("/").count("/"))


def _seccomp(admin: bool) -> dict[str, Any]:
    denied = [*DENIED_CALLS, *(() if admin else DENIED_WITHOUT_ADMIN)]
    rules: list[dict[str, Any]] = [
        {"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ]
    if not admin:
        flag = {
            "index": 0,
            "value": CLONE_NEWUSER,
            "valueTwo": CLONE_NEWUSER,
            "op": "SCMP_CMP_MASKED_EQ",
        }
        rules += [
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [flag]},
            # Its flags are in memory, out of a filter's sight: programs fall back to clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        ]
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
