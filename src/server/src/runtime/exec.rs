//! Commands in containers.

use super::container::seconds;
use crate::convert::{Rejected, arguments, id};
use crate::errors::Error;
use crate::service::Service;
use insula_cri_api::v1::{ExecSyncRequest, ExecSyncResponse};
use insula_pods::ExecOutput;

/// Output that fits one answer: clients take 16 MiB in all, with the rest of
/// the message.
const OUTPUT_MAX: usize = (16 << 20) - 4096;

/// A command to its end; `timeout` 0 is none. A command that fails is an
/// answer, one that does not end in time is `DEADLINE_EXCEEDED`.
pub(super) async fn sync(
    service: &Service,
    asked: ExecSyncRequest,
) -> Result<ExecSyncResponse, Error> {
    let container = id(asked.container_id, "container_id")?;
    let command = arguments(asked.cmd, "cmd")?;
    if command.is_empty() {
        return Err(Rejected::invalid("cmd", "is empty").into());
    }
    let timeout = Some(seconds(asked.timeout)?).filter(|timeout| !timeout.is_zero());
    let output = service
        .pods()
        .exec_sync(&container, command, timeout)
        .await?;
    Ok(answer(output))
}

fn answer(output: ExecOutput) -> ExecSyncResponse {
    let ExecOutput {
        mut stdout,
        mut stderr,
        code,
    } = output;
    // Each stream may fill what the other leaves of its half.
    let half = OUTPUT_MAX / 2;
    let of_stdout = OUTPUT_MAX - stderr.len().min(half);
    stdout.truncate(of_stdout);
    stderr.truncate(OUTPUT_MAX - stdout.len());
    ExecSyncResponse {
        stdout,
        stderr,
        exit_code: code,
    }
}

#[cfg(test)]
mod tests {
    use super::{OUTPUT_MAX, answer};
    use insula_pods::ExecOutput;

    #[test]
    fn both_streams_fit_one_answer() {
        let full = 16 << 20;
        let half = OUTPUT_MAX / 2;
        for (stdout, stderr, want) in [
            (10, 20, (10, 20)),
            (full, 0, (OUTPUT_MAX, 0)),
            (0, full, (0, OUTPUT_MAX)),
            (full, full, (half, half)),
            (full, 100, (OUTPUT_MAX - 100, 100)),
        ] {
            let shown = answer(ExecOutput {
                stdout: vec![0; stdout],
                stderr: vec![0; stderr],
                code: 3,
            });
            assert_eq!((shown.stdout.len(), shown.stderr.len()), want);
            assert_eq!(shown.exit_code, 3);
        }
    }
}
