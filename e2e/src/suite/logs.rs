//! Container logs: whole, in order, in the CRI's form, and open to rotation.

use crate::support::calls::refusal;
use crate::support::case::cases;
use crate::support::logs::{join, read};
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{host_pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::ReopenContainerLogRequest;

/// Longest content of a line in a log.
const LINE_MAX: usize = 16 << 10;

pub fn cases() -> Vec<Case> {
    cases![
        both_streams_are_kept_apart,
        long_lines_are_split_and_come_together_again,
        a_big_output_is_whole,
        a_log_is_reopened_while_it_is_written,
        an_exec_is_served_while_a_log_is_written_at_full_rate,
        a_container_without_a_log_path_runs,
        a_log_that_cannot_be_opened_is_told_so,
        a_terminal_writes_to_standard_output_only,
    ]
}

async fn reopen(node: &Node, id: &str) -> Outcome {
    let request = ReopenContainerLogRequest {
        container_id: id.to_owned(),
    };
    node.runtime()?.reopen_container_log(request).await?;
    Ok(())
}

pub(super) async fn both_streams_are_kept_apart(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    let text = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf 'no end'";
    let id = node.run(&pod, script("main", text)).await?;
    node.wait_for_end(&id).await?;
    let lines = node.lines(&id).await?;
    check_eq!(
        join(&lines, "stdout"),
        "out 1\nout 2\nout 3\nno end",
        "standard output"
    );
    check_eq!(
        join(&lines, "stderr"),
        "err 1\nerr 2\nerr 3\n",
        "standard error"
    );
    check!(
        lines.is_sorted_by(|a, b| a.time <= b.time),
        "times go back: {lines:?}"
    );
    let path = node.log_path(&id).await?;
    check_eq!(path, node.path("logs/logs/main.log"), "path of the log");
    Ok(())
}

async fn long_lines_are_split_and_come_together_again(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    // One line of 100,000 bytes, one of exactly the limit, an empty one.
    let text = format!(
        "head -c 100000 /dev/zero | tr '\\0' x; echo; head -c {LINE_MAX} /dev/zero | tr '\\0' y; echo; echo; echo end"
    );
    let id = node.run(&pod, script("main", &text)).await?;
    node.wait_for_end(&id).await?;
    let lines = node.lines(&id).await?;
    let wanted = format!("{}\n{}\n\nend\n", "x".repeat(100_000), "y".repeat(LINE_MAX));
    check!(
        join(&lines, "stdout") == wanted,
        "the output came back changed: {} bytes",
        join(&lines, "stdout").len()
    );
    let longest = lines.iter().map(|line| line.text.len()).max();
    check!(longest <= Some(LINE_MAX), "a line of {longest:?} bytes");
    Ok(())
}

async fn a_big_output_is_whole(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    let id = node
        .run(&pod, script("main", "seq 300000; seq 300000 >&2"))
        .await?;
    node.wait_for_end(&id).await?;
    let lines = node.lines(&id).await?;
    for stream in ["stdout", "stderr"] {
        let output = join(&lines, stream);
        let mut wanted = 1;
        for line in output.lines() {
            check!(
                line.parse() == Ok(wanted),
                "line {wanted} of {stream} is {line:?}"
            );
            wanted += 1;
        }
        check_eq!(wanted, 300_001, "lines of {stream}, and one");
    }
    Ok(())
}

async fn a_log_is_reopened_while_it_is_written(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    let id = node
        .run(
            &pod,
            script(
                "main",
                "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; done; echo end",
            ),
        )
        .await?;
    node.wait_for_output(&id, "100\n").await?;
    let path = node.log_path(&id).await?;
    let mut parts = Vec::new();
    for number in 0..5 {
        let old = path.with_extension(format!("log.{number}"));
        std::fs::rename(&path, &old)?;
        reopen(node, &id).await?;
        let size = std::fs::metadata(&old)?.len();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        check_eq!(
            std::fs::metadata(&old)?.len(),
            size,
            "size of log {number} after it was rotated"
        );
        parts.push(old);
    }
    node.restart().await?;
    reopen(node, &id).await?;
    // The container may end, and this with it, before it has said that all went well.
    node.exec(&id, &["touch", "/tmp/end"]).await?;
    node.wait_for_end(&id).await?;
    parts.push(path);
    let mut wanted = 1;
    for part in &parts {
        for line in read(part)? {
            if line.text != "end" {
                check!(
                    line.text.parse() == Ok(wanted),
                    "{}: line {wanted} is {:?}",
                    part.display(),
                    line.text
                );
                wanted += 1;
            }
        }
    }
    check!(wanted > 100, "only {wanted} lines");
    let request = ReopenContainerLogRequest { container_id: id };
    let error = refusal(node.runtime()?.reopen_container_log(request).await)?;
    check_contains!(error, "FailedPrecondition: ");
    Ok(())
}

async fn an_exec_is_served_while_a_log_is_written_at_full_rate(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    let id = node
        .run(
            &pod,
            script(
                "main",
                "yes 'a line of a log that is written as fast as it can be' | head -n 4000000",
            ),
        )
        .await?;
    for number in 0..10 {
        check_eq!(
            node.shell(&id, &format!("echo {number}")).await?,
            format!("{number}\n"),
            "exec"
        );
    }
    node.stop(&id, 0).await?;
    std::fs::remove_file(node.log_path(&id).await?)?;
    Ok(())
}

async fn a_container_without_a_log_path_runs(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    let mut config = script("main", "seq 100000; exit 6");
    config.log_path = String::new();
    let id = node.run(&pod, config).await?;
    let status = node.wait_for_end(&id).await?;
    check_eq!((status.exit_code, status.log_path.as_str()), (6, ""), "end");
    Ok(())
}

async fn a_log_that_cannot_be_opened_is_told_so(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    node.pull(crate::support::requests::BUSYBOX).await?;
    std::fs::create_dir_all(node.path("logs/logs/main.log"))?;
    let error = node.refused_container(&pod, sleeper("main")).await?;
    check_contains!(error, "main.log");
    Ok(())
}

pub(super) async fn a_terminal_writes_to_standard_output_only(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("logs")).await?;
    let mut config = script(
        "main",
        "tty; echo err >&2; echo $TERM; test -t 0 && echo a terminal",
    );
    config.tty = true;
    config.stdin = true;
    let id = node.run(&pod, config).await?;
    check_eq!(node.wait_for_end(&id).await?.exit_code, 0, "exit code");
    let lines = node.lines(&id).await?;
    let output = join(&lines, "stdout").replace('\r', "");
    check!(
        output.starts_with("/dev/pts/") || output.starts_with("/dev/console"),
        "tty: {output}"
    );
    check_contains!(output, "err\nxterm\na terminal\n");
    check_eq!(join(&lines, "stderr"), "", "standard error");
    Ok(())
}
