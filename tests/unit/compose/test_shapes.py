# ruff: noqa: E501 - a case is a line
"""Files in the shapes that well-known projects write them in: read whole, what is unused named."""

import pytest

from swarm.api.v1.service_pb2 import RESTART_CONDITION_ANY, RESTART_CONDITION_ON_FAILURE

# A pipeline: common parts by anchors, a setup that must complete, dollars for the shell.
PIPELINE = """\
    ---
    x-common:
      &common
      # A comment between the anchor and what it names.
      image: ${IMAGE:-flow/flow:2}
      environment:
        &common-env
        EXECUTOR: Celery
        KEY: ''
        EXTRA: ${_EXTRA:-}
      volumes:
        - ${PROJECT:-.}/dags:/opt/dags
      user: "${FLOW_UID:-50000}:0"
      depends_on:
        &common-depends-on
        cache: {condition: service_healthy}
    services:
      cache:
        image: cache:7
        expose: [6379]
        healthcheck: {test: ["CMD", "ping"], interval: 10s, timeout: 30s, retries: 50, start_period: 30s}
        restart: always
      scheduler:
        <<: *common
        command: scheduler
        healthcheck:
          test: ["CMD-SHELL", 'check --hostname "$${HOSTNAME}"']
        restart: always
        depends_on:
          <<: *common-depends-on
          setup: {condition: service_completed_successfully}
      setup:
        <<: *common
        entrypoint: /bin/bash
        command:
          - -c
          - |
            cpus=$$(grep -cE 'cpu[0-9]+' /proc/stat)
            if (( cpus < 2 )); then echo "$$((cpus * 2)) {a,b}"; fi
        environment:
          <<: *common-env
          MIGRATE: 'true'
        user: "0:0"
      debug:
        <<: *common
        profiles: [debug]
    volumes:
      data:
"""

# An error tracker: defaults of defaults, single anchored values, variables that are not set.
TRACKER = """\
    x-restart: &restart
      restart: unless-stopped
    x-started: &started
      condition: service_started
    x-check: &check
      interval: "$CHECK_INTERVAL"
      retries: $CHECK_RETRIES
      start_period: 10s
    x-app: &app
      <<: *restart
      image: app-local
      platform: ${PLATFORM:-}
      depends_on: &app_depends
        store:
          <<: *started
      environment:
        BUNDLE: &bundle "/etc/ca.crt"
        OTHER: *bundle
        RETENTION:
        RATIO: 0.3
    services:
      store:
        <<: *restart
        image: store:1
        ulimits: {nofile: {soft: 4096, hard: 4096}}
        healthcheck:
          <<: *check
          test: ["CMD-SHELL", 'echo "ok" | nc -w 2 localhost 2181 | grep ok']
        volumes:
          - "data:/var/lib/data"
          - type: bind
            read_only: true
            source: ./conf/
            target: /opt/conf/
      web:
        <<: *app
        depends_on:
          <<: *app_depends
        command: '"55 23 * * * gosu app cleanup"'
    volumes:
      data: {external: true}
"""

# A conference: variables passed through, tmpfs options, names with dots.
CONFERENCE = """\
    services:
      web:
        image: ${REPO:-ghcr.io/conf}/web:${VERSION:-unstable}
        restart: ${RESTART_POLICY:-unless-stopped}
        read_only: true
        tmpfs:
          - /run:size=16M,mode=1750,exec
        ports:
          - '${HTTP_PORT:-8000}:8000'
          - '127.0.0.1:${REST_PORT:-8888}:8888'
          - ${ODD-:2283:2283}
        volumes:
          - ${CONFIG:-~/.conf}/web:/config:ro,z
        environment:
          - TZ
          - UNSET
        networks:
          meet.local:
            aliases:
              - ${SERVER:-xmpp.meet.local}
    networks:
      meet.local:
"""

OLD = """\
    version: '2.1'
    networks:
      net:
        driver: bridge
    volumes:
        data: {}
    services:
      exporter:
        image: exporter:v0.18
        container_name: exporter
        volumes:
          - /proc:/host/proc:ro
          - /:/rootfs:ro
          - data:/data
        command:
          - '--ignored-mount-points=^/(sys|proc|dev)($$|/)'
        expose: [9100]
        networks: [net]
        labels: {org.label-schema.group: "monitoring"}
"""


def by_name(stack):
    return {s.annotations.name.removeprefix("s_"): s for s in stack.services}


def test_a_pipeline(files):
    stack = files.stack(PIPELINE)
    services = by_name(stack)
    assert list(services) == ["cache", "setup", "scheduler"]
    assert services["setup"].task.restart.condition == RESTART_CONDITION_ON_FAILURE
    assert services["scheduler"].task.restart.condition == RESTART_CONDITION_ANY
    script = services["setup"].task.container.args[1]
    assert "cpus=$(grep -cE 'cpu[0-9]+' /proc/stat)" in script
    assert '"$((cpus * 2)) {a,b}"' in script
    assert sorted(services["setup"].task.container.env) == [
        "EXECUTOR=Celery",
        "EXTRA=",
        "KEY=",
        "MIGRATE=true",
    ]
    assert services["scheduler"].task.container.user == "50000:0"
    assert stack.notes == []


def test_a_tracker_without_its_variables(files):
    stack = files.stack(TRACKER)
    web = by_name(stack)["web"].task.container
    assert sorted(web.env) == ["BUNDLE=/etc/ca.crt", "OTHER=/etc/ca.crt", "RATIO=0.3"]
    assert list(web.args) == ["55 23 * * * gosu app cleanup"]
    store = by_name(stack)["store"].task.container
    assert [m.source for m in store.mounts] == ["data", "/app/conf"]
    assert [note.place.line for note in stack.notes] == [6, 7]


def test_a_conference(files):
    files.environment = {"TZ": "UTC"}
    stack = files.stack(CONFERENCE)
    (web,) = stack.services
    assert list(web.task.container.env) == ["TZ=UTC"]
    assert list(web.aliases) == ["xmpp.meet.local"]
    assert [(p.published_port, p.target_port) for p in web.endpoint.ports] == [
        (8000, 8000),
        (8888, 8888),
        (2283, 2283),
    ]
    assert web.task.container.mounts[0].source == "/home/me/.conf/web"
    said = [str(note) for note in stack.notes]
    assert any("tmpfs has the option exec, which is not used" in line for line in said)
    assert any("ports[1].host_ip is not used" in line for line in said)


def test_a_file_of_version_2(files):
    stack = files.stack(OLD)
    (exporter,) = stack.services
    assert list(exporter.task.container.args) == ["--ignored-mount-points=^/(sys|proc|dev)($|/)"]
    assert [m.source for m in exporter.task.container.mounts] == ["/proc", "/", "s_data"]


@pytest.mark.parametrize("text", ["image: $NONE", "image: ''"])
def test_an_image_that_is_not_set(files, text):
    said = files.refused(f"services:\n  web:\n    {text}\n")
    assert said == "compose.yml:2: services.web has neither image nor build"
