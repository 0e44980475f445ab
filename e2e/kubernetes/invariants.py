#!/usr/bin/env python3
"""What holds of a node at rest, whatever was killed before; prints each thing that does not.

    hack/kube enter e2e/kubernetes/invariants.py KUBECTL CRICTL

What the API server wants is compared with what the runtime lists, and both with what the kernel and the
disk hold: every pod and every container there once, with all that belongs to it, and nothing else. Records
of what has ended are kubelet's to remove and may be there; all they may hold is their files.
"""

import collections
import glob
import json
import os
import re
import subprocess
import sys

kubectl, crictl = sys.argv[1:3]
directory = os.environ["INSULA_KUBE"] + "/daemon"
broken = []


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, text=True).stdout


def read(path):
    with open(path) as file:
        return file.read()


def same(what, want, got):
    """Both have the same members, as often."""
    want, got = collections.Counter(want), collections.Counter(got)
    broken.extend(f"{what}: there is no {item}" for item in (want - got).elements())
    broken.extend(f"{what}: there should be no {item}" for item in (got - want).elements())


def wanted():
    """Pods that the API server has on this node and that have not ended, deleted ones included."""
    pods = json.loads(run(kubectl, "get", "pods", "--all-namespaces", "-o", "json"))["items"]
    return [pod for pod in pods if pod["spec"].get("nodeName") and pod["status"]["phase"] not in ("Succeeded", "Failed")]


def living(pod):
    """The containers of a pod that go on: init containers end."""
    inits = [init for init in pod["spec"].get("initContainers", []) if init.get("restartPolicy") == "Always"]
    return [container["name"] for container in inits + pod["spec"]["containers"]]


def container_ids(pod):
    states = pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", [])
    return [state["containerID"].removeprefix("insula://") for state in states if "running" in state.get("state", {})]


def sandboxes():
    """What the runtime says of each pod that is ready."""
    ids = [pod["id"] for pod in json.loads(run(crictl, "pods", "-o", "json"))["items"] if pod["state"] == "SANDBOX_READY"]
    if not ids:
        return []
    found = json.loads(run(crictl, "inspectp", "-o", "json", *ids))
    return [one["status"] for one in (found if isinstance(found, list) else [found])]


def children(*patterns):
    """Names of what is in directories."""
    return [os.path.basename(path) for pattern in patterns for path in glob.glob(f"{directory}/{pattern}")]


def supervisors():
    """The pod of each: it may have children of its own."""
    for path in glob.glob("/proc/[0-9]*"):
        try:
            words = read(f"{path}/cmdline").split("\0")
            parent = re.search(r"^PPid:\s*(\d+)", read(f"{path}/status"), re.M)[1]
            if words[0] == "insula-pod" and not read(f"/proc/{parent}/cmdline").startswith("insula-pod\0"):
                yield words[1]
        except (FileNotFoundError, ProcessLookupError):
            continue


def check_pods(pods, ready):
    same("ready pods", [pod["metadata"]["uid"] for pod in pods], [one["metadata"]["uid"] for one in ready])
    addresses = [(pod["metadata"]["uid"], pod["status"].get("podIP")) for pod in pods if not pod["spec"].get("hostNetwork")]
    got = [(one["metadata"]["uid"], one["network"]["ip"]) for one in ready if on_bridge(one)]
    same("addresses that kubelet tells", addresses, got)
    same("supervisors", [one["id"] for one in ready], supervisors())


def on_bridge(sandbox):
    return sandbox["linux"]["namespaces"]["options"]["network"] == "POD"


