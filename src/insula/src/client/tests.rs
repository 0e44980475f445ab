//! The commands against a daemon of canned answers.

mod fake;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use self::fake::Fake;
use super::error::one_line;
use super::perform;
use crate::cli::{Cli, Command};

const APP: &str = r#"{"id": "/insula-client-test", "container": {"docker": {"image": "IMAGE"}}}"#;

/// A directory with a socket and app definitions, removed with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("insula-client-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        for image in ["web", "absent"] {
            let app = APP.replace("IMAGE", image).replace("client-test", name);
            std::fs::write(path.join(format!("{image}.json")), app).expect("a definition");
        }
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command line; `DIR` in it is the directory. The exit code in words, or the error.
async fn insula(directory: &Path, line: &str) -> String {
    let line = line.replace("DIR", &directory.display().to_string());
    let address = format!("--address={}/sock", directory.display());
    let words = ["insula", &address].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).expect("a command line");
    let Command::Client(command) = cli.command else {
        panic!("{line} is no client command")
    };
    match perform(&cli.global, command).await {
        Ok(code) if code == ExitCode::SUCCESS => "ok".into(),
        Ok(code) => format!("{code:?}"),
        Err(error) => one_line(&error),
    }
}

#[tokio::test]
async fn nobody_listens() {
    let place = Place::new("nobody");
    assert_eq!(
        insula(&place.0, "ps").await,
        format!(
            "no daemon listens at unix://{}/sock: start one with insula serve",
            place.0.display()
        )
    );
    assert_eq!(insula(&place.0, "version").await, "ok");
}

#[tokio::test]
async fn a_run_to_its_end() {
    let place = Place::new("end");
    let fake = Fake::default();
    fake.serve(&place.socket());
    let exit = insula(&place.0, "run DIR/web.json").await;
    assert_eq!(exit, format!("{:?}", ExitCode::from(3)));
    assert_eq!(
        fake.calls(),
        [
            "pull web",
            "run pod",
            "create from sha256:web",
            "start",
            "stop pod aa0",
            "remove pod aa0",
        ]
    );
    assert_no_logs("end");
}

/// An app's log directories go with it.
fn assert_no_logs(name: &str) {
    let prefix = format!("insula_insula-{name}_");
    let left = std::fs::read_dir("/var/log/pods")
        .map(|entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
                .count()
        })
        .unwrap_or_default();
    assert_eq!(left, 0, "log directories of {name} are left");
}

#[tokio::test]
async fn a_detached_run_and_what_follows() {
    let place = Place::new("detached");
    let fake = Fake::default();
    fake.state().images.push("web".into());
    fake.serve(&place.socket());
    for (line, want) in [
        ("run --detach DIR/web.json", "ok"),
        (
            "run DIR/web.json",
            "/insula-detached is running already: remove it first (insula rm --force \
             /insula-detached), or give this one another id with --name",
        ),
        ("ps --all", "ok"),
        ("ps --output json", "ok"),
        ("logs --tail 1 insula-detached", "ok"),
        ("logs -f /insula-detached", "ok"),
        (
            "inspect insula-detached --plan",
            "the daemon shows no launch plan of insula-detached: is it insula? (insula version)",
        ),
        (
            "inspect insula-detached --oci",
            "the daemon shows no OCI runtime specification of insula-detached: is it insula? (insula version)",
        ),
        (
            "inspect nobody",
            "nothing is called \"nobody\": insula ps -a lists what there is",
        ),
        (
            "exec insula-detached -- true",
            &format!("{:?}", ExitCode::from(7)),
        ),
        (
            "exec -it insula-detached -- sh",
            "cannot run \"sh\" in insula-detached: https://127.0.0.1:1/exec/x: the streaming server speaks TLS, and nobody has told by which certificate it is known; use kubectl, or crictl",
        ),
        ("stop insula-detached", "ok"),
        ("stop --timeout 0 0c0", "ok"),
        ("rm --force insula-detached", "ok"),
        (
            "rmi nothing",
            "no image is called \"nothing\": insula images lists what there is",
        ),
        ("rmi web", "ok"),
    ] {
        assert_eq!(insula(&place.0, line).await, want, "{line}");
    }
    assert_eq!(
        fake.calls(),
        [
            "run pod",
            "create from sha256:web",
            "start",
            "exec true",
            "exec sh with a terminal",
            "stop pod aa0",
            "stop 0c0 after 0",
            "stop pod aa0",
            "remove pod aa0",
            "remove image web",
        ]
    );
    assert_no_logs("detached");
}

#[tokio::test]
async fn what_fails_is_undone() {
    let place = Place::new("fails");
    let fake = Fake::default();
    fake.state().broken = true;
    fake.serve(&place.socket());
    assert_eq!(
        insula(&place.0, "run DIR/absent.json").await,
        "cannot pull absent: docker.io/library/absent:latest: no such image"
    );
    assert_eq!(
        insula(&place.0, "run DIR/web.json").await,
        "cannot start insula-fails: no such file: /bin/nothing"
    );
    let calls = fake.calls();
    assert_eq!(calls[calls.len() - 2..], ["stop pod aa0", "remove pod aa0"]);
    assert!(fake.state().pods.is_empty());
    assert_no_logs("fails");
    let missing = insula(&place.0, "run DIR/missing.json").await;
    assert!(
        missing.starts_with("cannot read ") && missing.contains("No such file"),
        "{missing}"
    );
}
