//! The signals that end `insula run`.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, SIGTERM, and the end of the terminal. From the first moment none of them ends this
/// process by itself.
#[derive(Debug)]
pub(crate) struct Interrupts([Signal; 3]);

impl Interrupts {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Whether one came since the last look.
    pub(crate) fn came(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for signal in &mut self.0 {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
