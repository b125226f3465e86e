# ruff: noqa: E501 - a case is a line
"""Files over files: the specification's rules for what is joined, replaced, reset."""

import pytest

from swarm.compose.tree import plain


def merged(files, *texts, **options):
    names = []
    for number, text in enumerate(texts):
        names.append(f"{number}.yml")
        files.write(names[-1], text)
    return plain(files.load(*names, **options).services["web"])


@pytest.mark.parametrize(
    ("base", "over", "key", "wanted"),
    [
        ("image: a", "image: b", "image", "b"),
        ("image: a\n    environment: {A: 1, B: 2}", "environment: ['B=3', 'C=4']", "environment", {"A": 1, "B": "3", "C": "4"}),
        ("image: a\n    command: [a, b]", "command: [c]", "command", ["c"]),
        ("image: a\n    entrypoint: [a, b]", "entrypoint: c", "entrypoint", "c"),
        ("image: a\n    dns: 1.1.1.1", "dns: [2.2.2.2, 1.1.1.1]", "dns", ["1.1.1.1", "2.2.2.2"]),
        ("image: a\n    cap_add: [A]", "cap_add: [B]", "cap_add", ["A", "B"]),
        ("image: a\n    healthcheck: {test: [CMD, a], retries: 3}", "healthcheck: {test: [CMD, b]}", "healthcheck", {"test": ["CMD", "b"], "retries": 3}),
        ("image: a\n    labels: [a=1]", "labels: {b: '2'}", "labels", {"a": "1", "b": "2"}),
        ("image: a\n    expose: ['1']", "expose: !override ['2']", "expose", ["2"]),
        ("image: a\n    logging: {driver: x, options: {a: '1'}}", "logging: {driver: y}", "logging", {"driver": "y"}),
        ("image: a\n    logging: {driver: x, options: {a: '1'}}", "logging: {options: {b: '2'}}", "logging", {"driver": "x", "options": {"a": "1", "b": "2"}}),
        ("image: a\n    ulimits: {nofile: 1}", "ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits", {"nofile": {"soft": 1, "hard": 2}}),
    ],
)  # fmt: skip
def test_a_service_of_two_files(files, base, over, key, wanted):
    over_text = f"services:\n  web:\n    {over}\n"
    assert merged(files, f"services:\n  web:\n    {base}\n", over_text)[key] == wanted


def test_reset_takes_away(files):
    base = "services:\n  web:\n    image: a\n    ports: ['80:80']\n    environment: {A: 1, B: 2}\n"
    over = "services:\n  web:\n    ports: !reset []\n    environment: {A: !reset null}\n"
    assert merged(files, base, over) == {"image": "a", "environment": {"B": 2}}


def test_what_must_be_unique_is_replaced(files):
    base = (
        "services:\n  web:\n    image: a\n    volumes: [./a:/data, ./b:/b]\n    ports: ['80:80']\n"
    )
    over = "services:\n  web:\n    volumes: [./c:/data]\n    ports: ['80:80', '81:81']\n"
    web = merged(files, base, over)
    assert [(v["source"], v["target"]) for v in web["volumes"]] == [
        ("/app/c", "/data"),
        ("/app/b", "/b"),
    ]
    assert [p["published"] for p in web["ports"]] == ["80", "81"]


def test_merge_keys_of_yaml(files):
    text = """\
        x-base: &base
          image: a
          environment: &env {A: one}
        services:
          web:
            <<: *base
            environment:
              <<: [*env, {A: two, B: two}]
              C: three
    """
    assert merged(files, text) == {
        "image": "a",
        "environment": {"A": "one", "B": "two", "C": "three"},
    }


def test_extends_a_service_of_another_folder(files):
    files.write(
        "/app/base/common.yml",
        "services:\n  base:\n    build: .\n    env_file: a.env\n    command: [x]\n  more: {extends: base, hostname: h}\n",
    )
    files.write("/app/base/a.env", "A=1\nB=2\n")
    web = merged(
        files,
        "services:\n  web:\n    extends: {file: base/common.yml, service: more}\n"
        "    environment: {B: '3'}\n",
    )  # fmt: skip
    assert web == {
        "build": {"context": "/app/base"},
        "command": ["x"],
        "hostname": "h",
        "environment": {"A": "1", "B": "3"},
    }


def test_include_has_variables_and_paths_of_its_own(files):
    files.write("/app/db/compose.yml", "services:\n  db: {image: 'db:$TAG', volumes: [./d:/d]}\n")
    files.write("/app/db/.env", "TAG=7\n")
    files.write(".env", "TAG=1\n")
    files.write("0.yml", "include: [db/compose.yml]\nservices: {web: {image: 'web:$TAG'}}\n")
    project = files.load("0.yml")
    assert plain(project.services["web"])["image"] == "web:1"
    db = plain(project.services["db"])
    assert (db["image"], db["volumes"][0]["source"]) == ("db:1", "/app/db/d")


def test_values_as_go_reads_them(files):
    text = """\
        version: 3.8
        services:
          web:
            image: a
            environment: {A: yes, B: true, C: 0x10, D: 1.5, E: 2001-01-01, F: , G: "010"}
            secrets: [{source: s, mode: 0440}]
        secrets: {s: {external: true}}
    """
    files.write("compose.yml", text)
    web = plain(files.load().services["web"])
    assert web["environment"] == {
        "A": "yes",
        "B": True,
        "C": 16,
        "D": 1.5,
        "E": "2001-01-01",
        "G": "010",
    }
    assert web["secrets"][0]["mode"] == 0o440
