# ruff: noqa: E501 - a case is a line
"""From a file to what a manager is asked: every key is used, or named with its line."""

from swarm.api.v1.service_pb2 import (
    DEPENDENCY_CONDITION_COMPLETED,
    DEPENDENCY_CONDITION_HEALTHY,
    DEPENDENCY_CONDITION_STARTED,
    ENDPOINT_MODE_DNSRR,
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_TMPFS,
    MOUNT_TYPE_VOLUME,
    RESTART_CONDITION_NONE,
    RESTART_CONDITION_ON_FAILURE,
    UPDATE_FAILURE_ACTION_ROLLBACK,
    UPDATE_ORDER_START_FIRST,
)
from swarm.api.v1.types_pb2 import PROTOCOL_UDP, PUBLISH_MODE_HOST

SECOND = 1_000_000_000

TEXTBOOK = """\
    version: '3'
    services:
      api:
        build: ./api
        ports: ["5000:5000"]
        environment: [MODE=production]
      web:
        build: {context: ./web, dockerfile: Dockerfile.prod, args: {V: 1}, target: run}
        image: example/web:2
        ports: ["8080:80"]
        depends_on: [api]
"""


def test_the_textbook_example(files):
    stack = files.stack(TEXTBOOK, name="shop")
    assert [s.annotations.name for s in stack.services] == ["shop_api", "shop_web"]
    api, web = stack.services
    assert api.task.container.image == "shop-api"
    assert list(api.task.container.env) == ["MODE=production"]
    assert [(p.target_port, p.published_port) for p in web.endpoint.ports] == [(80, 8080)]
    assert [(d.service_name, d.condition) for d in web.depends_on] == [
        ("shop_api", DEPENDENCY_CONDITION_STARTED)
    ]
    assert web.annotations.labels["com.docker.stack.namespace"] == "shop"
    assert web.task.container.labels["com.docker.stack.namespace"] == "shop"
    first, second = stack.builds
    assert (first.image, first.context) == ("shop-api", "/app/api")
    assert (second.image, second.dockerfile, second.target) == (
        "example/web:2",
        "Dockerfile.prod",
        "run",
    )
    assert second.arguments == {"V": "1"}
    assert stack.notes == []


def test_all_of_deploy(files):
    spec = files.spec(
        """\
        services:
          web:
            image: x
            deploy:
              mode: replicated
              replicas: 6
              endpoint_mode: dnsrr
              labels: {tier: front}
              update_config: {parallelism: 2, delay: 10s, order: start-first, failure_action: rollback, monitor: 3s, max_failure_ratio: 0.2}
              rollback_config: {parallelism: 0}
              restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 2m}
              placement:
                constraints: [node.role == worker]
                preferences: [{spread: node.labels.zone}]
                max_replicas_per_node: 2
              resources:
                limits: {cpus: '0.5', memory: 50M, pids: 100}
                reservations:
                  cpus: 0.25
                  memory: 20M
                  generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]
        """
    )  # fmt: skip
    assert spec.replicated.replicas == 6
    assert spec.endpoint.mode == ENDPOINT_MODE_DNSRR
    assert spec.annotations.labels["tier"] == "front"
    assert spec.update.parallelism == 2
    assert spec.update.delay_ns == 10 * SECOND
    assert spec.update.order == UPDATE_ORDER_START_FIRST
    assert spec.update.failure_action == UPDATE_FAILURE_ACTION_ROLLBACK
    assert spec.update.monitor_ns == 3 * SECOND
    assert round(spec.update.max_failure_ratio, 3) == 0.2
    assert spec.HasField("rollback")
    assert spec.rollback.parallelism == 0
    restart = spec.task.restart
    assert (restart.condition, restart.delay_ns, restart.max_attempts, restart.window_ns) == (
        RESTART_CONDITION_ON_FAILURE,
        SECOND,
        3,
        120 * SECOND,
    )
    placement = spec.task.placement
    assert list(placement.constraints) == ["node.role == worker"]
    assert placement.preferences[0].spread_descriptor == "node.labels.zone"
    assert placement.max_replicas_per_node == 2
    resources = spec.task.resources
    assert (resources.limits.nano_cpus, resources.limits.memory_bytes, resources.pids_limit) == (
        SECOND // 2,
        50 << 20,
        100,
    )
    assert resources.reservations.generic[0].count == 2


