//! Images: pulled once, whole or not at all, under one id, gone with all their names.

use crate::support::calls::refusal;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, BUSYBOX, host_pod, of_image, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    AuthConfig, Image, ImageFsInfoRequest, ImageStatusRequest, ListImagesRequest, PullImageRequest,
    RemoveImageRequest,
};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

const REDIS: &str = "docker.io/library/redis:latest";
const STAGING: &str = "gcr.io/k8s-staging-cri-tools";

pub fn cases() -> Vec<Case> {
    cases![
        every_form_of_image_is_pulled_and_runs,
        layers_are_put_together_as_the_specification_says,
        pulls_of_one_image_are_joined,
        a_cancelled_pull_leaves_nothing,
        a_pull_that_the_daemon_did_not_survive_leaves_nothing,
        an_image_has_one_id_everywhere,
        an_image_goes_with_all_its_names,
        an_image_in_use_can_be_removed,
        credentials_are_used_and_not_told,
        what_the_store_uses_is_told,
    ]
}

async fn list(node: &Node) -> Outcome<Vec<Image>> {
    Ok(node
        .images()?
        .list_images(ListImagesRequest::default())
        .await?
        .into_inner()
        .images)
}

async fn remove(node: &Node, reference: &str) -> Outcome {
    let request = RemoveImageRequest {
        image: Some(requests::image(reference)),
    };
    node.images()?.remove_image(request).await?;
    Ok(())
}

async fn status(node: &Node, reference: &str) -> Outcome<Option<Image>> {
    let request = ImageStatusRequest {
        image: Some(requests::image(reference)),
        verbose: false,
    };
    Ok(node
        .images()?
        .image_status(request)
        .await?
        .into_inner()
        .image)
}

async fn every_form_of_image_is_pulled_and_runs(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("forms")).await?;
    for (form, file) in [
        ("index", ""),
        ("docker", "docker-schema-2"),
        ("docker-list", ""),
        ("zstd", "zstd"),
        ("plain", "plain"),
    ] {
        let mut config = of_image(form, &format!("docker.io/forms/{form}:latest"));
        config.command = vec!["ls".into(), format!("/{file}")];
        let (status, output) = node.finish(&pod, config).await?;
        check!(
            status.exit_code == 0 && !output.is_empty(),
            "{form}: {status:?} {output}"
        );
    }
    let by_digest = node
        .world
        .images
        .get("docker.io/library/busybox:latest")
        .ok_or("no busybox")?;
    let id = node
        .pull(&format!("docker.io/library/busybox@{by_digest}"))
        .await?;
    check_eq!(node.pull(BUSYBOX).await?, id, "image by digest and by tag");
    Ok(())
}

async fn layers_are_put_together_as_the_specification_says(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("layers")).await?;
    let mut config = of_image("main", "docker.io/forms/layers:latest");
    config.command = ["sh", "-c", "pwd; id -u; echo $A; exec sleep 7777"]
        .map(str::to_owned)
        .into();
    let id = node.run(&pod, config).await?;
    check_eq!(
        node.wait_for_output(&id, "image\n").await?,
        "/work/dir\n1000\nimage\n",
        "what the image says"
    );
    let sh = |text: &'static str| node.shell(&id, text);
    check_eq!(sh("cat /kept").await?, "kept\n", "a file that is kept");
    check_eq!(
        sh("ls /removed /removed-dir 2>&1 | grep -c 'No such'").await?,
        "2\n",
        "what was whited out"
    );
    check_eq!(sh("ls /opaque").await?, "above\n", "an opaque directory");
    check_eq!(
        sh("cat /file-then-dir/inner /dir-then-file /dotted/file").await?,
        "inner\nfile\ndotted\n",
        "replaced"
    );
    check_eq!(
        sh("stat -c '%u %g %a' /owned /setuid /data").await?,
        "1000 50 640\n0 0 4755\n0 0 1777\n",
        "owners and modes"
    );
    check_eq!(
        sh("stat -c %h /linked; cat /hard-link /symbolic-link /absolute-link").await?,
        "2\nlinked\nlinked\nlinked\n",
        "links"
    );
    check_eq!(
        sh("stat -c '%F' /fifo /null; stat -c '%t:%T' /null").await?,
        "fifo\ncharacter special file\n1:3\n",
        "special files"
    );
    check_eq!(
        sh("ls / | grep -c '^a-name-that-is-longer'; cat /without/parents/file").await?,
        "1\nwithout parents\n",
        "names"
    );
    // Writing changes the container's own copy only.
    check_eq!(
        sh("echo mine >> /data/file; cat /data/file").await?,
        "mine\n",
        "a file of its own"
    );
    let mut config = of_image("second", "docker.io/forms/layers:latest");
    config.command = vec!["ls".into(), "/data".into()];
    check_eq!(
        node.finish(&pod, config).await?.1,
        "",
        "another container of the image"
    );
    Ok(())
}

