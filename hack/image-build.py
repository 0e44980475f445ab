#!/usr/bin/env python3
"""Packs trees as image layers and pushes the images of a recipe to a registry.

    image-build.py tar TREE OUT.tar
    image-build.py push RECIPE.toml PARTS STORAGE URL >refs.json
    image-build.py layout RECIPE.toml PARTS OUT

`push` and `layout` read layers from PARTS/NAME.tar. `layout` writes the directory that agnhost's
registry serves (k8s.io/kubernetes, test/images/agnhost/fakeregistryserver); `push` talks to the registry's HTTP interface at URL and prints
which name has which digest. STORAGE is that registry's directory: images with a defect that no
registry would take are spoiled in it afterwards. The same input gives the same digests.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tarfile
import tomllib
import urllib.request

EPOCH = 1767225600  # 2026-01-01, the time of everything in an image
CREATED = "2026-01-01T00:00:00Z"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
MEDIA = {
    "oci": {
        "manifest": f"{OCI}.manifest.v1+json",
        "index": f"{OCI}.index.v1+json",
        "config": f"{OCI}.config.v1+json",
        "gzip": f"{OCI}.layer.v1.tar+gzip",
        "zstd": f"{OCI}.layer.v1.tar+zstd",
        "none": f"{OCI}.layer.v1.tar",
    },
    "docker": {
        "manifest": f"{DOCKER}.distribution.manifest.v2+json",
        "index": f"{DOCKER}.distribution.manifest.list.v2+json",
        "config": f"{DOCKER}.container.image.v1+json",
        "gzip": f"{DOCKER}.image.rootfs.diff.tar.gzip",
    },
}
TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value):
    return json.dumps(value, indent=2, sort_keys=True).encode()


def pack_tree(tree, out):
    """Writes TREE as a tar: sorted, numeric owners, one time for all, hard links kept."""

    def plain(member):
        member.mtime = EPOCH
        member.uname = member.gname = ""
        return member

    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(pathlib.Path(tree).rglob("*")):
            archive.add(path, arcname=str(path.relative_to(tree)), recursive=False, filter=plain)


def pack_entries(entries):
    """A layer spelled out entry by entry, as no tree could hold it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            kind = entry.get("type", "file")
            member = tarfile.TarInfo(entry["path"])
            member.type = TYPES[kind]
            member.mode = entry.get("mode", 0o755 if kind == "dir" else 0o644)
            member.uid, member.gid = entry.get("uid", 0), entry.get("gid", 0)
            member.mtime = EPOCH
            member.linkname = entry.get("target", "")
            member.devmajor, member.devminor = entry.get("major", 0), entry.get("minor", 0)
            for name, value in entry.get("xattr", {}).items():
                member.pax_headers["SCHILY.xattr." + name] = value
            data = entry.get("data", "").encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, compresslevel=6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-6"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