def test_a_container_in_full(files):
    container = files.spec(
        """\
        services:
          web:
            image: x
            entrypoint: /bin/sh -c "a b"
            command: [c, d]
            hostname: h
            working_dir: /w
            user: "1:2"
            group_add: [3, wheel]
            tty: true
            stdin_open: "true"
            init: true
            read_only: true
            stop_signal: SIGINT
            stop_grace_period: 1m
            healthcheck: {test: curl localhost, interval: 5s, retries: 2, start_period: 1s}
            extra_hosts: ["a=1.1.1.1", "b:::1"]
            dns: 8.8.8.8
            dns_search: [x.org]
            cap_add: [net_admin]
            cap_drop: [ALL]
            sysctls: {net.core.somaxconn: 1024}
            ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}
            labels: [a=b]
            logging: {driver: json-file, options: {max-size: 1m}}
            oom_score_adj: -5
        """
    ).task.container
    assert list(container.command) == ["/bin/sh", "-c", "a b"]
    assert list(container.args) == ["c", "d"]
    assert (container.hostname, container.dir, container.user) == ("h", "/w", "1:2")
    assert list(container.groups) == ["3", "wheel"]
    assert container.tty
    assert container.open_stdin
    assert container.init
    assert container.read_only
    assert (container.stop_signal, container.stop_grace_period_ns) == ("SIGINT", 60 * SECOND)
    assert list(container.health_check.test) == ["CMD-SHELL", "curl localhost"]
    assert (container.health_check.interval_ns, container.health_check.retries) == (5 * SECOND, 2)
    assert list(container.hosts) == ["1.1.1.1 a", "::1 b"]
    assert list(container.dns.nameservers) == ["8.8.8.8"]
    assert list(container.capability_add) == ["CAP_NET_ADMIN"]
    assert list(container.capability_drop) == ["ALL"]
    assert container.sysctls["net.core.somaxconn"] == "1024"
    assert {(u.name, u.soft, u.hard) for u in container.ulimits} == {
        ("nproc", 5, 5),
        ("nofile", 1, 2),
    }
    assert container.oom_score_adj == -5


def test_ports_in_their_forms(files):
    spec = files.spec(
        """\
        services:
          web:
            image: x
            ports:
              - 3000
              - "8000-8001:9000-9001"
              - "53:53/udp"
              - {target: 80, published: "8080", mode: host, name: http}
        """
    )
    ports = [(p.target_port, p.published_port) for p in spec.endpoint.ports]
    assert ports == [(3000, 0), (9000, 8000), (9001, 8001), (53, 53), (80, 8080)]
    assert spec.endpoint.ports[3].protocol == PROTOCOL_UDP
    assert spec.endpoint.ports[4].publish_mode == PUBLISH_MODE_HOST


def test_volumes_in_their_forms(files):
    mounts = files.spec(
        """\
        services:
          web:
            image: x
            volumes:
              - /anon
              - data:/data:ro
              - ~/d:/home
              - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}
              - {type: volume, source: theirs, target: /theirs, volume: {nocopy: true}}
            tmpfs: "/run:size=2m,mode=755"
        volumes:
          data: {driver: nfs, driver_opts: {o: addr}, labels: [a=b]}
          theirs: {external: {name: real}}
        """
    ).task.container.mounts
    assert [(m.type, m.source, m.target) for m in mounts] == [
        (MOUNT_TYPE_VOLUME, "", "/anon"),
        (MOUNT_TYPE_VOLUME, "s_data", "/data"),
        (MOUNT_TYPE_BIND, "/home/me/d", "/home"),
        (MOUNT_TYPE_TMPFS, "", "/t"),
        (MOUNT_TYPE_VOLUME, "real", "/theirs"),
        (MOUNT_TYPE_TMPFS, "", "/run"),
    ]
    assert mounts[1].read_only
    assert (mounts[1].volume_driver, mounts[1].volume_options["o"]) == ("nfs", "addr")
    assert (mounts[3].tmpfs_size_bytes, mounts[3].tmpfs_mode) == (1 << 20, 0o700)
    assert mounts[4].volume_no_copy
    assert (mounts[5].tmpfs_size_bytes, mounts[5].tmpfs_mode) == (2 << 20, 0o755)


