"""Make or refresh the checkout's virtual environment, .venv.

    python3 deploy/environment.py           swarm as installed by `pip install .`
    python3 deploy/environment.py --dev     swarm from the checkout, and what tests and checks need

With --venv DIR elsewhere than in .venv; with --wheelhouse DIR from a folder of wheels (`pip
download -r requirements.txt --only-binary=:all: -d DIR` fills one) and without an index; with
--root DIR below that folder, for a machine whose / it will be.

Only Python's own library is used here. Packages are those of requirements.txt, checked by hash;
what is up to date is not touched, and what was interrupted is done again.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")


class SetupError(Exception):
    """One line: what is wrong, and what to do."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dev", action="store_true", help="with what tests and checks need")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where to make it")
    parser.add_argument("--wheelhouse", type=Path, help="a folder of wheels to install from")
    parser.add_argument("--root", type=Path, help="put the environment below this folder")
    given = parser.parse_args()
    folder = given.venv.absolute()
    if given.root is not None:
        folder = given.root.absolute() / folder.relative_to("/")
    try:
        environment = Environment(folder, given.wheelhouse)
        environment.make(dev=given.dev)
        if given.root is not None:
            environment.move_to(given.venv)
    except KeyboardInterrupt:
        return 130
    except (SetupError, OSError) as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 1
    return 0


class Environment:
    """The stamp in it says what was installed, once that has succeeded."""

    def __init__(self, folder: Path, wheelhouse: Path | None = None) -> None:
        self.folder = folder
        self.wheelhouse = wheelhouse
        self.python = folder / "bin" / "python"
        self.stamp = folder / "swarm-stamp"

    def make(self, *, dev: bool) -> None:
        packages = digest([ROOT / name for name in requirements(dev)])
        source = "checkout" if dev else digest(sources())
        if self.holds(packages, source):
            return
        if not self.works():
            self.create()
        self.stamp.unlink(missing_ok=True)
        names = [word for name in requirements(dev) for word in ("-r", str(ROOT / name))]
        print(f"Installing the packages of {requirements(dev)[-1]} into {self.folder}", flush=True)
        self.pip("--require-hashes", "--only-binary=:all:", *names)
        editable = ["--editable"] if dev else []
        self.pip("--no-deps", "--no-build-isolation", "--force-reinstall", *editable, str(ROOT))
        self.stamp.write_text(f"{packages}\n{source}\n")

    def holds(self, packages: str, source: str) -> bool:
        """An environment for development serves those who only use it, too."""
        if not self.stamp.exists() or not self.works():
            return False
        found_packages, found_source = self.stamp.read_text().split()
        dev_packages = digest([ROOT / name for name in requirements(dev=True)])
        if (found_packages, found_source) == (dev_packages, "checkout"):
            return True
        return (found_packages, found_source) == (packages, source)

    def works(self) -> bool:
        """Whether it has a Python that runs, of the version that was asked for."""
        if not self.python.exists():
            return False
        code = "import sys, pip; print(sys.version_info[:2])"
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True)
        return done.returncode == 0 and done.stdout.strip() == str(sys.version_info[:2])

    def create(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if importlib.util.find_spec("ensurepip") is None:
            install_python3_venv()
        if ensurepip_works():
            run(sys.executable, "-m", "venv", str(self.folder))
            return
        # The system's own pip can install into an environment that has none.
        if importlib.util.find_spec("pip") is None:
            raise SetupError(
                f"{sys.executable} can't make virtual environments: install python3-venv"
            )
        run(sys.executable, "-m", "venv", "--without-pip", str(self.folder))
        run(sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "pip")

    def pip(self, *words: str) -> None:
        # Nothing is written outside of the environment, no cache in the home folder either.
        wheels = ("--no-index", "--find-links", str(self.wheelhouse)) if self.wheelhouse else ()
        run(str(self.python), *PIP, "install", "--no-cache-dir", *wheels, *words)

    def move_to(self, folder: Path) -> None:
        """Its programs name the Python that will be theirs there."""
        here, there = f"#!{self.folder}/".encode(), f"#!{folder}/".encode()
        for path in (self.folder / "bin").iterdir():
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                if content.startswith(here):
                    path.write_bytes(there + content.removeprefix(here))


def requirements(dev: bool) -> list[str]:
    return ["requirements-dev.txt" if dev else "requirements.txt"]


def sources() -> list[Path]:
    return [ROOT / "pyproject.toml", *sorted((ROOT / "swarm").rglob("*.py"))]


def digest(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(bytes(path.relative_to(ROOT)) + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def ensurepip_works() -> bool:
    """Asked anew: the package may have come since this process started."""
    done = subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True)
    return done.returncode == 0


def install_python3_venv() -> None:
    """As root on a Debian-like machine; elsewhere there are other ways, or none."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print("Installing python3-venv with apt-get", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--no-install-recommends", "python3-venv"]):
        command = ["apt-get", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", *words]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)


def run(*command: str) -> None:
    # A user's own settings for pip must not lead it elsewhere.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command[:4])} ... failed, see above")


if __name__ == "__main__":
    sys.exit(main())
