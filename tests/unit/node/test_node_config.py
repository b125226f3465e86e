"""swarmd's settings: flags over environment over file over defaults."""

import subprocess
import sys
from pathlib import Path

import pytest

from swarm.node.config import ConfigError, load


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "swarmd.toml"
    file.write_text('hostname = "file"\nruntime = "oci"\nlabel = ["a=1"]\nstate-dir = "/x"\n')
    environment = {"SWARMD_CONFIG": str(file), "SWARMD_HOSTNAME": "env", "SWARMD_RUNTIME": "docker"}
    config = load({"hostname": "flag"}, environment)
    assert (config.hostname, config.runtime, config.labels) == ("flag", "docker", {"a": "1"})
    assert config.state_dir == Path("/x")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"runtime": "lxc"}, "auto, docker, oci, process"),
        ({"log_level": "loud"}, "debug"),
        ({"label": ("=x",)}, "KEY=VALUE"),
        ({"election_ticks": 1}, "election-ticks"),
        ({"config": "/nowhere.toml"}, "/nowhere.toml"),
        ({"hostname": "my host"}, "hostname 'my host'"),
        ({"hostname": "a" * 65}, "1 to 64"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(flags: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(flags, {})


def test_an_unknown_setting_in_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "swarmd.toml"
    file.write_text("listen_adr = 1\n")
    with pytest.raises(ConfigError, match="listen-adr"):
        load({"config": str(file)}, {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frobnicate"], "no such option '--frobnicate'; see 'swarmd --help'"),
        (["--cpus", "many"], "invalid value for '--cpus': 'many' is not a valid float"),
        (["--label"], "option '--label' requires an argument"),
        (["start"], "no such command 'start'"),
        (["--runtime", "lxc"], "runtime 'lxc': takes one of auto, docker, oci, process"),
        (["--cpus", "-1"], "cpus '-1.0': takes a number above 0"),
        (["--advertise-addr", "host:0"], "advertise-addr"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_swarmd_refuses_a_bad_flag_in_one_line_with_125(words: list[str], said: str) -> None:
    program = [sys.executable, "-m", "swarm.node.main", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith("swarmd: ")
    assert said in line
    assert not done.stdout