def check_containers(pods, containers):
    running = [one for one in containers if one["state"] == "CONTAINER_RUNNING"]
    names = [(one["labels"]["io.kubernetes.pod.uid"], one["metadata"]["name"]) for one in running]
    same("running containers", [(pod["metadata"]["uid"], name) for pod in pods for name in living(pod)], names)
    ids = [one["id"] for one in running]
    # A kubelet that was killed before it started one makes another; this one waits until the pod goes.
    waiting = [one["id"] for one in containers if one["state"] == "CONTAINER_CREATED"]
    same("containers that kubelet tells", [id for pod in pods for id in container_ids(pod)], ids)
    same("writable layers", [one["id"] for one in containers], children("root/rw/*"))
    for hierarchy in {"/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*")}:
        if not os.path.isdir(f"{hierarchy}/kubepods"):
            continue
        groups = glob.glob(f"{hierarchy}/kubepods/**/insula-*", recursive=True)
        same(f"cgroups in {hierarchy}", waiting + ids, [os.path.basename(group).removeprefix("insula-") for group in groups])
        if hierarchy.endswith(("/pids", "/cgroup")):
            inhabited = {path for path, _, _ in os.walk(f"{hierarchy}/kubepods") if read(f"{path}/cgroup.procs")}
            same("cgroups with processes", groups, inhabited)


def check_network(ready):
    ready = [one for one in ready if on_bridge(one)]
    ids = [one["id"] for one in ready]
    ips = [one["network"]["ip"] for one in ready]
    same("network namespaces", ids, children("state/netns/*"))
    same("records of attachments", ids, [name.removesuffix(".json") for name in children("root/network/*.json")])
    files = glob.glob(f"{directory}/addresses/*/[0-9]*") + glob.glob(f"{directory}/root/addresses/*/[0-9]*")
    # Both plugins make the file before they write into it, under a lock: each loss of power can leave one
    # that is empty. To insula-net it is a free address; host-local has no GC and keeps it for ever.
    empty = [file for file in files if not read(file).strip("\0 \n")]
    if len(empty) <= int(os.environ.get("power_losses", "0")):
        files = set(files) - set(empty)
    leases = [(os.path.basename(file), next(iter(read(file).split()), "")) for file in files]
    same("addresses in use", [(one["network"]["ip"], one["id"]) for one in ready], leases)
    bridge = read(f"{directory}/bridge").strip()
    links = json.loads(run("ip", "-json", "link", "show", "type", "veth") or "[]")
    pairs = [link["ifname"] for link in links if link.get("master") == bridge]
    same("interfaces", ["one of a pod"] * len(ids), ["one of a pod"] * len(pairs))
    others = [link["ifname"] for link in links if link.get("master") != bridge]
    same("other interfaces", ["node0", "node1"], others)
    own = run("nft", "list", "ruleset")
    if "table inet insula" in own:
        elements = re.search(r"map masq4 {.*?elements = {(.*?)}", own, re.S)
        same("masquerading", ips, re.findall(r"(\d+\.\d+\.\d+\.\d+)[^,]*:", elements[1]) if elements else [])
    else:
        rules = run("iptables", "-t", "nat", "-S", "POSTROUTING")
        same("masquerading", ips, re.findall(r"-s (\S+)/32 .*-j CNI-", rules))


def check_mounts(pods, ready):
    uids = {pod["metadata"]["uid"] for pod in pods}
    mounts = [line.split()[4] for line in read("/proc/self/mountinfo").splitlines()]
    volumes = {re.match(r"/var/lib/kubelet/pods/([^/]+)/", path)[1] for path in mounts if path.startswith("/var/lib/kubelet/pods/")}
    same("pods with mounted volumes", [], volumes - uids)
    below = [path.removeprefix(directory) for path in mounts if path.startswith(f"{directory}/")]
    same("mounts", ["/state"] + [f"/state/netns/{one['id']}" for one in ready if on_bridge(one)], below)


pods, ready = wanted(), sandboxes()
containers = json.loads(run(crictl, "ps", "-a", "-o", "json"))["containers"]
check_pods(pods, ready)
check_containers(pods, containers)
check_network(ready)
check_mounts(pods, ready)
same("what is being pulled or was set aside", [], children("root/staging/*", "state/unreadable/*"))
print("\n".join(broken), end="\n" if broken else "")
