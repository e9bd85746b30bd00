"""The manifests: valid for Kubernetes, unprivileged, closed in themselves, and accepted by the relay's own settings."""

import re
import shutil
from itertools import chain
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from relay import __main__, __version__
from relay.sandbox import LEARNOSITY_CONSUMER_KEY, LEARNOSITY_CONSUMER_SECRET, LEARNOSITY_DOMAIN, LOD_API_KEY
from relay.settings import LearnositySource, LodSource, load
from tests.deploy.manifests import (
    BASE,
    KUBERNETES,
    QUICKSTART,
    ROOT,
    Document,
    containers,
    content,
    environment,
    find,
    pods,
    render,
)

OLDEST_KUBERNETES = "1.25"
SECRETS = "/run/secrets/webhook-relay"

both = pytest.mark.parametrize("overlay", [BASE, QUICKSTART], ids=["base", "quickstart"])


def selects(selector: Document, template: Document) -> bool:
    """Whether a label selector matches a pod template."""
    return bool(selector.items() <= template["metadata"]["labels"].items())


@both
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
def test_every_object_is_valid_for_kubernetes(overlay: Path, version: str) -> None:
    """svix#1967 (no chart): the oldest version that the README promises and the newest accept all of it."""
    for document in render(overlay):
        kubernetes_validate.validate(document, version, strict=True)


@both
def test_objects_name_no_namespace(overlay: Path) -> None:
    """What is applied lands in whichever namespace the operator names."""
    assert [one["metadata"]["name"] for one in render(overlay) if "namespace" in one["metadata"]] == []


