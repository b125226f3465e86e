"""Measurements beside Docker Swarm and etcd, each in one run on one machine.

`python -m benchmarks.replicas`, `.failover` and `.writes`; docs/benchmarks.md says how figures
were taken. What is started here is ended here, also when interrupted.
"""
