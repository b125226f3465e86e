"""The fields that Docker's JSON leaves out where they are empty, with what they are then.

Docker's client evaluates templates over its own types, in which such a field is there:
`{{if .ManagerStatus}}` is false on a worker, and `{{.Slot}}` is 0 for a global service's task. A
name stands for the same kind of value wherever it occurs.
"""

from __future__ import annotations

from collections.abc import Mapping

_POINTERS = (
    "BindOptions", "CompletedAt", "ContainerStatus", "DNSConfig", "Delay", "EndpointSpec", "Global",
    "GlobalJob", "Healthcheck", "Init", "JobIteration", "JobStatus", "Limits", "LogDriver",
    "ManagerStatus", "MaxAttempts", "Placement", "PreviousSpec", "Privileges", "Replicas",
    "Replicated", "ReplicatedJob", "Reservations", "Resources", "RestartPolicy", "RollbackConfig",
    "ServiceStatus", "StartedAt", "StopGracePeriod", "TmpfsOptions", "UpdateConfig", "UpdateStatus",
    "VolumeOptions", "Window",
)  # fmt: skip
_TEXTS = (
    "Addr", "Architecture", "Condition", "Dir", "EngineVersion", "Err", "FailureAction", "Hostname",
    "Image", "Isolation", "Message", "Mode", "Name", "NodeID", "OS", "Order", "Propagation",
    "Protocol", "PublishMode", "Reachability", "Runtime", "ServiceID", "Source", "State",
    "StopSignal", "Target", "Type", "User",
)  # fmt: skip
_NUMBERS = (
    "ExitCode", "ForceUpdate", "MaxFailureRatio", "MaxReplicas", "MemoryBytes", "Monitor",
    "NanoCPUs", "OomScoreAdj", "PID", "Parallelism", "Pids", "PublishedPort", "Slot", "TargetPort",
)  # fmt: skip
_SWITCHES = ("Leader", "OpenStdin", "ReadOnly", "TTY")
_LISTS = (
    "Args", "CapabilityAdd", "CapabilityDrop", "Command", "Configs", "Constraints", "Env",
    "GenericResources", "Groups", "Hosts", "Mounts", "Nameservers", "Networks",
    "NetworksAttachments", "Options", "Platforms", "Plugins", "Ports", "Preferences", "Search",
    "Secrets", "Test", "Ulimits", "VirtualIPs", "Volumes",
)  # fmt: skip
_MAPS = ("Labels", "Sysctls")

OMITTED: Mapping[str, object] = {
    **dict.fromkeys(_TEXTS, ""),
    **dict.fromkeys(_NUMBERS, 0),
    **dict.fromkeys(_SWITCHES, False),
    **dict.fromkeys(_POINTERS),
    **{name: list[object]() for name in _LISTS},
    **{name: dict[str, object]() for name in _MAPS},
}
