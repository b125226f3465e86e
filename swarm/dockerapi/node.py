"""Node and NodeSpec."""

from __future__ import annotations

from swarm.api.v1.control_pb2 import ManagerView, NodeView
from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_ROLE_WORKER,
    NodeDescription,
    NodeSpec,
    NodeStatus,
)
from swarm.api.v1.types_pb2 import Annotations
from swarm.dockerapi.json_values import Json, get_map, get_text, meta_to_json, without_empty
from swarm.dockerapi.service import generic_to_json
from swarm.dockerapi.words import AVAILABILITY, NODE_ROLE, NODE_STATE, REACHABILITY


def node_to_json(view: NodeView, tls_info: Json | None = None) -> Json:
    """`tls_info`: see `tls.tls_info_to_json`."""
    node = view.node
    shown: Json = {"ID": node.id} | meta_to_json(node.meta)
    shown["Spec"] = node_spec_to_json(node.spec)
    shown["Description"] = _description_to_json(node.description)
    if tls_info:
        shown["Description"]["TLSInfo"] = tls_info
    shown["Status"] = _status_to_json(node.status)
    if view.HasField("manager"):
        shown["ManagerStatus"] = _manager_to_json(view.manager)
    return shown


def node_spec_to_json(spec: NodeSpec) -> Json:
    shown: Json = without_empty({"Name": spec.annotations.name})
    if spec.HasField("drain"):
        # Docker has none: its drains are not in turn.
        shown["Drain"] = {"MaxUnavailable": spec.drain.max_unavailable}
    return shown | {
        "Labels": dict(spec.annotations.labels),
        "Role": NODE_ROLE.word(spec.role),
        "Availability": AVAILABILITY.word(spec.availability),
    }


def node_spec_from_json(source: Json) -> NodeSpec:
    """Raises ApiError."""
    return NodeSpec(
        annotations=Annotations(name=get_text(source, "Name"), labels=get_map(source, "Labels")),
        role=NODE_ROLE.member(get_text(source, "Role"), NODE_ROLE_WORKER),
        availability=AVAILABILITY.member(
            get_text(source, "Availability"), NODE_AVAILABILITY_ACTIVE
        ),
    )


def _description_to_json(description: NodeDescription) -> Json:
    resources, engine = description.resources, description.engine
    # Docker has no field for the runtime; a plugin is what its clients print.
    plugins = [{"Type": "Runtime", "Name": engine.runtime}] if engine.runtime else []
    return without_empty(
        {
            "Hostname": description.hostname,
            "Platform": without_empty(
                {
                    "Architecture": description.platform.architecture,
                    "OS": description.platform.os,
                }
            ),
            "Resources": without_empty(
                {
                    "NanoCPUs": resources.nano_cpus,
                    "MemoryBytes": resources.memory_bytes,
                    "GenericResources": generic_to_json(resources.generic),
                }
            ),
            "Engine": without_empty(
                {
                    "EngineVersion": engine.engine_version,
                    "Labels": dict(engine.labels) or None,
                    "Plugins": plugins,
                }
            ),
        }
    )


def _status_to_json(status: NodeStatus) -> Json:
    return without_empty(
        {
            "State": NODE_STATE.word(status.state),
            "Message": status.message,
            "Addr": status.address,
        }
    )


def _manager_to_json(manager: ManagerView) -> Json:
    return without_empty(
        {
            "Leader": manager.leader,
            "Reachability": REACHABILITY.word(manager.reachability),
            "Addr": manager.address,
        }
    )
