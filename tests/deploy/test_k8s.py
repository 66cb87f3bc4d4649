"""The examples for Kubernetes, Slurm and containers: valid for those who read them, and for us."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.fleetfile import FleetFile

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "k8s").glob("*.yaml"))
SBATCH = ROOT / "deploy" / "slurm" / "workers.sbatch"
BIN = Path(sys.executable).parent


def documents() -> list[dict[str, Any]]:
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def named(kind: str, name: str = "headrace") -> dict[str, Any]:
    (found,) = [one for one in documents() if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods() -> list[tuple[str, dict[str, Any]]]:
    return [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in documents() if one["kind"] in (
        "StatefulSet", "Deployment",
    )]  # fmt: skip


def checked(*command: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def file_of_config(folder: Path) -> FleetFile:
    path = folder / "headrace.toml"
    path.write_text(named("ConfigMap")["data"]["headrace.toml"].replace("/var/lib/headrace", str(folder)))
    return FleetFile(path, {})


def test_manifests_meet_the_schemas_of_kubernetes() -> None:
    done = checked(BIN / "kubernetes-validate", "--strict", *MANIFESTS)
    said = done.stdout + done.stderr
    assert said.count(" passed for resource ") == len(documents())


def test_a_wrong_manifest_would_be_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "deploy" / "k8s" / "30-workers.yaml").read_text().replace("replicas:", "replicsa:"))
    done = subprocess.run([BIN / "kubernetes-validate", "--strict", wrong], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0


@pytest.mark.parametrize("roles", [{"workers"}, {"broker", "sink", "producers"}], ids=["workers", "core"])
def test_the_file_in_the_config_map_suits_both_kinds_of_pods(tmp_path: Path, roles: set[str]) -> None:
    fleet = file_of_config(tmp_path).node(tmp_path / "node", frozenset(roles), 1)
    assert fleet.workers.count == (1 if roles == {"workers"} else 0)
    assert fleet.security.keys is not None
    assert len(fleet.streams) == (0 if roles == {"workers"} else 1)


def test_pods_start_the_roles_that_the_file_was_checked_for() -> None:
    arguments = {name: pod["containers"][0]["args"] for name, pod in pods()}
    assert arguments["headrace-workers"][:4] == ["up", "-n", "--role", "workers"]
    assert arguments["headrace"][:4] == ["up", "-n", "--role", "broker,sink,producers"]


def test_ports_are_those_of_the_file(tmp_path: Path) -> None:
    fleet = file_of_config(tmp_path).node(tmp_path / "node", frozenset({"workers"}), 0)
    assert fleet.metrics.listen is not None
    listened = {int(one.rpartition(":")[2]) for one in (
        fleet.broker.workers, fleet.sink.results, fleet.metrics.listen,
    )}  # fmt: skip
    service = named("Service")
    assert {one["port"] for one in service["spec"]["ports"]} == listened
    hosts = {one.removeprefix("tcp://").rpartition(":")[0] for one in (fleet.broker.workers, fleet.sink.results)}
    assert hosts == {service["metadata"]["name"]}
    for _, pod in pods():
        ports = {one["name"]: one["containerPort"] for one in pod["containers"][0]["ports"]}
        assert set(ports.values()) <= listened
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = pod["containers"][0][probe]["httpGet"]
            assert ports[get["port"]] == int(fleet.metrics.listen.rpartition(":")[2])
            assert get["path"] == ("/readyz" if probe == "readinessProbe" else "/healthz")


def test_the_service_and_the_scaler_find_what_they_are_for() -> None:
    labels = named("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert named("Service")["spec"]["selector"].items() <= labels.items()
    target = named("HorizontalPodAutoscaler", "headrace-workers")["spec"]["scaleTargetRef"]
    assert named(target["kind"], target["name"])


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_every_mount_has_its_volume_and_nobody_is_root(name: str, pod: dict[str, Any]) -> None:
    claims = named("StatefulSet")["spec"]["volumeClaimTemplates"] if name == "headrace" else []
    there = {one["name"] for one in pod["volumes"]} | {one["metadata"]["name"] for one in claims}
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = str(pod["securityContext"]["runAsUser"])
    assert f"--uid {user}" in (ROOT / "Dockerfile").read_text()
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {one["name"] for one in container["volumeMounts"]} <= there
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_keys_are_copied_with_the_modes_that_they_must_have(tmp_path: Path) -> None:
    """As Kubernetes does it: the Secret's files are links, readable for the group."""
    secret, memory = tmp_path / "keys", tmp_path / "memory"
    (secret / "..data").mkdir(parents=True)
    memory.mkdir()
    for name in ("worker.key", "allowed.toml"):
        (secret / "..data" / name).write_text("x")
        (secret / "..data" / name).chmod(0o440)
        (secret / name).symlink_to(Path("..data") / name)
    for _, pod in pods():
        shell, option, script = pod["initContainers"][0]["command"]
        checked(shell, option, script.replace("/run/headrace", str(memory)).replace("/keys/*", f"{secret}/*"))
        assert (memory / "keys").stat().st_mode & 0o777 == 0o700
        assert {one.name: one.stat().st_mode & 0o777 for one in (memory / "keys").iterdir()} == {
            "worker.key": 0o600, "allowed.toml": 0o600,
        }  # fmt: skip
        shutil.rmtree(memory / "keys")


def test_the_batch_script() -> None:
    checked("bash", "-n", SBATCH)
    checked(BIN / "shellcheck", SBATCH)
    done = subprocess.run(["bash", SBATCH], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (2, "usage: sbatch workers.sbatch FILE\n")


def test_the_file_for_slurm(tmp_path: Path) -> None:
    path = tmp_path / "workers.toml"
    path.write_text((SBATCH.parent / "workers.toml").read_text())
    file = FleetFile(path, {"HEADRACE_FOLDER": "/tmp/headrace-7-0"})
    assert str(file.folder) == "/tmp/headrace-7-0"
    fleet = file.node(file.folder, frozenset({"workers"}), 4)
    assert fleet.workers.count == 4
    assert not fleet.page.enabled


def test_the_dockerfile(tmp_path: Path) -> None:
    checked(BIN / "hadolint", ROOT / "Dockerfile")
    text = (ROOT / "Dockerfile").read_text()
    assert "USER 10001" in text
    # All that setup.cfg packs, and needs for it, is let in.
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    parts = {"common", "producer", "broker", "workers", "sink", "deploy"}
    assert let_in >= parts | {"setup.cfg", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"}
    assert all((ROOT / one).exists() for one in let_in)
