"""The manifests for Kubernetes: valid by its schemas, and what they contain is valid by ours."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ndpresponder import __version__
from ndpresponder.file import read_text

MANIFESTS = Path(__file__).parents[2] / "packaging/kubernetes/ndpresponder.yaml"
NEWEST = kubernetes_validate.latest_version()


def manifests() -> dict[str, Any]:
    """Return each resource, by its kind."""
    return {resource["kind"]: resource for resource in yaml.safe_load_all(MANIFESTS.read_text())}


@pytest.mark.parametrize("release", ["1.31", NEWEST])
def test_the_schemas_allow_them(release: str) -> None:
    assert set(manifests()) == {"ConfigMap", "DaemonSet"}
    for resource in manifests().values():
        kubernetes_validate.validate(resource, release, strict=True)


def test_a_key_that_is_unknown_is_not_allowed() -> None:
    resource = manifests()["DaemonSet"]
    resource["spec"]["template"]["spec"]["hostNetworks"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource, NEWEST, strict=True)


def test_the_file_is_valid_and_the_one_that_is_read() -> None:
    data = manifests()["ConfigMap"]["data"]
    [(name, text)] = data.items()
    assert [config.ifname for config in read_text(text, name).interfaces] == ["auto"]
    [container] = manifests()["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    [mount] = container["volumeMounts"]
    assert container["args"] == ["-c", f"{mount['mountPath']}/{name}"]
    [volume] = manifests()["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    assert volume == {"name": mount["name"], "configMap": {"name": manifests()["ConfigMap"]["metadata"]["name"]}}


def test_it_may_do_what_it_needs_and_no_more() -> None:
    pod = manifests()["DaemonSet"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["hostNetwork"]
    assert container["image"].endswith(f":{__version__}")
    assert container["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_RAW", "NET_ADMIN"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert set(container["resources"]["limits"]) == {"memory"}


def test_it_is_restarted_by_what_the_image_calls_unhealthy() -> None:
    dockerfile = (MANIFESTS.parents[1] / "docker/Dockerfile").read_text()
    [container] = manifests()["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    shell, option, command = container["livenessProbe"]["exec"]["command"]
    assert (shell, option) == ("sh", "-c")
    assert f"    CMD {command}\n" in dockerfile.replace("'", '"')
