"""The PORTS column of `service ls`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.api.v1.types_pb2 import PUBLISH_MODE_INGRESS, PortConfig
from swarm.dockerapi.words import PROTOCOL


def display_ports(ports: Iterable[PortConfig]) -> str:
    """Ingress ports, with runs of them as ranges: "*:8081-8083->81-83/tcp, *:53->53/udp".

    A run is consecutive published ports that lead to consecutive target ports, or all to one.
    """
    ingress = [port for port in ports if port.publish_mode == PUBLISH_MODE_INGRESS]
    ingress.sort(key=lambda port: (port.protocol, port.published_port))
    runs: list[list[PortConfig]] = []
    for port in ingress:
        if runs and _continues(runs[-1], port):
            runs[-1].append(port)
        else:
            runs.append([port])
    return ", ".join(_display(run) for run in runs)


def _continues(run: list[PortConfig], port: PortConfig) -> bool:
    first, last = run[0], run[-1]
    if port.protocol != last.protocol or port.published_port != last.published_port + 1:
        return False
    step = port.target_port - last.target_port
    if len(run) == 1:
        return step in (0, 1)
    return step == (0 if first.target_port == last.target_port else 1)


def _display(run: list[PortConfig]) -> str:
    published = _range(run[0].published_port, run[-1].published_port)
    target = _range(run[0].target_port, run[-1].target_port)
    return f"*:{published}->{target}/{PROTOCOL.word(run[0].protocol)}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
