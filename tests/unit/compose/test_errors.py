# ruff: noqa: E501 - a case is a line
"""What is wrong with a file is said in a line, with the file and the line of it."""

import pytest

from swarm.compose.errors import ComposeError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services:\n  web:\n    imagee: x\n", "compose.yml:3: services.web: unknown key imagee; did you mean image?"),
        ("servces:\n  web: {image: x}\n", "compose.yml:1: unknown key servces; did you mean services?"),
        ("services:\n  web:\n    image: [x]\n", "compose.yml:3: services.web.image must be a string"),
        ("services:\n  web:\n    image: x\n    ports: 80\n", "compose.yml:4: services.web.ports must be a list"),
        ("services:\n  web:\n    image: x\n    ports:\n      - target: 80\n        publishd: 1\n", "compose.yml:6: services.web.ports[0]: unknown key publishd; did you mean published?"),
        ("services:\n  web:\n    image: x\n    ports: ['80:x']\n", "compose.yml:4: port 80:x: x is not a port's number"),
        ("services:\n  web:\n    image: x\n    volumes:\n      - data:/d\n", "compose.yml:5: service web refers to undefined volume data: name it under volumes"),
        ("services:\n  web:\n    image: x\n    secrets: [s]\n", "compose.yml:4: service web refers to undefined secret s: name it under secrets"),
        ("services:\n  web:\n    image: x\n    networks: [n]\n", "compose.yml:4: service web refers to undefined network n: name it under networks"),
        ("services:\n  web:\n    image: x\n    depends_on: [db]\n", "compose.yml:4: service web depends on db, which is not there"),
        ("services:\n  a:\n    image: x\n    depends_on: [b]\n  b:\n    image: x\n    depends_on: {a: {condition: service_healthy}}\n", "compose.yml:7: a cycle of depends_on: a -> b -> a"),
        ("services:\n  a:\n    extends: b\n  b:\n    extends: {service: a}\n", "compose.yml:3: a cycle of extends: a extends b extends a"),
        ("services:\n  web:\n    image: ${TAG:?name a tag}\n", "compose.yml:3: services.web.image: required variable TAG is missing a value: name a tag"),
        ("services:\n  web:\n    image: x\n    command: echo $(date)\n", 'compose.yml:4: invalid interpolation format for services.web.command: "echo $(date)"; write a literal $ as $$'),
        ("services:\n  web:\n    image: 'x\n", "compose.yml:3: this is not YAML: found unexpected end of stream while scanning a quoted scalar"),
        ("services:\n  web: {image: x}\n  web: {image: y}\n", "compose.yml:3: the key web is there twice: first in line 2"),
        ("services:\n  web:\n    environment: {A: b}\n", "compose.yml:2: services.web has neither image nor build"),
        ("services:\n  web:\n    image: x\n    deploy: {replicas: many}\n", "compose.yml:4: services.web.deploy.replicas is many: it must be an integer"),
        ("services:\n  web:\n    image: x\n    stop_grace_period: 10\n", "compose.yml:4: services.web.stop_grace_period must be a string"),
        ("services:\n  web:\n    image: x\n    restart: never\n", "compose.yml:4: services.web.restart is never: it is no, always, unless-stopped or on-failure[:COUNT]"),
        ("services:\n  web:\n    image: x\n    env_file: none.env\n", "compose.yml:4: env file none.env not found"),
        ("services:\n  web: {image: x}\nsecrets:\n  s: {file: ./s.txt}\n", "compose.yml:4: s.txt: no such file or directory"),
        ("services:\n  web: {image: x}\nsecrets:\n  s: {environment: S}\n", "compose.yml:4: secrets.s.environment names S, a variable that is not set"),
        ("web:\n  image: x\n", "compose.yml:1: this is a version 1 file: put what is in it under a key services"),
        ("services:\n  web: !include x\n", "compose.yml:2: the tag !include is not known: there are !reset and !override"),
        ("a: &a [*a]\n", "compose.yml:1: an alias stands within its own anchor"),
        ("", "compose.yml: the file is empty: name services in it"),
        ("services: {}\n", "compose.yml:1: no service is named: services is empty"),
        ("- a\n", "compose.yml:1: the top of a compose file must be a mapping"),
    ],
)  # fmt: skip
def test_each_says_where_and_what(files, text, said):
    assert files.refused(text) == said


def test_a_bomb_of_anchors(files):
    lines = ["x0: &x0 [b, b, b, b, b, b, b, b, b]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 30)]
    text = "\n".join([*lines, "services: {web: {image: x}}"])
    assert files.refused(text) == (
        "compose.yml:6: aliases make more than 100000 values of this file: write fewer anchors"
    )


def test_too_deep_a_nest(files):
    assert files.refused("a: " + "[" * 20_000) == "compose.yml: values are nested too deeply"


def test_a_service_of_a_profile_that_is_not_wanted(files):
    text = """\
        services:
          web:
            image: x
            depends_on: [debug]
          debug:
            image: x
            profiles: [dev]
    """
    assert "compose.yml:4: service web depends on debug, whose profile is not wanted" in (
        files.refused(text)
    )
    assert len(files.stack(text, profiles=["dev"]).services) == 2


def test_an_included_file_that_includes_its_includer(files):
    files.write("other.yml", "include: [compose.yml]\nservices: {b: {image: x}}\n")
    said = files.refused("include: [other.yml]\nservices: {a: {image: x}}\n")
    assert said.endswith("a cycle of include: compose.yml includes other.yml includes compose.yml")


def test_no_such_file(files):
    assert files.refused("include: [none.yml]\nservices: {a: {image: x}}\n") == (
        "none.yml: no such file or directory"
    )


def test_files_that_include_two_each_are_not_read_without_end(files):
    files.write("compose.yml", "include: [a0.yml]\n")
    for number in range(20):
        files.write(f"a{number}.yml", f"include: [a{number + 1}.yml, a{number + 1}.yml]\n")
    files.write("a20.yml", "volumes: {}\n")
    with pytest.raises(ComposeError, match="more than 500 files are read: include fewer"):
        files.load()


def test_a_chain_of_extends_has_an_end(files):
    chain = "".join(f"  a{n}: {{extends: a{n + 1}}}\n" for n in range(1500))
    with pytest.raises(ComposeError, match="more than 100 services extend one another"):
        files.stack(f"services:\n{chain}  a1500: {{image: x}}\n")


BOMB = "A0=aaaaaaaaaa\n" + "".join(f"A{n + 1}=" + f"$A{n}" * 10 + "\n" for n in range(12))


@pytest.mark.parametrize("form", ["dotenv", "compose"])
def test_variables_that_stand_for_each_other_fill_no_memory(files, form):
    text = "services:\n  web: {image: x}\n"
    if form == "dotenv":
        files.write(".env", BOMB)
    else:
        files.environment["A"] = "a" * 1000
        text += "x-a: [" + "'${A}'," * 5000 + "]\n"
    with pytest.raises(ComposeError, match="variables make more than 4 MiB of this file"):
        files.stack(text)


def test_a_long_file_of_variables_is_read_at_once(files):
    files.write(".env", "".join(f"A{n}=1\n" for n in range(20_000)))
    files.write("compose.yml", "services:\n  web: {image: x}\n")
    assert files.load().environment["A19999"] == "1"
    files.write(".env", 'A="' + "abc\n" * 20_000)
    with pytest.raises(ComposeError, match="the quotes of A are not closed"):
        files.load()
