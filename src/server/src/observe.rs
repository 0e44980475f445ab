//! Every call in the log and in the metrics.

use crate::errors::Error;
use crate::service::RUNTIME_VERSION;
use insula_images::{ImageId, LayerState, Pull};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntGaugeVec, Opts, Registry};
use std::future::Future;
use std::time::{Duration, Instant};
use tonic::{Code, Response, Status};
use tracing::{Instrument, Span, field};

/// How long calls take and how they end.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    seconds: HistogramVec,
    pulls: HistogramVec,
    pulled_bytes: IntCounter,
}

/// How often a call comes, which decides how loud it is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frequency {
    /// Once in the life of a thing: an `info` line.
    Once,
    /// Every second from every kubelet: a `debug` line.
    Polled,
}

/// Which call, about what.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: &'static str,
    frequency: Frequency,
    pod: String,
    container: String,
}

/// Records the outcome of a call, also when its client went away.
struct Outcome {
    metrics: CallMetrics,
    method: &'static str,
    frequency: Frequency,
    span: Span,
    begun: Instant,
    told: bool,
}

// === impl CallMetrics ===

impl CallMetrics {
    /// Metrics of a new daemon, registered in `registry`.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramVec::new(
            HistogramOpts::new("insula_cri_call_seconds", "Time taken by CRI calls").buckets(vec![
                0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
                5.0, 10.0, 30.0, 120.0,
            ]),
            &["method", "code"],
        )?;
        let pulls = HistogramVec::new(
            HistogramOpts::new(
                "insula_image_pull_seconds",
                "Time taken by pulls of images, by how they ended",
            )
            .buckets(vec![
                0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
            ]),
            &["code"],
        )?;
        let pulled_bytes = IntCounter::new(
            "insula_image_pulled_bytes_total",
            "Bytes of layers that were fetched from registries",
        )?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(pulls.clone()))?;
        registry.register(Box::new(pulled_bytes.clone()))?;
        let build = IntGaugeVec::new(
            Opts::new(
                "insula_build_info",
                "1, with what this daemon was built from",
            ),
            &["version"],
        )?;
        build.with_label_values(&[RUNTIME_VERSION]).set(1);
        registry.register(Box::new(build))?;
        Ok(Self {
            seconds,
            pulls,
            pulled_bytes,
        })
    }

    /// A pull ended, also one that failed.
    pub(crate) fn pulled(&self, pull: &Pull, took: Duration, result: &Result<ImageId, Error>) {
        if !pull.is_counted_here() {
            return;
        }
        let code = result.as_ref().map_or_else(Error::code, |_| Code::Ok);
        self.pulls
            .with_label_values(&[name(code)])
            .observe(took.as_secs_f64());
        let layers = pull.progress().layers;
        // What was there before has not been fetched.
        let fetched = layers
            .iter()
            .filter(|layer| layer.state != LayerState::Present);
        self.pulled_bytes
            .inc_by(fetched.map(|layer| layer.downloaded).sum());
    }

    /// Does a call's work inside its span and tells how it ended.
    pub(crate) async fn observe<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Response<T>, Status> {
        let span = tracing::info_span!(
            "call",
            method = call.method,
            pod = field::Empty,
            container = field::Empty,
        );
        for (name, id) in [("pod", &call.pod), ("container", &call.container)] {
            if !id.is_empty() {
                span.record(name, id.as_str());
            }
        }
        let mut outcome = Outcome {
            metrics: self.clone(),
            method: call.method,
            frequency: call.frequency,
            span: span.clone(),
            begun: Instant::now(),
            told: false,
        };
        match work.instrument(span).await {
            Ok(answer) => {
                outcome.tell(Code::Ok, "");
                Ok(Response::new(answer))
            }
            Err(error) => {
                let status = Status::from(error);
                outcome.tell(status.code(), status.message());
                Err(status)
            }
        }
    }
}

// === impl Call ===

impl Call {
    pub(crate) fn once(method: &'static str) -> Self {
        Self {
            method,
            frequency: Frequency::Once,
            pod: String::new(),
            container: String::new(),
        }
    }

    pub(crate) fn polled(method: &'static str) -> Self {
        Self {
            frequency: Frequency::Polled,
            ..Self::once(method)
        }
    }

    pub(crate) fn pod(self, id: &str) -> Self {
        Self {
            pod: for_the_log(id),
            ..self
        }
    }

    pub(crate) fn container(self, id: &str) -> Self {
        Self {
            container: for_the_log(id),
            ..self
        }
    }
}

/// An id as far as it can be one: what clients send is of any length.
fn for_the_log(id: &str) -> String {
    id.chars().take(64).collect()
}

// === impl Outcome ===

impl Outcome {
    fn tell(&mut self, code: Code, message: &str) {
        self.told = true;
        let elapsed = self.begun.elapsed();
        let outcome = name(code);
        self.metrics
            .seconds
            .with_label_values(&[self.method, outcome])
            .observe(elapsed.as_secs_f64());
        // Whole microseconds, so that the number stays short.
        let milliseconds = (elapsed.as_secs_f64() * 1e6).round() / 1e3;
        let _entered = self.span.enter();
        match (code, self.frequency) {
            // Not there is an answer like any other to someone who polls.
            (Code::Ok, Frequency::Polled) => tracing::debug!(milliseconds, outcome, "answered"),
            (Code::NotFound, Frequency::Polled) => {
                tracing::debug!(milliseconds, outcome, error = message, "answered");
            }
            (Code::Ok, Frequency::Once) => tracing::info!(milliseconds, outcome, "answered"),
            _ => tracing::warn!(milliseconds, outcome, error = message, "failed"),
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Code::Cancelled, "the client went away");
        }
    }
}

/// The code as the gRPC specification spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, CallMetrics};
    use crate::convert::Rejected;
    use prometheus::Registry;

    fn count(registry: &Registry, code: &str) -> u64 {
        registry
            .gather()
            .iter()
            .filter(|family| family.name() == "insula_cri_call_seconds")
            .flat_map(|family| family.get_metric().to_vec())
            .filter(|metric| metric.get_label().iter().any(|label| label.value() == code))
            .map(|metric| metric.get_histogram().get_sample_count())
            .sum()
    }

    #[tokio::test]
    async fn every_end_is_counted_once() {
        let registry = Registry::new();
        let metrics = CallMetrics::new(&registry).unwrap();
        let good = metrics
            .observe(Call::once("Version"), async { Ok(()) })
            .await;
        assert!(good.is_ok());
        let bad = metrics
            .observe(Call::polled("Version").pod("p").container("c"), async {
                Err::<(), _>(Rejected::invalid("f", "bad").into())
            })
            .await;
        assert_eq!(bad.unwrap_err().message(), "f: bad");
        let given_up = metrics.observe(
            Call::once("Version"),
            std::future::pending::<Result<(), _>>(),
        );
        let timed_out = tokio::time::timeout(std::time::Duration::from_millis(1), given_up).await;
        assert!(timed_out.is_err());
        for code in ["OK", "INVALID_ARGUMENT", "CANCELLED"] {
            assert_eq!(count(&registry, code), 1, "{code}");
        }
    }
}
