"""What a service's mode means for its tasks."""

from swarm.api.v1.service_pb2 import ServiceSpec


def is_job(spec: ServiceSpec) -> bool:
    """Do its tasks run to completion, once per update of the service?"""
    return spec.WhichOneof("mode") in ("replicated_job", "global_job")


def is_per_node(spec: ServiceSpec) -> bool:
    """Has it a task on every node that takes it?"""
    return spec.WhichOneof("mode") in ("global", "global_job")