async fn pulls_of_one_image_are_joined(node: &mut Node) -> Outcome {
    let pulls = (0..6).map(|_| node.pull(REDIS));
    let mut ids = Vec::new();
    for pulled in futures_util::future::join_all(pulls).await {
        ids.push(pulled?);
    }
    check!(ids.iter().all(|id| *id == ids[0]), "ids: {ids:?}");
    let mut asked = BTreeMap::new();
    for url in node.log().lines().filter_map(|line| {
        line.split("url=\"")
            .nth(1)?
            .split('"')
            .next()
            .map(str::to_owned)
    }) {
        if url.contains("/blobs/") {
            *asked.entry(url).or_insert(0) += 1;
        }
    }
    check!(asked.len() >= 3, "blobs that were fetched: {asked:?}");
    check!(
        asked.values().all(|times| *times == 1),
        "blobs were fetched more than once: {asked:?}"
    );
    Ok(())
}

/// A registry in front of the true one that gives a few kilobytes of each answer and then waits.
async fn slow_registry(node: &Node) -> Outcome<String> {
    let hosts = std::fs::read_to_string(node.world.mirrors.join("docker.io/hosts.toml"))?;
    let target = hosts
        .split('"')
        .nth(1)
        .and_then(|url| url.strip_prefix("http://"))
        .ok_or("no registry")?
        .to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                let Ok(server) = tokio::net::TcpStream::connect(target).await else {
                    return;
                };
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut first = tokio::io::AsyncReadExt::take(&mut from_server, 200 << 10);
                    let sent = tokio::io::copy(&mut first, &mut to_client).await;
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    sent
                };
                let _ends_with_the_connection = tokio::join!(up, down);
            });
        }
    });
    let directory = node.path("certs.d/slow.example");
    std::fs::create_dir_all(&directory)?;
    let text = format!(
        "server = \"http://{address}\"\n[host.\"http://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    std::fs::write(directory.join("hosts.toml"), text)?;
    Ok("slow.example/library/redis:latest".into())
}

fn staged(node: &Node) -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(node.path("root/staging"))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