class Registry:
    """The few calls of the distribution interface that pushing needs."""

    def __init__(self, url, storage):
        self.url = url
        self.storage = pathlib.Path(storage)

    def call(self, method, url, body=None, kind=None):
        request = urllib.request.Request(url, data=body, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            return urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            if method == "HEAD" and error.code == 404:
                return None
            sys.exit(f"{method} {url}: {error.code} {error.read(1000).decode(errors='replace')}")

    def blob(self, repository, data):
        name = digest(data)
        base = f"{self.url}/v2/{repository}/blobs"
        if not self.call("HEAD", f"{base}/{name}"):
            location = self.call("POST", f"{base}/uploads/", b"").headers["Location"]
            separator = "&" if "?" in location else "?"
            self.call("PUT", f"{location}{separator}digest={name}", data, "application/octet-stream")
        return {"digest": name, "size": len(data)}

    def manifest(self, repository, reference, document):
        data = to_json(document)
        self.call("PUT", f"{self.url}/v2/{repository}/manifests/{reference or digest(data)}", data, document["mediaType"])
        return {"mediaType": document["mediaType"], "digest": digest(data), "size": len(data)}

    def spoil(self, name):
        """Changes one byte of a stored blob, as a broken disk or a liar would."""
        value = name.removeprefix("sha256:")
        path = self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


class Layout:
    """A registry that is a directory: IMAGE/{blobs,manifests}/sha256/XX/HEX/data, and a file for a tag."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def write(self, kind, data):
        value = digest(data).removeprefix("sha256:")
        path = self.root / kind / "sha256" / value[:2] / value / "data"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"digest": digest(data), "size": len(data)}

    def blob(self, repository, data):
        return self.write(f"{repository}/blobs", data)

    def manifest(self, repository, reference, document):
        written = self.write(f"{repository}/manifests", to_json(document))
        if reference:
            (self.root / repository / "manifests" / reference).write_text(written["digest"])
        return {"mediaType": document["mediaType"], **written}


class Builder:
    """Turns one [[image]] of the recipe into blobs and manifests."""

    def __init__(self, registry, parts):
        self.registry = registry
        self.parts = pathlib.Path(parts)
        self.packed = {}

    def layer(self, source, how):
        """(compressed, diff id) of a part by name or of a list of entries."""
        if not isinstance(source, str):
            data = pack_entries(source)
            return compress(data, how), digest(data)
        if (source, how) not in self.packed:
            data = (self.parts / f"{source}.tar").read_bytes()
            self.packed[source, how] = compress(data, how), digest(data)
        return self.packed[source, how]

    def push(self, image, repository, architecture):
        media = MEDIA[image.get("format", "oci")]
        how = image.get("compression", "gzip")
        defect = image.get("defect")
        layers, ids = [], []
        for source in image["layers"]:
            data, diff_id = self.layer(source, how)
            layers.append({"mediaType": media[how], **self.registry.blob(repository, data)})
            ids.append(diff_id)
        if defect == "diff-id":
            ids[-1] = digest(b"another layer")
        if defect == "size":
            layers[-1]["size"] += 1
        config = to_json({
            "architecture": architecture,
            "os": "linux",
            "created": CREATED,
            "config": image.get("config", {}),
            "rootfs": {"type": "layers", "diff_ids": ids},
            "history": [{"created": CREATED, "created_by": "hack/images"} for _ in ids],
        })
        document = {
            "schemaVersion": 2,
            "mediaType": media["manifest"],
            "config": {"mediaType": media["config"], **self.registry.blob(repository, config)},
            "layers": layers,
        }
        if defect == "blob":
            self.registry.spoil(layers[-1]["digest"])
        return document

    def index(self, image, repository):
        """An index as the usual builders write them: platforms, and an attestation for the first."""
        media = MEDIA[image.get("format", "oci")]
        children = []
        for architecture in image["architectures"]:
            child = self.registry.manifest(repository, None, self.push(image, repository, architecture))
            children.append({**child, "platform": {"os": "linux", "architecture": architecture}})
        statement = self.registry.blob(repository, to_json({"_type": "https://in-toto.io/Statement/v0.1"}))
        attestation = self.registry.manifest(repository, None, {
            "schemaVersion": 2,
            "mediaType": MEDIA["oci"]["manifest"],
            "config": {"mediaType": MEDIA["oci"]["config"], **self.registry.blob(repository, b"{}")},
            "layers": [{"mediaType": "application/vnd.in-toto+json", **statement}],
        })
        children.append({
            **attestation,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": children[0]["digest"],
            },
        })
        return {"schemaVersion": 2, "mediaType": media["index"], "manifests": children}

    def build(self, image):
        """Pushes the image under all its names; returns name -> digest."""
        refs = {}
        for name in image["names"]:
            path, _, tag = name.partition("/")[2].partition(":")
            if "architectures" in image:
                document = self.index(image, path)
            else:
                document = self.push(image, path, ARCHITECTURE)
            refs[name] = self.registry.manifest(path, tag or "latest", document)["digest"]
        return refs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("tar")
    pack.add_argument("tree")
    pack.add_argument("out")
    push = commands.add_parser("push")
    for name in ("recipe", "parts", "storage", "url"):
        push.add_argument(name)
    layout = commands.add_parser("layout")
    for name in ("recipe", "parts", "out"):
        layout.add_argument(name)
    options = parser.parse_args()
    if options.command == "tar":
        pack_tree(options.tree, options.out)
        return
    with open(options.recipe, "rb") as file:
        recipe = tomllib.load(file)
    registry = Layout(options.out) if options.command == "layout" else Registry(options.url, options.storage)
    builder = Builder(registry, options.parts)
    refs = {}
    for image in recipe["image"]:
        refs.update(builder.build(image))
    if options.command == "layout":
        return
    os.write(1, to_json(refs) + b"\n")


if __name__ == "__main__":
    main()
