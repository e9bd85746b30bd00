"""The Dockerfile, as far as it can be judged without building: what it copies, installs and runs as."""

import ast
import asyncio
import json
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions

from aiohttp import web

from tests.deploy.manifests import BASE, ROOT, pods, render

DEPLOY = ROOT / "deploy"


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it."""

    image: str
    name: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, word: str) -> list[str]:
        """Arguments of every instruction of that kind."""
        return [arguments for name, arguments in self.instructions if name == word]

    def exec_form(self, word: str) -> list[str]:
        """The one instruction of that kind, written as a JSON list."""
        [arguments] = self.all(word)
        parsed: list[str] = json.loads(arguments)
        return parsed


@cache
def stages() -> tuple[Stage, ...]:
    """The Dockerfile's stages, build arguments at their defaults."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [(word, arguments) for word, _, arguments in (line.partition(" ") for line in lines if line)]
    defaults = dict(arguments.split("=", 1) for word, arguments in instructions if word == "ARG")
    starts = [number for number, (word, _) in enumerate(instructions) if word == "FROM"]
    found = []
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        image, _, name = instructions[start][1].partition(" AS ")
        image = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], image)
        found.append(Stage(image, name, tuple(instructions[start + 1 : end])))
    return tuple(found)


def copies() -> list[tuple[str, list[str], str]]:
    """(stage it comes from or "", sources, destination) of every COPY."""
    found = []
    for words in (shlex.split(arguments) for stage in stages() for arguments in stage.all("COPY")):
        origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
        found.append((origin, words[:-1], words[-1]))
    return found


def third_party() -> set[str]:
    """Top-level modules that the relay imports and that are neither its own nor Python's."""
    modules = set()
    for path in (ROOT / "relay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(str(node.module).partition(".")[0])
    return modules - sys.stdlib_module_names - {"relay"}


def pinned() -> dict[str, str]:
    """Each requirement's name and the text that belongs to it."""
    entries = re.split(r"\n(?=\S)", (DEPLOY / "requirements.txt").read_text("utf-8"))
    return {entry.partition("==")[0].lower(): entry for entry in entries if "==" in entry}


def test_copied_files_exist_and_reach_the_builder() -> None:
    """Every source of a COPY is in the repository and let through by the ignore file, or is of an earlier stage."""
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split("\n")
    names = {stage.name for stage in stages()}
    for origin, sources, _ in copies():
        for source in sources:
            if origin:
                assert origin in names
            else:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignore, source


def test_everything_else_stays_outside_the_context() -> None:
    """The ignore file starts from nothing, so no secret or local data can slip into a layer."""
    lines = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        f"!{source}" for origin, sources, _ in copies() if not origin for source in sources
    }


def test_packages_are_installed_by_hash() -> None:
    """One install, from the pinned file, wheels only, each with its hash."""
    [command] = [run for stage in stages() for run in stage.all("RUN") if " install " in run and "pip" in run]
    assert {"--require-hashes", "--only-binary", ":all:"} <= set(shlex.split(command))
    [destination] = [to for _, sources, to in copies() if sources == ["deploy/requirements.txt"]]
    assert command.endswith(f"-r {destination}")
    assert [name for name, entry in pinned().items() if "--hash=sha256:" not in entry] == []


def test_requirements_cover_what_the_relay_imports() -> None:
    """No module is imported that only the development environment has."""
    owners = packages_distributions()
    normal = {name: {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners[name]} for name in third_party()}
    assert [name for name, distributions in normal.items() if not distributions & pinned().keys()] == []


def test_requirements_cover_the_declared_dependencies() -> None:
    """What pyproject asks for is pinned, so that the two cannot drift apart unnoticed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = {re.split(r"[^A-Za-z0-9_-]", dependency)[0] for dependency in declared}
    assert names <= pinned().keys()


def test_base_image_is_an_exact_python_that_the_project_supports() -> None:
    """Both stages share one image (a venv points at its Python), with a minor version and no `latest`."""
    assert len({stage.image for stage in stages()}) == 1
    match = re.fullmatch(r"python:(\d+)\.(\d+)-slim-[a-z]+", stages()[-1].image)
    assert match is not None
    required = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert (int(match[1]), int(match[2])) >= tuple(int(part) for part in required.removeprefix(">=").split("."))


def test_final_stage_runs_unprivileged() -> None:
    """The last USER is numeric (Kubernetes can check it), not root, and the same as in the manifests."""
    user = stages()[-1].all("USER")[-1]
    context = pods(render(BASE))["webhook-relay"]["spec"]["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert user.partition(":")[0].isdigit()
    assert int(user.partition(":")[0]) > 0


def test_process_is_started_without_a_shell() -> None:
    """The relay is process 1, so SIGTERM reaches it; the manifests' arguments replace `run`."""
    final = stages()[-1]
    assert final.exec_form("ENTRYPOINT")[1:] == ["-m", "relay"]
    assert final.exec_form("CMD") == ["run"]
    assert final.all("STOPSIGNAL") == ["SIGTERM"]
    python = final.exec_form("ENTRYPOINT")[0]
    assert any(origin and python.startswith(f"{to}/") for origin, _, to in copies())


def test_exposed_ports_are_those_of_the_pod() -> None:
    """Image and manifests agree about the ports."""
    [container] = pods(render(BASE))["webhook-relay"]["spec"]["containers"]
    assert stages()[-1].all("EXPOSE")[0].split() == [str(port["containerPort"]) for port in container["ports"]]


async def test_health_check_tells_a_live_relay_from_a_sick_one() -> None:
    """The command of HEALTHCHECK ends with 0 on 200 and with another code on anything else."""
    answers = [503, 200]

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(status=answers.pop())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    [check] = stages()[-1].all("HEALTHCHECK")
    _, *command = json.loads(check.partition("CMD ")[2].replace("8081", str(runner.addresses[0][1])))
    codes = []
    while answers:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env={"http_proxy": "http://127.0.0.1:9/", "no_proxy": ""}
        )
        codes.append(await process.wait())
    await runner.cleanup()
    assert codes == [0, 1]
