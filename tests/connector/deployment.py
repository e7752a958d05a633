"""Judges deploy/compose and deploy/kubernetes: by the published schemas, and by what these cannot see.

    deployment.py DEPLOY OUT

DEPLOY is the folder, OUT one that the configuration in the ConfigMap is written to, for the gateway to judge. Every fault
is printed; the exit code is 1 when there was one.
"""

import pathlib
import re
import subprocess
import sys

import kubernetes_validate
import yaml

# The oldest that the manifests are for, and the newest that is known.
KUBERNETES = ["1.30", "1.37"]
REFUSED = (
    kubernetes_validate.ValidationError,
    kubernetes_validate.SchemaNotFoundError,
    kubernetes_validate.InvalidSchemaError,
)
# A version with a point in it: no `latest`, and nothing that moves by itself.
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?(@sha256:[0-9a-f]{64})?")
# The seconds that a stop takes at most: requests (8), deliveries (2), and the store with some.
STOP_SECONDS = 30

faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def pinned(where, image):
    if not PINNED.fullmatch(image or ""):
        fault(where, f"the image {image} is not pinned to a version")


def compose(folder):
    """The services, by the schema of the compose specification; and that what they name is there."""
    path = folder / "compose.yaml"
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        fault(path.name, checked.stdout + checked.stderr)
    file = yaml.safe_load(path.read_text())
    services, volumes, networks = file["services"], file.get("volumes", {}), file.get("networks", {})
    used = set()
    for name, service in services.items():
        pinned(name, service.get("image"))
        for other in service.get("depends_on", []):
            if other not in services:
                fault(name, f"depends on {other}, which is not there")
        for network in service.get("networks", []):
            if network not in networks:
                fault(name, f"is in the network {network}, which is not there")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("."):
                used.add(source)
                if source not in volumes:
                    fault(name, f"uses the volume {source}, which is not there")
            elif not source.startswith("./generated") and not (folder / source).exists():
                fault(name, f"mounts {source}, which is not there")
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                fault(name, f"publishes {port} to others than this machine")
        for variable, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|URL", variable):
                fault(name, f"has {variable} in the file: {value!r}")
        if "env_file" in service and any(not file.startswith("generated/") for file in service["env_file"]):
            fault(name, "takes its variables from a file that is in version control")
    if used != set(volumes):
        fault(path.name, f"volumes that nobody uses: {set(volumes) - used}")
    gateways = [service for name, service in services.items() if name.startswith("gateway-")]
    if len(gateways) < 2 or len([name for name in services if name.startswith("nats-")]) != 3:
        fault(path.name, "two gateways and three NATS servers are meant")
    for gateway in gateways:
        if int(gateway["stop_grace_period"].removesuffix("s")) < STOP_SECONDS:
            fault(path.name, "a gateway is not given the time that a stop takes")
    # The load balancer goes to every gateway there is, and to no other.
    balanced = re.findall(r"^\s+server (\S+) (\S+):8080$", (folder / "haproxy.cfg").read_text(), re.MULTILINE)
    if {host for _, host in balanced} != {name for name in services if name.startswith("gateway-")}:
        fault("haproxy.cfg", f"goes to {balanced}")
    routes = set(re.findall(r"nats://(nats-\d):6222", (folder / "nats.conf").read_text()))
    if routes != {name for name in services if name.startswith("nats-")}:
        fault("nats.conf", f"routes go to {routes}")


