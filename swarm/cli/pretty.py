"""`inspect --pretty`: Engine API objects for people, in the layout of Docker's client. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from swarm.units import NS_PER_SECOND, bytes_size, format_cpus, format_duration, human_duration

Json = Mapping[str, Any]


def service_text(service: Json, now_ns: int) -> str:
    spec: Json = service["Spec"]
    task: Json = spec["TaskTemplate"]
    lines = ["", f"ID:\t\t{service['ID']}", f"Name:\t\t{spec['Name']}"]
    if spec["Labels"]:
        lines += ["Labels:", *(f" {_pair(k, v)}" for k, v in sorted(spec["Labels"].items()))]
    lines += _mode(spec["Mode"]) + _update_status(service.get("UpdateStatus"), now_ns)
    lines += _placement(task.get("Placement", {}))
    lines += _update("UpdateConfig", "Update order:      ", spec.get("UpdateConfig"))
    lines += _update("RollbackConfig", "Rollback order:    ", spec.get("RollbackConfig"))
    lines += _container(task["ContainerSpec"])
    lines += _log_driver(task.get("LogDriver"))
    lines += _resources(task.get("Resources"))
    lines.append(f"Endpoint Mode:\t{spec.get('EndpointSpec', {}).get('Mode', '')}")
    lines += _ports(service["Endpoint"].get("Ports", []))
    lines += _health(task["ContainerSpec"].get("Healthcheck"))
    return "\n".join(lines) + "\n\n"


def _pair(key: str, value: str) -> str:
    return f"{key}={value}" if value else key


def _mode(mode: Json) -> list[str]:
    if "Global" in mode:
        return ["Service Mode:\tGlobal"]
    if "GlobalJob" in mode:
        return ["Service Mode:\tGlobalJob"]
    if "ReplicatedJob" in mode:
        job = mode["ReplicatedJob"]
        return [
            "Service Mode:\tReplicatedJob",
            f" Max Concurrent:\t{job['MaxConcurrent']}",
            f" Total Completions:\t{job['TotalCompletions']}",
        ]
    replicas = mode.get("Replicated", {}).get("Replicas")
    return ["Service Mode:\tReplicated", f" Replicas:\t{replicas}"]


def _update_status(status: Json | None, now_ns: int) -> list[str]:
    if status is None:
        return []
    lines = ["UpdateStatus:", f" State:\t\t{status['State']}"]
    if "StartedAt" in status:
        lines.append(f" Started:\t{_ago(status['StartedAt'], now_ns)}")
    if status["State"] == "completed" and "CompletedAt" in status:
        lines.append(f" Completed:\t{_ago(status['CompletedAt'], now_ns)}")
    return [*lines, f" Message:\t{status['Message']}"]


def _ago(moment: str, now_ns: int) -> str:
    at_ns = int(datetime.fromisoformat(moment).timestamp() * NS_PER_SECOND)
    return f"{human_duration(max(0, now_ns - at_ns)).lower()} ago"


def _placement(placement: Json) -> list[str]:
    lines = ["Placement:"]
    constraints = placement.get("Constraints", [])
    if constraints:
        lines.append(f" Constraints:\t[{' '.join(constraints)}]")
    spreads = [
        f"spread={p['Spread']['SpreadDescriptor']}" for p in placement.get("Preferences", [])
    ]
    if spreads:
        lines.append(f" Preferences:   [{' '.join(spreads)}]")
    if placement.get("MaxReplicas"):
        lines.append(f" Max Replicas Per Node:   {placement['MaxReplicas']}")
    return lines


def _update(title: str, order: str, config: Json | None) -> list[str]:
    if config is None:
        return []
    lines = [f"{title}:", f" Parallelism:\t{config['Parallelism']}"]
    if config.get("Delay"):
        lines.append(f" Delay:\t\t{format_duration(config['Delay'])}")
    lines.append(f" On failure:\t{config['FailureAction']}")
    if config.get("Monitor"):
        lines.append(f" Monitoring Period: {format_duration(config['Monitor'])}")
    lines.append(f" Max failure ratio: {config['MaxFailureRatio']}")
    return [*lines, f" {order}{config['Order']}"]


def _container(container: Json) -> list[str]:
    lines = ["ContainerSpec:", f" Image:\t\t{container.get('Image', '')}"]
    for title, key in (("Args", "Args"), ("Env", "Env")):
        if container.get(key):
            lines.append(f" {title}:\t\t{''.join(f'{word} ' for word in container[key])}")
    if container.get("Dir"):
        lines.append(f" Dir:\t\t{container['Dir']}")
    if "Init" in container:
        lines.append(f" Init:\t\t{str(container['Init']).lower()}")
    if container.get("User"):
        lines.append(f" User: {container['User']}")
    lines += _capabilities(container)
    if container.get("Sysctls"):
        lines.append("SysCtls:")
        lines += [f" {key}: {value}" for key, value in sorted(container["Sysctls"].items())]
    if container.get("Ulimits"):
        lines.append("Ulimits:")
        lines += [f" {u['Name']}: {u['Soft']}:{u['Hard']}" for u in container["Ulimits"]]
    lines += _mounts(container.get("Mounts", []))
    return lines + _files(container, "Config") + _files(container, "Secret")


def _capabilities(container: Json) -> list[str]:
    add, drop = container.get("CapabilityAdd"), container.get("CapabilityDrop")
    lines = ["Capabilities:"] if add or drop else []
    if add:
        lines.append(f" Add: {', '.join(add)}")
    if drop:
        lines.append(f" Drop: {', '.join(drop)}")
    return lines


def _files(container: Json, noun: str) -> list[str]:
    lines: list[str] = []
    for reference in container.get(f"{noun}s", []):
        lines += [
            f" Target:\t{reference['File']['Name']}",
            f"  Source:\t{reference[f'{noun}Name']}",
        ]
    return [f"{noun}s:", *lines] if lines else []


def _mounts(mounts: Iterable[Json]) -> list[str]:
    lines: list[str] = []
    for mount in mounts:
        lines += [
            f" Target:\t{mount.get('Target', '')}",
            f"  Source:\t{mount.get('Source', '')}",
            f"  ReadOnly:\t{str(mount.get('ReadOnly', False)).lower()}",
            f"  Type:\t\t{mount['Type']}",
        ]
    return ["Mounts:", *lines] if lines else []


def _log_driver(driver: Json | None) -> list[str]:
    if driver is None:
        return []
    lines = ["Log Driver:", f" Name:\t\t{driver.get('Name', '')}"]
    if driver.get("Options"):
        lines.append(" LogOpts:")
        lines += [f"  {key}:       {value}" for key, value in sorted(driver["Options"].items())]
    return [*lines, ""]


def _resources(resources: Json | None) -> list[str]:
    if resources is None:
        return []
    lines = ["Resources:"]
    for title in ("Reservations", "Limits"):
        shown = _amounts(resources.get(title, {}))
        if shown:
            lines += [f" {title}:", *shown]
    return lines


def _amounts(amounts: Json) -> list[str]:
    lines: list[str] = []
    if amounts.get("NanoCPUs"):
        lines.append(f"  CPU:\t\t{format_cpus(amounts['NanoCPUs'])}")
    if amounts.get("MemoryBytes"):
        lines.append(f"  Memory:\t{bytes_size(amounts['MemoryBytes'])}")
    if amounts.get("Pids"):
        lines.append(f"  PIDs:\t\t{amounts['Pids']}")
    return lines


def _ports(ports: Iterable[Json]) -> list[str]:
    lines: list[str] = []
    for port in ports:
        lines += [
            f" PublishedPort = {port.get('PublishedPort', 0)}",
            f"  Protocol = {port['Protocol']}",
            f"  TargetPort = {port['TargetPort']}",
            f"  PublishMode = {port['PublishMode']}",
        ]
    return ["Ports:", *lines] if lines else []


def _health(health: Json | None) -> list[str]:
    if health is None:
        return []
    lines = [
        " Healthcheck:",
        f"  Interval = {format_duration(health.get('Interval', 0))}",
        f"  Retries = {health.get('Retries', 0)}",
        f"  StartPeriod =\t{format_duration(health.get('StartPeriod', 0))}",
        f"  Timeout =\t{format_duration(health.get('Timeout', 0))}",
    ]
    if health.get("Test"):
        lines += ["  Tests:", *(f"\t Test = {word}" for word in health["Test"])]
    return lines


def secret_text(secret: Json) -> str:
    spec: Json = secret["Spec"]
    return "\n".join(
        [
            f"ID:              {secret['ID']}",
            f"Name:              {spec['Name']}",
            *_file_labels(spec),
            "Driver:            ",
            f"Created at:        {_joined_at(secret['CreatedAt'])}",
            f"Updated at:        {_joined_at(secret['UpdatedAt'])}\n",
        ]
    )


def config_text(config: Json) -> str:
    spec: Json = config["Spec"]
    return "\n".join(
        [
            f"ID:\t\t\t{config['ID']}",
            f"Name:\t\t\t{spec['Name']}",
            *_file_labels(spec),
            f"Created at:            \t{_joined_at(config['CreatedAt'])}",
            f"Updated at:            \t{_joined_at(config['UpdatedAt'])}",
            "Data:",
            f"{base64.b64decode(spec['Data']).decode(errors='replace')}\n",
        ]
    )


def _file_labels(spec: Json) -> list[str]:
    if not spec["Labels"]:
        return []
    return ["Labels:", *(f" - {_pair(k, v)}" for k, v in sorted(spec["Labels"].items()))]


def node_text(node: Json) -> str:
    spec, description, status = node["Spec"], node["Description"], node["Status"]
    platform, resources = description.get("Platform", {}), description.get("Resources", {})
    lines = [f"ID:\t\t\t{node['ID']}"]
    if spec["Labels"]:
        lines += ["Labels:", *(f" - {_pair(k, v)}" for k, v in sorted(spec["Labels"].items()))]
    lines += [
        f"Hostname:              \t{description.get('Hostname', '')}",
        f"Joined at:             \t{_joined_at(node['CreatedAt'])}",
        "Status:",
        f" State:\t\t\t{status['State'].capitalize()}",
    ]
    if status.get("Message"):
        lines.append(f" Message:              \t{status['Message'].capitalize()}")
    lines.append(f" Availability:         \t{spec['Availability'].capitalize()}")
    if status.get("Addr"):
        lines.append(f" Address:\t\t{status['Addr']}")
    lines += _manager(node.get("ManagerStatus"))
    lines += [
        "Platform:",
        f" Operating System:\t{platform.get('OS', '')}",
        f" Architecture:\t\t{platform.get('Architecture', '')}",
        "Resources:",
        f" CPUs:\t\t\t{resources.get('NanoCPUs', 0) // 1_000_000_000}",
        f" Memory:\t\t{bytes_size(resources.get('MemoryBytes', 0))}",
    ]
    lines += _engine(description.get("Engine", {}))
    lines += _tls(description.get("TLSInfo"))
    return "\n".join(lines) + "\n"


def _joined_at(created_at: str) -> str:
    """As Go prints a time: 2026-11-23 22:21:11.593916809 +0000 utc."""
    day, _, rest = created_at.removesuffix("Z").partition("T")
    return f"{day} {rest} +0000 utc"


def _manager(manager: Json | None) -> list[str]:
    if manager is None:
        return []
    return [
        "Manager Status:",
        f" Address:\t\t{manager.get('Addr', '')}",
        f" Raft Status:\t\t{manager['Reachability'].capitalize()}",
        f" Leader:\t\t{'Yes' if manager.get('Leader') else 'No'}",
    ]


def _engine(engine: Json) -> list[str]:
    lines: list[str] = []
    names: dict[str, list[str]] = {}
    for plugin in engine.get("Plugins", []):
        names.setdefault(plugin["Type"], []).append(plugin["Name"])
    if names:
        lines += ["Plugins:", *(f" {kind}:\t\t{', '.join(names[kind])}" for kind in sorted(names))]
    lines.append(f"Engine Version:\t\t{engine.get('EngineVersion', '')}")
    labels = engine.get("Labels", {})
    if labels:
        lines += ["Engine Labels:", *(f" - {_pair(k, v)}" for k, v in sorted(labels.items()))]
    return lines


def _tls(tls: Json | None) -> list[str]:
    if not tls:
        return []
    return [
        "TLS Info:",
        " TrustRoot:",
        tls["TrustRoot"],
        f" Issuer Subject:\t{tls['CertIssuerSubject']}",
        f" Issuer Public Key:\t{tls['CertIssuerPublicKey']}",
    ]