@both
def test_pods_meet_the_restricted_pod_security_standard(overlay: Path) -> None:
    """No container is root, may become root, keeps a capability, or writes to its image."""
    for template in pods(render(overlay)).values():
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["runAsGroup"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & template["spec"].keys()
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@both
def test_pods_hold_no_api_token_and_no_service_variables(overlay: Path) -> None:
    """Nothing calls the Kubernetes API, and a Service's name never becomes a RELAY_ variable."""
    for template in pods(render(overlay)).values():
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["enableServiceLinks"] is False


@both
def test_containers_are_probed_and_bounded(overlay: Path) -> None:
    """Every container has three probes on named ports, requests, and a memory limit."""
    for container in chain.from_iterable(map(containers, pods(render(overlay)).values())):
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            action = container[probe].get("httpGet") or container[probe].get("tcpSocket")
            assert action["port"] in ports if action else container[probe]["exec"]["command"]


@both
def test_images_have_an_exact_tag(overlay: Path) -> None:
    """No image floats, and the relay's is of this version."""
    images = {container["image"] for template in pods(render(overlay)).values() for container in containers(template)}
    assert all(re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?", image) for image in images), images
    assert {image for image in images if "relay" in image} == {f"webhook-relay:{__version__}"}


def references(template: Document) -> set[tuple[str, str]]:
    """Kind and name of every object that a pod needs in order to start."""
    spec = template["spec"]
    found = {("ServiceAccount", spec["serviceAccountName"])} if "serviceAccountName" in spec else set()
    for volume in spec.get("volumes", []):
        found |= {("Secret", volume["secret"]["secretName"])} if "secret" in volume else set()
        found |= {("ConfigMap", volume["configMap"]["name"])} if "configMap" in volume else set()
    for source in chain.from_iterable(container.get("envFrom", []) for container in containers(template)):
        found.add(("ConfigMap", source["configMapRef"]["name"]))
    return found


@pytest.mark.parametrize(
    ("overlay", "from_outside"),
    [(BASE, {("Secret", "webhook-relay")}), (QUICKSTART, set())],
    ids=["base", "quickstart"],
)
def test_what_pods_refer_to_exists(overlay: Path, from_outside: set[tuple[str, str]]) -> None:
    """The quickstart brings everything that it names; the base leaves out the one Secret that it documents."""
    documents = render(overlay)
    existing = {(document["kind"], document["metadata"]["name"]) for document in documents}
    needed = set().union(*map(references, pods(documents).values()))
    assert needed - existing == from_outside


@both
def test_mounts_are_of_volumes_that_exist(overlay: Path) -> None:
    """Each mount names a volume of its pod or a claim of its StatefulSet, and each volume is mounted."""
    for document in render(overlay):
        if document["kind"] in ("Deployment", "StatefulSet"):
            spec = document["spec"]["template"]["spec"]
            claims = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
            mounts = [mount["name"] for one in containers({"spec": spec}) for mount in one.get("volumeMounts", [])]
            assert set(mounts) == {volume["name"] for volume in spec.get("volumes", [])} | claims


@both
def test_selectors_match_exactly_one_workload(overlay: Path) -> None:
    """Services, policies and workloads select the pods that they are meant for, at ports that those have."""
    documents = render(overlay)
    templates = pods(documents)
    for document in documents:
        spec = document.get("spec", {})
        name = document["metadata"]["name"]
        if document["kind"] in templates.keys() | {"Deployment", "StatefulSet"}:
            assert selects(spec["selector"]["matchLabels"], spec["template"])
        elif document["kind"] == "Service":
            [template] = [one for one in templates.values() if selects(spec["selector"], one)]
            names = {port["name"] for one in containers(template) for port in one["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= names, name
        elif document["kind"] == "NetworkPolicy":
            [template] = [one for one in templates.values() if selects(spec["podSelector"]["matchLabels"], one)]
            numbers = {port["containerPort"] for one in containers(template) for port in one["ports"]}
            admitted = {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
            assert admitted == (numbers if "Ingress" in spec["policyTypes"] else set()), name


def test_every_pod_of_the_quickstart_is_behind_a_policy() -> None:
    """No pod accepts connections that nobody has thought about."""
    documents = render(QUICKSTART)
    policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]
    for name, template in pods(documents).items():
        types = [set(one["policyTypes"]) for one in policies if selects(one["podSelector"]["matchLabels"], template)]
        assert {"Ingress", "Egress"} in types, name


def test_service_leads_to_the_admin_api() -> None:
    """The Service `webhook-relay` offers the API and not the ops port."""
    [port] = find(render(BASE), "Service", "webhook-relay")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8080, "http")


def test_quickstart_passes_our_own_settings(tmp_path: Path) -> None:
    """The environment and the mounted files of the pod are what `relay run` accepts."""
    documents = render(QUICKSTART)
    settings = load(None, environment(documents, pods(documents)["webhook-relay"], tmp_path))
    assert (str(settings.listen), str(settings.ops_listen)) == ("0.0.0.0:8080", "0.0.0.0:8081")
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value().endswith("@valkey:6379/0")
    assert len(settings.admin_tokens) == len(settings.encryption_keys) == 1
    assert settings.egress.allow_http
    assert settings.sources.keys() == {"lod", "learnosity"}


def test_quickstart_holds_the_credentials_of_the_sandbox(tmp_path: Path) -> None:
    """The sandbox lets this relay in, at the address of its Service."""
    documents = render(QUICKSTART)
    sources = load(None, environment(documents, pods(documents)["webhook-relay"], tmp_path)).sources
    lod, learnosity = sources["lod"], sources["learnosity"]
    assert isinstance(lod, LodSource)
    assert isinstance(learnosity, LearnositySource)
    assert lod.api_key.get_secret_value() == LOD_API_KEY
    assert learnosity.consumer_key.get_secret_value() == LEARNOSITY_CONSUMER_KEY
    assert learnosity.consumer_secret.get_secret_value() == LEARNOSITY_CONSUMER_SECRET
    assert learnosity.domain == LEARNOSITY_DOMAIN
    [port] = find(documents, "Service", "sandbox")["spec"]["ports"]
    assert lod.base_url == f"http://sandbox:{port['port']}/lod/api/v3"
    assert learnosity.base_url == f"http://sandbox:{port['port']}/learnosity"


def test_pod_is_given_time_to_drain(tmp_path: Path) -> None:
    """The kubelet's SIGKILL comes after the pre-stop pause, the drain and a margin."""
    documents = render(QUICKSTART)
    template = pods(documents)["webhook-relay"]
    [container] = template["spec"]["containers"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = load(None, environment(documents, template, tmp_path)).drain_s
    assert template["spec"]["terminationGracePeriodSeconds"] >= pause_s + drain_s + 10


def test_probes_and_scrapes_go_to_the_ops_port(tmp_path: Path) -> None:
    """What Kubernetes and Prometheus are told is where the relay listens."""
    documents = render(QUICKSTART)
    template = pods(documents)["webhook-relay"]
    [container] = template["spec"]["containers"]
    settings = load(None, environment(documents, template, tmp_path))
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "http": settings.listen.port,
        "ops": settings.ops_listen.port,
    }
    assert {container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness")} == {"/healthz"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(settings.ops_listen.port)


@pytest.mark.parametrize("name", ["webhook-relay", "sandbox"])
def test_arguments_are_those_of_the_command(name: str) -> None:
    """The command line accepts the arguments of the pod."""
    [container] = pods(render(QUICKSTART))[name]["spec"]["containers"]
    arguments = __main__._parser().parse_args(container["args"])
    if name == "sandbox":
        assert (arguments.host, arguments.port) == ("0.0.0.0", container["ports"][0]["containerPort"])  # noqa: S104


def test_production_overlay_of_the_readme_works(tmp_path: Path) -> None:
    """What the README prints renders, and its settings and file names pass."""
    tree = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = tree / "overlays" / "production"
    (overlay / "secrets").mkdir(parents=True)
    [printed] = re.findall(r"```yaml\n(.*?)```", (ROOT / "deploy" / "README.md").read_text("utf-8"), re.DOTALL)
    (overlay / "kustomization.yaml").write_text(printed, "utf-8")
    quickstart = render(QUICKSTART)
    demo = content(quickstart, "Secret", find(quickstart, "Secret", "webhook-relay")["metadata"]["name"])
    for file in yaml.safe_load(printed)["secretGenerator"][0]["files"]:
        (overlay / file).write_text(demo[Path(file).name] + "\n", "utf-8")
    documents = render(overlay)
    settings = load(None, environment(documents, pods(documents)["webhook-relay"], tmp_path))
    assert {name: source.base_url for name, source in settings.sources.items()} == {
        "lod": "https://labondemand.com/api/v3",
        "learnosity": "https://data.learnosity.com",
    }
    assert not settings.egress.allow_cidrs
    assert not settings.egress.allow_http


def test_readme_prints_what_the_quickstart_holds(tmp_path: Path) -> None:
    """The token of the walk-through and the store's user are those that were tested."""
    documents = render(QUICKSTART)
    readme = (ROOT / "deploy" / "README.md").read_text("utf-8")
    [token] = load(None, environment(documents, pods(documents)["webhook-relay"], tmp_path)).admin_tokens
    assert f"Bearer {token.get_secret_value()}" in readme
    users = content(documents, "Secret", find(documents, "Secret", "valkey")["metadata"]["name"])["users.acl"]
    [user] = [line for line in users.splitlines() if line.startswith("user relay ")]
    assert re.sub(r">\S+", ">PASSWORD", user) in readme
