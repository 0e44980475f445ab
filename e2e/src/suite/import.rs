//! Images from files: `insula import`, beside a daemon that serves meanwhile.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{host_pod, of_image};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::RemoveImageRequest;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub fn cases() -> Vec<Case> {
    cases![
        an_archive_is_imported_and_runs,
        what_cannot_be_imported_is_named,
    ]
}

/// Writes `saved.tar`, as `docker save` did: one layer, the host's static busybox.
const SAVE: &str = r#"set -e
mkdir -p root/bin
cp "$(command -v busybox)" root/bin/busybox
ln -s busybox root/bin/sh
tar -C root -cf layer.tar .
printf '{"os":"linux","architecture":"%s","config":{"Cmd":["sh","-c","echo imported"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$(dpkg --print-architecture)" "$(sha256sum layer.tar | cut -c1-64)" >config.json
printf '[{"Config":"config.json","RepoTags":["saved:1"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf saved.tar manifest.json config.json layer.tar
"#;

fn save(directory: &Path) -> Outcome {
    std::fs::create_dir_all(directory)?;
    let status = Command::new("sh")
        .args(["-c", SAVE])
        .current_dir(directory)
        .status()?;
    check!(status.success(), "an archive cannot be made: {status}");
    Ok(())
}

fn import(node: &Node, arguments: &[&str], input: Option<&Path>) -> Outcome<Output> {
    let input = match input {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    };
    Ok(Command::new(node.world.binaries.join("insula"))
        .args(["import", "--config"])
        .arg(node.path("config.toml"))
        .args(arguments)
        .stdin(input)
        .output()?)
}

fn words(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr];
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(error)
}

async fn an_archive_is_imported_and_runs(node: &mut Node) -> Outcome {
    let directory = node.path("archive");
    save(&directory)?;
    let archive = directory.join("saved.tar");
    let output = import(node, &[&archive.to_string_lossy()], None)?;
    check!(output.status.success(), "{}", words(&output));
    check_contains!(words(&output), "docker.io/library/saved:1");
    // From a pipe, under another name: the layer is here already.
    let output = import(node, &["--name", "saved:2", "-"], Some(&archive))?;
    check!(output.status.success(), "{}", words(&output));
    check_contains!(words(&output), "present");
    // And by name alone.
    let tagged = Command::new(node.world.binaries.join("insula"))
        .args(["tag", "--config"])
        .arg(node.path("config.toml"))
        .args(["saved:1", "saved:3"])
        .output()?;
    check!(tagged.status.success(), "{}", words(&tagged));

    let pod = node.run_pod(host_pod("imported")).await?;
    for tag in ["saved:1", "saved:2", "saved:3"] {
        let id = node
            .create(&pod, of_image(&tag.replace(':', "-"), tag))
            .await?;
        node.start_container(&id).await?;
        check_eq!(node.wait_for_end(&id).await?.exit_code, 0, "exit code");
        check_eq!(node.stdout(&id).await?, "imported\n", "output");
    }
    let mut images = node.images()?;
    let image = Some(crate::support::requests::image("saved:1"));
    images.remove_image(RemoveImageRequest { image }).await?;
    Ok(())
}

async fn what_cannot_be_imported_is_named(node: &mut Node) -> Outcome {
    let directory = node.path("archive");
    save(&directory)?;
    let layer = directory.join("layer.tar");
    let mut bytes = std::fs::read(&layer)?;
    // Within the first file's content, not in a header.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, bytes)?;
    let packed = Command::new("tar")
        .args([
            "-cf",
            "torn.tar",
            "manifest.json",
            "config.json",
            "layer.tar",
        ])
        .current_dir(&directory)
        .status()?;
    check!(packed.success(), "tar: {packed}");
    let at = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let (torn, whole) = (at("torn.tar"), at("saved.tar"));
    let cases: [(&[&str], &str); 5] = [
        (&[&torn], "its bytes is"),
        (
            &["--name", "a:1", "--image", "other:1", &whole],
            "no image docker.io/library/other:1",
        ),
        (&["/etc/hostname"], "/etc/hostname"),
        (&["/nowhere.tar"], "open /nowhere.tar"),
        (
            &["--from-containerd", "--containerd-root", "/nowhere"],
            "containerd's store /nowhere",
        ),
    ];
    for (arguments, expected) in cases {
        let output = import(node, arguments, None)?;
        check!(!output.status.success(), "{arguments:?} succeeded");
        check_contains!(words(&output), expected);
    }
    Ok(())
}
