"""What manifests.rs runs: the files of deploy/, merged and checked strictly.

    manifests.py kubernetes FOLDER    base and overlays: merged by kubectl where there is one, checked by schema
    manifests.py kserve FOLDER        what KServe's types allow, as far as our files use them
    manifests.py swarm FILE           what `docker-compose config` printed, against what we want of a stack
    manifests.py arguments FILE       the serving runtime's arguments, one a line
"""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

# Lists that a strategic merge joins element by element, with the key that tells which is which.
MERGED = {"containers": "name", "volumes": "name", "volumeMounts": "mountPath", "env": "name", "ports": "containerPort"}
# Of Kubernetes; `lifecycle.preStop.sleep` is in none before 1.30.
VERSION = "1.32"


def read(path):
    return [document for document in yaml.safe_load_all(Path(path).read_text()) if document]


def merge(under, over):
    """A strategic merge, as far as our patches go."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if over.get("$patch") == "replace":
        return {key: value for key, value in over.items() if key != "$patch"}
    merged = dict(under)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif key in MERGED and isinstance(value, list) and key in merged:
            merged[key] = merge_list(merged[key], value, MERGED[key])
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def merge_list(under, over, name):
    merged = {element[name]: element for element in under}
    for element in over:
        merged[element[name]] = merge(merged.get(element[name]), element)
    return list(merged.values())


def build(folder):
    """What `kubectl kustomize` makes of a folder that uses resources, patches and images only."""
    folder = Path(folder)
    (kustomization,) = read(folder / "kustomization.yaml")
    unknown = set(kustomization) - {"apiVersion", "kind", "resources", "patches", "images"}
    assert not unknown, f"{folder}: this test does not merge {unknown}"
    objects = {}
    for resource in kustomization["resources"]:
        path = folder / resource
        for document in build(path) if path.is_dir() else read(path):
            objects[identity(document)] = document
    for patch in kustomization.get("patches", []):
        assert set(patch) == {"path"}, patch
        for document in read(folder / patch["path"]):
            assert identity(document) in objects, f"{folder}: {patch} patches what is not there"
            if document.get("$patch") == "delete":
                del objects[identity(document)]
            else:
                objects[identity(document)] = merge(objects[identity(document)], document)
    for image in kustomization.get("images", []):
        for document in objects.values():
            for container in pod(document).get("containers", []):
                if container["image"].split(":")[0] == image["name"]:
                    container["image"] = f"{image['name']}:{image['newTag']}"
    return [copy.deepcopy(document) for document in objects.values()]


def identity(document):
    return document["apiVersion"], document["kind"], document["metadata"]["name"]


def pod(document):
    return document.get("spec", {}).get("template", {}).get("spec", {})


def by_kind(documents):
    kinds = {document["kind"]: document for document in documents}
    assert len(kinds) == len(documents), "two objects of one kind"
    return kinds


def rejects(document, why):
    try:
        kubernetes_validate.validate(document, VERSION, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError):
        return
    raise AssertionError(f"the validator lets through {why}")


def kubernetes(root):
    root = Path(root)
    built = {name: build(root / name) for name in ["base", "overlays/gpu", "overlays/jetson"]}
    if shutil.which("kubectl"):
        for name, documents in built.items():
            told = subprocess.run(["kubectl", "kustomize", root / name], capture_output=True, text=True, check=True)
            by_kubectl = by_kind([document for document in yaml.safe_load_all(told.stdout) if document])
            assert by_kubectl == by_kind(documents), f"{name}: kubectl merges it to\n{told.stdout}"
    else:
        print("SKIPPED: no kubectl: the overlays are merged by this test alone, and checked as that")
    for documents in built.values():
        for document in documents:
            kubernetes_validate.validate(document, VERSION, strict=True)
        hangs_together(by_kind(documents))

    # That the validator is strict at all.
    misspelt = copy.deepcopy(by_kind(built["base"])["Deployment"])
    container = pod(misspelt)["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    rejects(misspelt, "a misspelt probe")

    base, gpu, jetson = (by_kind(built[name]) for name in built)
    assert pod(base["Deployment"])["containers"][0]["image"] == "wharf:cpu"
    assert "runtimeClassName" not in pod(base["Deployment"]) and "HorizontalPodAutoscaler" in base
    for overlay, tag, arch in [(gpu, "cuda", "amd64"), (jetson, "l4t", "arm64")]:
        spec = pod(overlay["Deployment"])
        assert spec["runtimeClassName"] == "nvidia" and spec["nodeSelector"]["kubernetes.io/arch"] == arch
        (container,) = spec["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1" and container["image"] == f"wharf:{tag}"
        assert container["startupProbe"], "a patch lost the base's probes"
        assert "--require-device" in container["args"], "it would run on the processor, unnoticed"
        assert "HorizontalPodAutoscaler" not in overlay
    claim = jetson["PersistentVolumeClaim"]["metadata"]["name"]
    state = {"name": "state", "persistentVolumeClaim": {"claimName": claim}}
    assert pod(jetson["Deployment"])["volumes"] == [state], pod(jetson["Deployment"])["volumes"]
    assert jetson["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


def hangs_together(kinds):
    """Names, labels and ports mean the same thing everywhere; the pod is locked up."""
    deployment, service = kinds["Deployment"], kinds["Service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors), selectors
    (container,) = pod(deployment)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 5000, "inference": 8000}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    paths = {"startupProbe": "ready", "readinessProbe": "ready", "livenessProbe": "live"}
    for probe, path in paths.items():
        asked = container[probe]["httpGet"]
        assert asked == {"path": f"/v2/health/{path}", "port": "inference"}, asked
    assert pod(deployment)["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    locked = container["securityContext"]
    assert locked["readOnlyRootFilesystem"] and locked["capabilities"]["drop"] == ["ALL"]
    assert not locked["allowPrivilegeEscalation"] and pod(deployment)["securityContext"]["runAsNonRoot"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod(deployment)["volumes"]}
    if scaler := kinds.get("HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert container["resources"]["requests"]["cpu"], "the scaler needs a request to be a share of"


# Of serving.kserve.io/v1alpha1 ServingRuntimeSpec: what our file uses, with the type of each. Containers and volumes are
# Kubernetes' own and are checked as such.
RUNTIME = {
    "annotations": dict,
    "supportedModelFormats": list,
    "protocolVersions": list,
    "containers": list,
    "volumes": list,
}
FORMAT = {"name": str, "version": str, "autoSelect": bool, "priority": int}
# Of serving.kserve.io/v1beta1 ModelSpec.
MODEL = {"modelFormat": dict, "protocolVersion": str, "runtime": str, "storageUri": str}


def shaped(value, shape, where):
    assert set(value) <= set(shape), f"{where}: unknown {set(value) - set(shape)}"
    for key, kind in shape.items():
        assert key not in value or type(value[key]) is kind, f"{where}.{key} is {value[key]!r}, not {kind.__name__}"


def serving_runtime(path):
    (runtime,) = read(path)
    assert identity(runtime)[:2] == ("serving.kserve.io/v1alpha1", "ClusterServingRuntime")
    return runtime


def kserve(folder):
    folder = Path(folder)
    runtime = serving_runtime(folder / "clusterservingruntime.yaml")
    shaped(runtime, {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}, "runtime")
    spec = runtime["spec"]
    shaped(spec, RUNTIME, "spec")
    for model_format in spec["supportedModelFormats"]:
        shaped(model_format, FORMAT, "supportedModelFormats")
    assert spec["protocolVersions"] == ["v2"]
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container", "KServe looks for this name"
    as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    inner = {"containers": spec["containers"], "volumes": spec["volumes"]}
    kubernetes_validate.validate(as_pod | {"spec": inner}, VERSION, strict=True)
    port = container["ports"][0]["containerPort"]
    assert f"0.0.0.0:{port}" in container["args"], "the port that is declared is the one that is served"
    assert all(container[probe]["httpGet"]["port"] == port for probe in ("startupProbe", "readinessProbe", "livenessProbe"))

    (service,) = read(folder / "inferenceservice.yaml")
    assert identity(service)[:2] == ("serving.kserve.io/v1beta1", "InferenceService")
    shaped(service["spec"], {"predictor": dict}, "spec")
    shaped(service["spec"]["predictor"], {"minReplicas": int, "model": dict}, "predictor")
    model = service["spec"]["predictor"]["model"]
    shaped(model, MODEL, "model")
    assert model["runtime"] == runtime["metadata"]["name"] and model["protocolVersion"] == "v2"
    offered = [model_format["name"] for model_format in spec["supportedModelFormats"]]
    assert model["modelFormat"]["name"] in offered


def swarm(path):
    (stack,) = read(path)
    service = stack["services"]["wharf"]
    assert service["image"] == "wharf:cpu" and service["healthcheck"]["test"] == ["CMD", "wharf", "health"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["deploy"]["update_config"]["failure_action"] == "rollback"
    mounted = {volume.split(":")[0] if isinstance(volume, str) else volume["source"] for volume in service["volumes"]}
    assert mounted == set(stack["volumes"])


def arguments(path):
    print("\n".join(serving_runtime(path)["spec"]["containers"][0]["args"]))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