def resources(folder):
    """Every resource of the manifests, with the file it is in."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] != "Kustomization":
                found.append((path.name, document))
    return found


def pod(where, spec, known):
    """What must hold for each pod, whatever starts it."""
    if spec["securityContext"].get("runAsNonRoot") is not True or not spec["securityContext"].get("runAsUser"):
        fault(where, "may run as root")
    if spec["securityContext"].get("seccompProfile", {}).get("type") != "RuntimeDefault":
        fault(where, "has no seccomp profile")
    if spec.get("automountServiceAccountToken") is not False:
        fault(where, "is given a token of the cluster")
    if ("ServiceAccount", spec.get("serviceAccountName")) not in known:
        fault(where, f"runs as {spec.get('serviceAccountName')}, which is not there")
    volumes = {}
    for volume in spec["volumes"]:
        volumes[volume["name"]] = volume
        for kind, key, name in [("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")]:
            if key in volume and (kind, volume[key][name]) not in known:
                fault(where, f"mounts the {kind} {volume[key][name]}, which is not there")
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o027:
            fault(where, "others may read its secrets")
    for container in spec["containers"]:
        pinned(where, container["image"])
        context = container["securityContext"]
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        for key, value in wanted.items():
            if context.get(key) != value:
                fault(where, f"{key} is {context.get(key)}")
        for kind in ["requests", "limits"]:
            if "memory" not in container["resources"][kind]:
                fault(where, f"says nothing of memory in {kind}")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if mounted != set(volumes):
            fault(where, f"mounts {sorted(mounted)} of the volumes {sorted(volumes)}")
        for mount in container["volumeMounts"]:
            if not mount.get("readOnly") and "emptyDir" not in volumes[mount["name"]]:
                fault(where, f"may write {mount['mountPath']}")


def probes(where, spec):
    """What decides who gets requests, and who is ended."""
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in [("startupProbe", "live"), ("readinessProbe", "ready"), ("livenessProbe", "live")]:
        asked = container[probe]["httpGet"]
        if asked != {"path": f"/health/{path}", "port": "admin"} or ports["admin"] != 8081:
            fault(where, f"{probe} asks {asked}")
    sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    if spec["terminationGracePeriodSeconds"] < sleeps + STOP_SECONDS:
        fault(where, "is ended before a stop is over")
    if {one["topologyKey"] for one in spec["topologySpreadConstraints"]} < {"kubernetes.io/hostname"}:
        fault(where, "may stand on one node with all others")
    return ports


def kubernetes(folder, out):
    """The manifests, by the schemas of Kubernetes; and that they go together."""
    found = resources(folder)
    for where, document in found:
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except REFUSED as refused:
                fault(f"{where}, Kubernetes {version}", str(refused).splitlines()[0])
        if "namespace" in document["metadata"]:
            fault(where, "says a namespace")
    if faults:
        # What follows relies on what the schemas hold.
        return
    known = {(document["kind"], document["metadata"]["name"]): document for _, document in found}
    if len(known) != len(found):
        fault(folder.name, "two resources have one name")
    deployment = known["Deployment", "streamgate"]["spec"]
    template, job = deployment["template"], known["Job", "streamgate-migrate"]["spec"]["template"]
    for where, one in [("deployment", template), ("job", job)]:
        pod(where, one["spec"], known)
    ports = probes("deployment", template["spec"])
    if deployment["replicas"] < 2 or deployment["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        fault("deployment", "there may be fewer than two gateways")
    images = {one["spec"]["containers"][0]["image"] for one in [template, job]}
    if len(images) != 1:
        fault("job", f"is of another version: {images}")

    def selects(labels, selected):
        return labels.items() <= selected.items()

    gateways, migration = template["metadata"]["labels"], job["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"], known["Service", "streamgate"]["spec"]["selector"]]
    selectors.append(known["PodDisruptionBudget", "streamgate"]["spec"]["selector"]["matchLabels"])
    selectors += [one["labelSelector"]["matchLabels"] for one in template["spec"]["topologySpreadConstraints"]]
    for selector in selectors:
        if not selects(selector, gateways) or selects(selector, migration):
            fault(folder.name, f"{selector} selects something else than the gateways")
    policy = known["NetworkPolicy", "streamgate"]["spec"]["podSelector"]["matchLabels"]
    if not selects(policy, gateways) or not selects(policy, migration):
        fault("network-policy", "does not hold for both")
    for port in known["Service", "streamgate"]["spec"]["ports"]:
        if ports.get(port["targetPort"]) != 8080:
            fault("service", f"leads to {port['targetPort']}")
    for value in known["Secret", "streamgate"]["stringData"].values():
        if value:
            fault("secret.example.yaml", "holds a value")
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    left_out = {"kustomization.yaml", "secret.example.yaml", "migrate-job.yaml"}
    if set(listed) != {path.name for path in folder.glob("*.yaml")} - left_out:
        fault("kustomization.yaml", f"lists {listed}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "streamgate.toml").write_text(known["ConfigMap", "streamgate"]["data"]["streamgate.toml"])


def main():
    deploy, out = map(pathlib.Path, sys.argv[1:])
    compose(deploy / "compose")
    kubernetes(deploy / "kubernetes", out)
    for one in faults:
        print(one)
    print("faults:", len(faults))
    sys.exit(bool(faults))


main()
