//! Images as volumes.

use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{BUSYBOX, host_pod, image, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{ContainerConfig, Mount, RemoveImageRequest};

/// An image that is not that of the containers.
pub(super) const OTHER: &str = "gcr.io/k8s-staging-cri-tools/test-image-1:latest";

pub fn cases() -> Vec<Case> {
    cases![
        an_image_is_shown_and_cannot_be_written,
        a_directory_of_an_image_is_shown_alone,
        the_status_tells_which_image_it_is,
        what_cannot_be_shown_is_refused_by_name,
        a_removed_image_stays_where_it_is_shown,
        images_come_back_with_the_daemon,
    ]
}

pub(super) fn with_image(
    mut config: ContainerConfig,
    reference: &str,
    sub_path: &str,
) -> ContainerConfig {
    config.mounts.push(Mount {
        container_path: "/vol".into(),
        readonly: true,
        image: Some(image(reference)),
        image_sub_path: sub_path.into(),
        ..Mount::default()
    });
    config
}

async fn pod(node: &mut Node) -> Outcome<Pod> {
    node.pull(OTHER).await?;
    node.pull(BUSYBOX).await?;
    node.run_pod(host_pod("images")).await
}

async fn an_image_is_shown_and_cannot_be_written(node: &mut Node) -> Outcome {
    let pod = pod(node).await?;
    let look = "/vol/bin/busybox echo runs; touch /vol/new 2>&1; rm /vol/bin/busybox 2>&1; \
        ls -d /vol/etc; grep -c ' /vol ' /proc/self/mountinfo";
    let config = with_image(script("main", look), OTHER, "");
    let (status, output) = node.finish(&pod, config).await?;
    check_eq!(status.exit_code, 0, "exit code");
    check_eq!(
        output.as_str(),
        "runs\ntouch: /vol/new: Read-only file system\n\
         rm: can't remove '/vol/bin/busybox': Read-only file system\n/vol/etc\n1\n",
        "what the container sees"
    );
    Ok(())
}

async fn a_directory_of_an_image_is_shown_alone(node: &mut Node) -> Outcome {
    let pod = pod(node).await?;
    let look = "ls /vol/passwd; ls -d /vol/etc 2>&1; touch /vol/new 2>&1; \
        grep -c ' /vol ' /proc/self/mountinfo; ls -d /vol/..";
    for (name, sub_path) in [("plain", "etc"), ("long", "./etc/"), ("up", "bin/../etc")] {
        let config = with_image(script(name, look), OTHER, sub_path);
        if sub_path.contains("..") {
            check_contains!(node.refused_container(&pod, config).await?, "`..`");
            continue;
        }
        let (_, output) = node.finish(&pod, config).await?;
        check_eq!(
            output.as_str(),
            "/vol/passwd\nls: /vol/etc: No such file or directory\n\
             touch: /vol/new: Read-only file system\n1\n/vol/..\n",
            "what the container sees of {sub_path}"
        );
    }
    Ok(())
}

async fn the_status_tells_which_image_it_is(node: &mut Node) -> Outcome {
    let pod = pod(node).await?;
    let wanted = node.pull(OTHER).await?;
    let id = node
        .run(&pod, with_image(sleeper("main"), OTHER, "etc"))
        .await?;
    let status = node.container_status(&id).await?;
    check_eq!(status.mounts.len(), 1, "mounts in the status");
    let mount = &status.mounts[0];
    let image = mount.image.clone().ok_or("the status names no image")?;
    check_eq!(
        (image.image.as_str(), image.image_ref.as_str()),
        (OTHER, wanted.as_str()),
        "the image in the status"
    );
    check!(
        mount.readonly && mount.host_path.is_empty() && mount.image_sub_path == "etc",
        "the mount in the status is {mount:?}"
    );
    Ok(())
}

async fn what_cannot_be_shown_is_refused_by_name(node: &mut Node) -> Outcome {
    let pod = pod(node).await?;
    let here = |sub_path| with_image(sleeper("main"), OTHER, sub_path);
    let mut writable = here("");
    writable.mounts[0].readonly = false;
    let mut both = here("");
    both.mounts[0].host_path = "/srv".into();
    for (config, words) in [
        (here("no/such"), "the image has no such directory"),
        (here("etc/passwd"), "it is no directory"),
        (writable, "must be read-only"),
        (both, "/srv"),
        (
            with_image(sleeper("main"), "example.org/not/here:1", ""),
            "example.org/not/here:1",
        ),
    ] {
        let text = node.refused_container(&pod, config).await?;
        check!(
            text.contains("ImageVolumeMountFailed") && text.contains(words),
            "{words:?} is not in {text:?}"
        );
    }
    // Links of an image lead nowhere but into the image.
    node.run(&pod, here("etc")).await?;
    Ok(())
}

async fn a_removed_image_stays_where_it_is_shown(node: &mut Node) -> Outcome {
    let pod = pod(node).await?;
    let id = node
        .run(&pod, with_image(sleeper("main"), OTHER, ""))
        .await?;
    let remove = RemoveImageRequest {
        image: Some(image(OTHER)),
    };
    node.images()?.remove_image(remove).await?;
    check_eq!(
        node.shell(&id, "/vol/bin/busybox echo alive").await?,
        "alive\n",
        "a program of the removed image"
    );
    node.remove(&id).await?;
    let again = node
        .refused_container(&pod, with_image(sleeper("again"), OTHER, ""))
        .await?;
    check_contains!(again, "ImageVolumeMountFailed");
    Ok(())
}

async fn images_come_back_with_the_daemon(node: &mut Node) -> Outcome {
    let pod = pod(node).await?;
    let id = node
        .run(&pod, with_image(sleeper("main"), OTHER, "etc"))
        .await?;
    node.restart().await?;
    check_contains!(node.shell(&id, "cat /vol/passwd").await?, "root:");
    let status = node.container_status(&id).await?;
    check!(
        status.mounts.iter().any(|mount| mount.image.is_some()),
        "the status lost the image: {:?}",
        status.mounts
    );
    node.remove(&id).await
}