async fn wait_for_staging(node: &Node, begun: bool) -> Outcome {
    let start = Instant::now();
    while staged(node)?.is_empty() == begun {
        check!(
            start.elapsed() < Duration::from_secs(15),
            "staging after 15 s: {:?}",
            staged(node)?
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn a_cancelled_pull_leaves_nothing(node: &mut Node) -> Outcome {
    let slow = slow_registry(node).await?;
    {
        let pull = node.pull(&slow);
        tokio::pin!(pull);
        tokio::select! {
            pulled = &mut pull => return Err(format!("a registry that waits gave an image: {pulled:?}").into()),
            waited = wait_for_staging(node, true) => waited?,
        }
    }
    wait_for_staging(node, false).await?;
    check_eq!(list(node).await?.len(), 0, "images");
    // One of two who wait gives up; the other gets its image or its own error, not a cancellation.
    let id = node.pull(REDIS).await?;
    check!(id.starts_with("sha256:"), "{id}");
    Ok(())
}

async fn a_pull_that_the_daemon_did_not_survive_leaves_nothing(node: &mut Node) -> Outcome {
    let slow = slow_registry(node).await?;
    {
        let pull = node.pull(&slow);
        tokio::pin!(pull);
        tokio::select! {
            pulled = &mut pull => return Err(format!("a registry that waits gave an image: {pulled:?}").into()),
            waited = wait_for_staging(node, true) => waited?,
        }
    }
    node.restart().await?;
    wait_for_staging(node, false).await?;
    check_eq!(list(node).await?.len(), 0, "images");
    node.pull(BUSYBOX).await?;
    node.restart().await?;
    check_eq!(list(node).await?.len(), 1, "images after a restart");
    Ok(())
}

async fn an_image_has_one_id_everywhere(node: &mut Node) -> Outcome {
    let pulled = node.pull(BUSYBOX).await?;
    let image = status(node, BUSYBOX)
        .await?
        .ok_or("the image is not here")?;
    check_eq!(image.id, pulled, "id of the status and of the pull");
    check!(image.size > 0 && image.repo_tags == [BUSYBOX], "{image:?}");
    let digest = node.world.images.get(BUSYBOX).cloned().unwrap_or_default();
    check_eq!(
        image.repo_digests,
        [format!("registry.k8s.io/e2e-test-images/busybox@{digest}")],
        "digests"
    );
    for name in [
        &pulled,
        &image.repo_digests[0],
        &pulled["sha256:".len()..].to_owned(),
    ] {
        check_eq!(
            status(node, name).await?.map(|image| image.id),
            Some(pulled.clone()),
            "id by {name}"
        );
    }
    check_eq!(
        status(node, "docker.io/library/never-pulled:1").await?,
        None,
        "an image that is not here"
    );
    let pod = node.run_pod(host_pod("ids")).await?;
    let mut config = sleeper("main");
    config.image = Some(requests::image(&pulled));
    // Not `run`, which pulls first: an id cannot be pulled.
    let id = node.create(&pod, config).await?;
    node.start_container(&id).await?;
    let container = node.container_status(&id).await?;
    check_eq!(container.image_id, pulled, "id of the container's image");
    check!(
        !container.image_ref.is_empty(),
        "the container's image has no reference"
    );
    check_eq!(
        node.containers().await?[0].image_id,
        pulled,
        "id in the list"
    );
    Ok(())
}

async fn an_image_goes_with_all_its_names(node: &mut Node) -> Outcome {
    for tag in 1..=3 {
        node.pull(&format!("{STAGING}/test-image-tags:{tag}"))
            .await?;
    }
    node.pull(&format!("{STAGING}/test-image-1")).await?;
    let images = list(node).await?;
    check_eq!(images.len(), 2, "images");
    let tags = images.iter().map(|image| image.repo_tags.len()).max();
    check_eq!(tags, Some(3), "names of one image");
    remove(node, &format!("{STAGING}/test-image-tags:2")).await?;
    let left: Vec<_> = list(node)
        .await?
        .into_iter()
        .flat_map(|image| image.repo_tags)
        .collect();
    check_eq!(
        left,
        [format!("{STAGING}/test-image-1:latest")],
        "names that are left"
    );
    remove(node, &format!("{STAGING}/test-image-tags:2")).await?;
    // The same image under another registry's name goes, too.
    node.pull("registry.k8s.io/pause:3.9").await?;
    node.pull("k8s.gcr.io/pause:3.9").await?;
    remove(node, "k8s.gcr.io/pause:3.9").await?;
    check_eq!(
        status(node, "registry.k8s.io/pause:3.9").await?,
        None,
        "the other registry's name"
    );
    Ok(())
}

async fn an_image_in_use_can_be_removed(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("use")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    remove(node, BUSYBOX).await?;
    check_eq!(list(node).await?.len(), 0, "images");
    check_eq!(
        node.shell(&id, "ls /bin/busybox; echo alive").await?,
        "/bin/busybox\nalive\n",
        "the container"
    );
    check_contains!(
        node.refused_container(&pod, sleeper("second")).await?,
        "NotFound: "
    );
    node.restart().await?;
    check_eq!(
        node.shell(&id, "cat /etc/passwd | head -c 4").await?,
        "root",
        "the container after a restart"
    );
    node.remove(&id).await?;
    Ok(())
}

/// Takes a registry down that wants credentials.
struct Locked(std::path::PathBuf);

impl Drop for Locked {
    fn drop(&mut self) {
        if let Err(stop) = hack_registry(&["down", "--dir", &self.0.to_string_lossy()]) {
            println!("{}", stop.text());
        }
    }
}

fn hack_registry(arguments: &[&str]) -> Outcome {
    let output = Command::new(crate::support::world::repository().join("hack/registry"))
        .args(arguments)
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

async fn credentials_are_used_and_not_told(node: &mut Node) -> Outcome {
    let at = node.path("locked");
    hack_registry(&[
        "up",
        "--dir",
        &at.to_string_lossy(),
        "--tls",
        "--user",
        "alice:open-sesame",
    ])?;
    let _locked = Locked(at.clone());
    let url = std::fs::read_to_string(at.join("url"))?;
    let host = url.trim().trim_start_matches("https://").to_owned();
    let directory = node.path("certs.d").join(&host);
    std::fs::create_dir_all(&directory)?;
    let hosts = std::fs::read_to_string(at.join("certs.d/docker.io/hosts.toml"))?;
    // Without `server`, which would be tried again without the authority.
    std::fs::write(directory.join("hosts.toml"), hosts)?;
    let reference = format!("{host}/library/busybox:latest");
    let request = |username: &str, password: &str| PullImageRequest {
        image: Some(requests::image(&reference)),
        auth: Some(AuthConfig {
            username: username.into(),
            password: password.into(),
            ..AuthConfig::default()
        }),
        ..PullImageRequest::default()
    };
    let mut images = node.images()?;
    let none = PullImageRequest {
        image: Some(requests::image(&reference)),
        ..PullImageRequest::default()
    };
    let error = refusal(images.pull_image(none).await)?;
    check!(error.starts_with("PermissionDenied: registry "), "{error}");
    let error = refusal(images.pull_image(request("alice", "wrong-canary")).await)?;
    check!(
        error.starts_with("PermissionDenied: registry ") && !error.contains("wrong-canary"),
        "{error}"
    );
    images.pull_image(request("alice", "open-sesame")).await?;
    for secret in ["wrong-canary", "open-sesame"] {
        check!(
            !node.log().contains(secret),
            "{secret:?} is in the daemon's log"
        );
    }
    Ok(())
}

async fn what_the_store_uses_is_told(node: &mut Node) -> Outcome {
    let used = async |node: &Node| -> Outcome<u64> {
        let info = node
            .images()?
            .image_fs_info(ImageFsInfoRequest::default())
            .await?
            .into_inner();
        let first = info
            .image_filesystems
            .into_iter()
            .next()
            .ok_or("no image file system")?;
        let at = first.fs_id.map(|id| id.mountpoint).unwrap_or_default();
        check!(std::path::Path::new(&at).is_dir(), "mount point {at:?}");
        Ok(first.used_bytes.ok_or("used_bytes is not set")?.value)
    };
    let empty = used(node).await?;
    node.pull(REDIS).await?;
    let full = used(node).await?;
    check!(
        full > empty + (1 << 20),
        "used before {empty} and after {full}"
    );
    remove(node, REDIS).await?;
    let begun = Instant::now();
    while used(node).await? > empty + (1 << 20) {
        check!(
            begun.elapsed() < Duration::from_secs(15),
            "the space of a removed image is not given back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
