//! Devices that vendors describe (Container Device Interface).

use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{BUSYBOX, host_pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{CdiDevice, ContainerConfig};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    cases![
        a_device_brings_its_node_its_variables_its_mounts_and_its_groups,
        devices_are_asked_for_by_annotations_too,
        what_cannot_be_given_is_refused_by_name,
        the_runtime_specification_shows_the_device,
    ]
}

pub(super) fn asking(mut config: ContainerConfig, devices: &[&str]) -> ContainerConfig {
    config.cdi_devices = devices
        .iter()
        .map(|name| CdiDevice {
            name: (*name).to_owned(),
        })
        .collect();
    config
}

/// Writes a vendor's file; `place` is `static` or `dynamic`.
pub(super) fn describe(node: &Node, place: &str, file: &str, content: &str) -> Outcome {
    let directory = node.path(format!("cdi/{place}"));
    std::fs::create_dir_all(&directory)?;
    Ok(std::fs::write(directory.join(file), content)?)
}

/// A vendor whose device `0` is the host's `/dev/null` by another name.
fn vendor(node: &Node) -> Value {
    json!({
        "cdiVersion": "0.7.0",
        "kind": "e2e.example/gpu",
        "devices": [{
            "name": "0",
            "containerEdits": {
                "env": ["GPU=0"],
                "deviceNodes": [{
                    "path": "/dev/gpu0", "hostPath": "/dev/null",
                    "permissions": "rw", "fileMode": 0o640, "gid": 4242
                }],
                "additionalGids": [4242]
            }
        }, {
            "name": "cache",
            "containerEdits": {"intelRdt": {"closID": "gold"}}
        }],
        "containerEdits": {
            "env": ["DRIVER=1"],
            "mounts": [{
                "hostPath": node.path("volumes/driver"),
                "containerPath": "/opt/driver",
                "options": ["ro", "nosuid", "nodev", "rbind"]
            }]
        }
    })
}

async fn prepared(node: &mut Node) -> Outcome<Pod> {
    std::fs::create_dir(node.path("volumes/driver"))?;
    std::fs::write(node.path("volumes/driver/version"), "550\n")?;
    describe(node, "static", "gpu.json", &vendor(node).to_string())?;
    node.pull(BUSYBOX).await?;
    node.run_pod(host_pod("cdi")).await
}

async fn a_device_brings_its_node_its_variables_its_mounts_and_its_groups(
    node: &mut Node,
) -> Outcome {
    let pod = prepared(node).await?;
    let look = "echo $GPU $DRIVER; cat /opt/driver/version; \
        stat -c '%F %t %T %a %u %g' /dev/gpu0; echo x > /dev/gpu0 && echo written; \
        touch /opt/driver/new 2>&1; id -G | tr ' ' '\\n' | grep -c 4242";
    let config = asking(script("main", look), &["e2e.example/gpu=0"]);
    let (status, output) = node.finish(&pod, config).await?;
    check_eq!(status.exit_code, 0, "exit code");
    check_eq!(
        output.as_str(),
        "0 1\n550\ncharacter special file 1 3 640 0 4242\nwritten\n\
         touch: /opt/driver/new: Read-only file system\n1\n",
        "what the container sees"
    );
    let (_, output) = node
        .finish(&pod, script("without", "ls /dev/gpu0 2>&1; echo $DRIVER."))
        .await?;
    check_eq!(
        output.as_str(),
        "ls: /dev/gpu0: No such file or directory\n.\n",
        "what a container sees that asks for nothing"
    );
    Ok(())
}

async fn devices_are_asked_for_by_annotations_too(node: &mut Node) -> Outcome {
    let pod = prepared(node).await?;
    // A file that comes while the daemon runs; in a directory that counts more.
    describe(
        node,
        "dynamic",
        "gpu.yaml",
        "cdiVersion: 0.6.0\nkind: e2e.example/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    env:\n    - GPU=dynamic\n",
    )?;
    let mut config = asking(script("main", "echo $GPU $DRIVER."), &["e2e.example/gpu=0"]);
    config
        .annotations
        .insert("cdi.k8s.io/e2e".into(), "e2e.example/gpu=0".into());
    let (_, output) = node.finish(&pod, config).await?;
    check_eq!(output.as_str(), "dynamic .\n", "what both name, once");
    let mut config = script("annotated", "echo $GPU");
    config
        .annotations
        .insert("cdi.k8s.io/e2e".into(), "e2e.example/gpu=0".into());
    let (_, output) = node.finish(&pod, config).await?;
    check_eq!(output.as_str(), "dynamic\n", "what an annotation names");
    Ok(())
}

async fn what_cannot_be_given_is_refused_by_name(node: &mut Node) -> Outcome {
    let pod = prepared(node).await?;
    describe(node, "static", "broken.json", "{")?;
    let looked = node.path("cdi/static").display().to_string();
    for (name, words) in [
        ("e2e.example/gpu=9", "e2e.example/gpu=9 is not known"),
        ("e2e.example/gpu=9", looked.as_str()),
        ("e2e.example/gpu=9", "broken.json"),
        ("e2e.example/gpu=cache", "Intel RDT"),
        ("gpu", "vendor.com/gpu=0"),
    ] {
        let config = asking(sleeper("main"), &[name]);
        check_contains!(node.refused_container(&pod, config).await?, words);
    }
    std::fs::remove_dir_all(node.path("volumes/driver"))?;
    let config = asking(sleeper("main"), &["e2e.example/gpu=0"]);
    check_contains!(node.refused_container(&pod, config).await?, "/opt/driver");
    check!(
        !node.path("volumes/driver").exists(),
        "a vendor's missing directory was made"
    );
    Ok(())
}

async fn the_runtime_specification_shows_the_device(node: &mut Node) -> Outcome {
    let pod = prepared(node).await?;
    let id = node
        .run(&pod, asking(sleeper("main"), &["e2e.example/gpu=0"]))
        .await?;
    let (_, info) = node.container_status_and_info(&id).await?;
    let info: Value = serde_json::from_str(info.get("info").ok_or("no info")?)?;
    let spec = &info["runtimeSpec"];
    check!(spec["ociVersion"].is_string(), "no OCI version in {info}");
    let nodes = spec["linux"]["devices"].as_array().ok_or("no devices")?;
    let found = nodes.iter().find(|node| node["path"] == "/dev/gpu0");
    check_eq!(
        found,
        Some(
            &json!({"path": "/dev/gpu0", "type": "c", "major": 1, "minor": 3,
                     "fileMode": 0o640, "uid": 0, "gid": 4242})
        ),
        "the device in the runtime specification"
    );
    Ok(())
}
