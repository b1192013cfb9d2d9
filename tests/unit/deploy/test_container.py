"""The Containerfile and the examples for compose and Kubernetes agree with each other and with the server's limits."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from containers.without_engine import copies_of, stages
from twincar.cli.serving import serve
from twincar.deploy.server.connection import TimeoutProtocol
from twincar.deploy.server.limits import Limits
from twincar.deploy.server.settings import HttpSettings

ROOT = Path(__file__).resolve().parents[3]
IMAGE = stages()[-1]
PORT = inspect.signature(serve).parameters["port"].default
GRACE = HttpSettings().grace_period
DRAINING = GRACE + Limits().upload_seconds + Limits().response_seconds + TimeoutProtocol.reading_seconds


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "containers" / "compose.yaml").read_text(encoding="utf-8")
    service: dict[str, Any] = yaml.safe_load(text)["services"]["twincar"]
    return service


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    text = (ROOT / "containers" / "kubernetes.yaml").read_text(encoding="utf-8")
    deployment, service, _ = yaml.safe_load_all(text)
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    described: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return described


def test_the_image_serves_as_a_user_without_rights() -> None:
    assert int(IMAGE.last("USER")) > 0
    assert f"--uid {IMAGE.last('USER')} " in " ".join(rest for kind, rest in IMAGE.steps if kind == "RUN")
    assert json.loads(IMAGE.last("ENTRYPOINT"))[:2] == ["twincar", "serve"]
    assert int(IMAGE.last("EXPOSE")) == PORT
    assert f"127.0.0.1:{PORT}/healthz" in IMAGE.last("HEALTHCHECK")
    assert IMAGE.environment["HF_HOME"].startswith("/tmp/")


def test_an_instruction_that_would_be_left_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM debian:trixie-slim\nADD a b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="but found: ADD a b"):
        stages(tmp_path / "Containerfile")


def test_a_step_cannot_change_files_of_this_machine(tmp_path: Path) -> None:
    """It gets copies: installing certificates writes into its /etc/ssl/certs."""
    certificates, hosts, scratch = tmp_path / "certs", tmp_path / "hosts", tmp_path / "scratch"
    certificates.mkdir()
    scratch.mkdir()
    for file in (certificates / "bundle.crt", hosts):
        file.write_text("as before", encoding="utf-8")
    copies = copies_of((str(certificates), str(hosts)), scratch)
    assert copies[str(hosts)].read_text(encoding="utf-8") == "as before"
    for file in (copies[str(certificates)] / "bundle.crt", copies[str(hosts)]):
        file.write_text("by a step", encoding="utf-8")
    assert {(certificates / "bundle.crt").read_text(encoding="utf-8"), hosts.read_text(encoding="utf-8")} == {
        "as before"
    }


def test_all_that_is_copied_is_in_the_context() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    copied = [rest.split() for stage in stages() for kind, rest in stage.steps if kind == "COPY"]
    wanted = {name for words in copied if not words[0].startswith("--from=") for name in words[:-1]}
    assert wanted == allowed
    assert all((ROOT / name).exists() for name in wanted)


def test_requests_in_progress_are_finished_before_a_kill(compose: dict[str, Any], pod: dict[str, Any]) -> None:
    """The docs name the same time."""
    seconds = pod["terminationGracePeriodSeconds"]
    assert compose["stop_grace_period"] == f"{seconds}s"
    assert DRAINING < seconds <= DRAINING + 10
    docs = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert re.findall(r"terminationGracePeriodSeconds: (\d+)", docs) == [str(seconds)]
    assert f"{DRAINING - GRACE:.0f} seconds that a request may take" in " ".join(docs.split())
    for text in ("compose.yaml", "kubernetes.yaml"):
        assert f"The grace period ({GRACE:.0f} s)" in (ROOT / "containers" / text).read_text(encoding="utf-8")


def test_a_pod_under_load_stays_in_its_service(pod: dict[str, Any]) -> None:
    """One slow answer is not enough to leave it, and it leaves before it is restarted."""
    (container,) = pod["containers"]
    ready, live = container["readinessProbe"], container["livenessProbe"]
    assert ready["failureThreshold"] >= 2
    assert ready["failureThreshold"] * ready["periodSeconds"] < live["failureThreshold"] * live["periodSeconds"]


def test_the_ingress_has_tls_and_lets_the_largest_request_through() -> None:
    _, service, ingress = yaml.safe_load_all((ROOT / "containers" / "kubernetes.yaml").read_text(encoding="utf-8"))
    (tls,), (rule,) = ingress["spec"]["tls"], ingress["spec"]["rules"]
    assert tls["hosts"] == [rule["host"]]
    (path,) = rule["http"]["paths"]
    (port,) = service["spec"]["ports"]
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"number": port["port"]}}
    body = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert 0 <= int(body.removesuffix("m")) * 2**20 - Limits().request_bytes <= 2**20


def test_several_files_are_copied_into_a_folder() -> None:
    """Without the slash some builders refuse."""
    copies = [rest.split() for stage in stages() for kind, rest in stage.steps if kind == "COPY"]
    assert all(words[-1].endswith("/") for words in copies if len(words) > 2 and not words[0].startswith("--"))


def test_the_probes_are_endpoints_without_a_key(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]


def test_both_run_it_without_rights_on_a_read_only_disk(compose: dict[str, Any], pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == int(IMAGE.last("USER"))
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert compose["read_only"]
    assert compose["tmpfs"] == ["/tmp"]
    assert compose["cap_drop"] == ["ALL"]
    assert compose["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]


def test_it_computes_with_as_many_threads_as_it_has_cores(compose: dict[str, Any], pod: dict[str, Any]) -> None:
    """The limit is one of time, so that a process sees all cores of its machine."""
    assert compose["environment"]["OMP_NUM_THREADS"] == str(compose["cpus"])
    (container,) = pod["containers"]
    (threads,) = [entry["valueFrom"] for entry in container["env"] if entry["name"] == "OMP_NUM_THREADS"]
    assert threads == {"resourceFieldRef": {"resource": "limits.cpu"}}
    assert int(container["resources"]["limits"]["cpu"]) == compose["cpus"]
