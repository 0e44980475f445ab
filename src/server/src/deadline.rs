//! The deadline a client gives with its call (`grpc-timeout`).
//!
//! The transport keeps it too, but answers CANCELLED. Clients, kubelet among
//! them, look for DEADLINE_EXCEEDED, so ours comes a moment before.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// A service that keeps its clients' deadlines.
#[derive(Debug, Clone)]
pub(crate) struct Deadline<S>(S);

/// How much earlier than the transport we answer; its timer ticks every
/// millisecond.
const MARGIN: Duration = Duration::from_millis(2);

// === impl Deadline ===

impl<S> Deadline<S> {
    pub(crate) fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S: NamedService> NamedService for Deadline<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Deadline<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let given = request.headers().get("grpc-timeout");
        let given = given.and_then(|value| parse(value.to_str().ok()?));
        let method = request.uri().path().rsplit('/').next().map(str::to_owned);
        let answer = self.0.call(request);
        Box::pin(async move {
            let Some(given) = given else {
                return answer.await;
            };
            match tokio::time::timeout(given.saturating_sub(MARGIN), answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded(format!(
                    "{} was not done within the {} ms its client gave it",
                    method.unwrap_or_default(),
                    given.as_millis()
                ))
                .into_http()),
            }
        })
    }
}

/// At most eight digits and a unit, gRPC over HTTP/2, "Requests". What is
/// malformed is left to the transport.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Deadline, parse};
    use std::convert::Infallible;
    use std::time::Duration;
    use tonic::body::Body;
    use tonic::codegen::{Service as _, http};

    #[test]
    fn timeouts_are_read_by_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("999m", Some(Duration::from_millis(999))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100000000n", None),
            ("", None),
            ("m", None),
            ("-1m", None),
            ("1é", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[derive(Clone)]
    struct Never;

    impl tonic::codegen::Service<http::Request<Body>> for Never {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Self::Response, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn a_call_that_hangs_ends_as_deadline_exceeded() {
        let request = http::Request::builder()
            .uri("/runtime.v1.ImageService/PullImage")
            .header("grpc-timeout", "5m")
            .body(Body::default())
            .unwrap();
        let answer = Deadline::new(Never).call(request).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4");
        assert_eq!(
            answer.headers()["grpc-message"]
                .to_str()
                .unwrap()
                .replace("%20", " "),
            "PullImage was not done within the 5 ms its client gave it"
        );
    }
}
