"""Kustomizations as Kubernetes would see them: rendered, then a container's environment as its process finds it."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
QUICKSTART = KUBERNETES / "overlays" / "quickstart"
DIGEST = r"(-[2-9bcdfghkmt]{10})?"
"""What kustomize appends to the name of a generated object."""


@cache
def render(directory: Path) -> tuple[Document, ...]:
    """Every object that `kubectl apply -k` would send."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return tuple(yaml.safe_load_all(done.stdout))


def find(documents: tuple[Document, ...], kind: str, name: str) -> Document:
    """The object of that kind and name; a generated one goes without its digest."""
    pattern = re.compile(re.escape(name) + DIGEST)
    found = [one for one in documents if one["kind"] == kind and pattern.fullmatch(one["metadata"]["name"])]
    [document] = found
    return document


def pods(documents: tuple[Document, ...]) -> dict[str, Document]:
    """Pod template of every workload, by the workload's name."""
    return {
        document["metadata"]["name"]: document["spec"]["template"]
        for document in documents
        if document["kind"] in ("Deployment", "StatefulSet")
    }


def containers(template: Document) -> Iterator[Document]:
    """Each container of a pod."""
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


def content(documents: tuple[Document, ...], kind: str, name: str) -> dict[str, str]:
    """What a ConfigMap or Secret of exactly this name holds, as text."""
    [document] = [one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    data: dict[str, str] = document["data"]
    if kind == "ConfigMap":
        return data
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def environment(documents: tuple[Document, ...], template: Document, root: Path) -> dict[str, str]:
    """Environment of a pod's first container; mounted Secrets are written below `root`, and values follow them."""
    container = template["spec"]["containers"][0]
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= content(documents, "ConfigMap", source["configMapRef"]["name"])
    variables |= {variable["name"]: variable["value"] for variable in container.get("env", [])}
    for place in mounted(documents, template, root):
        variables = {name: value.replace(place, f"{root}{place}") for name, value in variables.items()}
    return variables


def mounted(documents: tuple[Document, ...], template: Document, root: Path) -> list[str]:
    """Write the first container's ConfigMap and Secret volumes below `root`; returns their places in the container."""
    volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
    places = []
    for mount in template["spec"]["containers"][0].get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        if "secret" in volume:
            files = content(documents, "Secret", volume["secret"]["secretName"])
        elif "configMap" in volume:
            files = content(documents, "ConfigMap", volume["configMap"]["name"])
        else:
            continue
        places.append(mount["mountPath"])
        directory = Path(f"{root}{mount['mountPath']}")
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, "utf-8")
    return places
