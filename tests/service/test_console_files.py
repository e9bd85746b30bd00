"""The console's files as they are served and packaged: whole, self-sufficient, without markup from strings."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

import relay.admin.console
from tests.service.admin_api import Api, admin_api

FILES = sorted(
    path for path in Path(relay.admin.console.__path__[0]).iterdir() if path.suffix in (".html", ".css", ".js", ".svg")
)
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def api(redis_client: Redis) -> AsyncIterator[Api]:
    """Provide the API."""
    async with admin_api(redis_client) as served:
        yield served


@pytest.mark.parametrize("path", ["/", *(f"/console/{path.name}" for path in FILES if path.suffix != ".html")])
async def test_a_file_is_public_and_kept_by_its_tag(api: Api, path: str) -> None:
    """No token is asked for; a browser that has the file is told so; nothing is sniffed or referred."""
    async with api.http.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        tag = answer.headers["ETag"]
    async with api.http.get(path, headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with api.http.head(path) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, tag)


async def test_the_policy_allows_this_origin_only(api: Api) -> None:
    """Nothing inline, nothing from elsewhere, in no frame, and no markup from strings."""
    async with api.http.get("/") as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "__init__.py", "..%2Fapp.py", "%00"])
async def test_nothing_else_is_served(api: Api, name: str) -> None:
    """Only the files by their names."""
    async with api.http.get(f"/console/{name}") as answer:
        assert answer.status == 404


def test_every_module_that_is_imported_exists_and_every_file_is_used() -> None:
    """No module is missing, and none is left over."""
    text = "".join(path.read_text() for path in FILES)
    imported = set(re.findall(r'from "\./([\w.]+)"', text)) | set(re.findall(r"/console/([\w.]+)", text))
    assert imported == {path.name for path in FILES} - {"index.html"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_reaches_out_or_builds_markup(path: Path) -> None:
    """No address of another origin is in it, and no way to turn text into elements or code."""
    text = path.read_text()
    addresses = set(re.findall(r"https?://[^\s\"'`/]+", text))
    assert addresses <= {"http://www.w3.org", "https://lms.example.org"}  # a namespace, and an example
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser", text
    )
    assert not re.search(r"<style|style=|javascript:", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_can_be_read(path: Path) -> None:
    """Short files of short lines, and each module says at its top what it is for."""
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    if path.suffix in (".js", ".css"):
        assert lines[0].startswith(("// ", "/* "))
        assert [line for line in lines if len(line) > 120] == []


def test_the_wheel_holds_the_console(tmp_path: Path) -> None:
    """What is installed from the package serves the page too."""
    build = "import sys; from flit_core import buildapi; print(buildapi.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(tmp_path)]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60)
    with zipfile.ZipFile(tmp_path / made.stdout.split()[-1]) as wheel:
        names = set(wheel.namelist())
    assert {f"relay/admin/console/{path.name}" for path in FILES} <= names