def test_secrets_and_configs(files):
    files.write("s.txt", "hush")
    files.environment = {"TOKEN": "t"}
    stack = files.stack(
        """\
        services:
          web:
            image: x
            secrets: [file, {source: token, target: /t, uid: "1", mode: 0400}, theirs]
            configs: [{source: inline, target: /etc/c}, inline2]
        secrets:
          file: {file: ./s.txt}
          token: {environment: TOKEN, name: my_token}
          theirs: {external: true}
        configs:
          inline: {content: "a=b"}
          inline2: {content: "c", labels: {x: y}}
        """
    )
    assert {(s.annotations.name, s.data) for s in stack.secrets} == {
        ("s_file", b"hush"),
        ("my_token", b"t"),
    }
    assert [(c.annotations.name, c.data) for c in stack.configs] == [
        ("s_inline", b"a=b"),
        ("s_inline2", b"c"),
    ]
    container = stack.services[0].task.container
    assert [(s.secret_name, s.file.name) for s in container.secrets] == [
        ("s_file", "file"),
        ("my_token", "/t"),
        ("theirs", "theirs"),
    ]
    assert (container.secrets[1].file.uid, container.secrets[1].file.mode) == (1, 0o400)
    assert [c.file.name for c in container.configs] == ["/etc/c", "/inline2"]


def test_dependencies_come_first_with_their_conditions(files):
    stack = files.stack(
        """\
        services:
          web:
            image: x
            depends_on:
              db: {condition: service_healthy}
              init: {condition: service_completed_successfully}
              gone: {condition: service_started, required: false}
          init: {image: x, restart: "no", depends_on: [db]}
          db: {image: x}
        """
    )
    assert [s.annotations.name for s in stack.services] == ["s_db", "s_init", "s_web"]
    assert [(d.service_name, d.condition) for d in stack.services[2].depends_on] == [
        ("s_db", DEPENDENCY_CONDITION_HEALTHY),
        ("s_init", DEPENDENCY_CONDITION_COMPLETED),
    ]
    assert stack.services[1].task.restart.condition == RESTART_CONDITION_NONE


def test_what_is_not_used_is_named_with_its_line(files):
    stack = files.stack(
        """\
        x-anything: 1
        services:
          web:
            image: x
            container_name: cc
            privileged: true
            x-mine: 1
            ports: ["127.0.0.1:80:80"]
            build: {context: ., cache_from: [a]}
            networks:
              front: {aliases: [www], ipv4_address: 1.2.3.4}
            deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}
        networks:
          front: {internal: true, ipam: {driver: x}}
        """
    )
    no_isolation = (
        "there is no isolation between networks yet: every service of the stack reaches it"
    )
    assert sorted(map(str, stack.notes)) == sorted(
        [
            "compose.yml:9: services.web.build.cache_from is not used",
            "compose.yml:8: services.web.ports[0].host_ip is not used: a port is published on every node",
            f"compose.yml:10: services.web.networks is accepted, but {no_isolation}",
            "compose.yml:11: services.web.networks.front.ipv4_address is not used",
            "compose.yml:5: services.web.container_name is not used: tasks are named after their service and slot",
            "compose.yml:6: services.web.privileged is not used: tasks run without; cap_add gives single capabilities",
            "compose.yml:12: services.web.deploy.resources.reservations.devices is not used",
            f"compose.yml:14: networks.front.internal is not used: {no_isolation}",
            "compose.yml:14: networks.front.ipam is not used",
        ]
    )  # fmt: skip
    assert list(stack.services[0].aliases) == ["www"]


def test_version_2_has_its_limits_beside_the_image(files):
    spec = files.spec(
        """\
        version: '2.4'
        services:
          web:
            image: x
            mem_limit: 64m
            mem_reservation: 32m
            cpus: 0.5
            pids_limit: 9
            restart: on-failure:4
            scale: 2
        """
    )
    resources = spec.task.resources
    assert (resources.limits.memory_bytes, resources.reservations.memory_bytes) == (
        64 << 20,
        32 << 20,
    )
    assert (resources.limits.nano_cpus, resources.pids_limit) == (SECOND // 2, 9)
    assert spec.task.restart.max_attempts == 4
    assert spec.replicated.replicas == 2
