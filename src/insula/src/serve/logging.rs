//! The daemon's log, on standard error: journald or a terminal takes it from
//! there.

use super::config::{Format, Level, Log};
use std::io::IsTerminal as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

/// Changes the level of a running daemon's log.
#[derive(Debug, Clone)]
pub(crate) struct LevelHandle(reload::Handle<Targets, Registry>);

/// Starts the log. Called once.
pub(crate) fn start(log: &Log) -> Result<LevelHandle, String> {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lines = match log.format {
        Format::Text => fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .try_init()
        .map_err(|error| format!("cannot start the log: {error}"))?;
    Ok(LevelHandle(handle))
}

// === impl LevelHandle ===

impl LevelHandle {
    /// From now on shows this level and what is louder.
    pub(crate) fn set(&self, level: Level) -> Result<(), String> {
        self.0
            .reload(filter(level))
            .map_err(|error| format!("cannot change the log's level: {error}"))
    }
}

/// The level is for the daemon's own rooms. What the libraries below say about
/// every frame they send helps only those who want to see every step.
fn filter(level: Level) -> Targets {
    let own = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let libraries = match level {
        Level::Trace => LevelFilter::DEBUG,
        _ => own.min(LevelFilter::WARN),
    };
    Targets::new()
        .with_target("insula", own)
        .with_default(libraries)
}

#[cfg(test)]
mod tests {
    use super::{Level, filter};
    use tracing_subscriber::filter::LevelFilter;

    #[test]
    fn libraries_are_quieter_than_the_daemon() {
        for (level, own, library) in [
            (Level::Error, LevelFilter::ERROR, LevelFilter::ERROR),
            (Level::Info, LevelFilter::INFO, LevelFilter::WARN),
            (Level::Debug, LevelFilter::DEBUG, LevelFilter::WARN),
            (Level::Trace, LevelFilter::TRACE, LevelFilter::DEBUG),
        ] {
            let filter = filter(level);
            for (target, most) in [("insula_pods::owner", own), ("h2::codec", library)] {
                for each in [
                    tracing::Level::ERROR,
                    tracing::Level::WARN,
                    tracing::Level::INFO,
                    tracing::Level::DEBUG,
                    tracing::Level::TRACE,
                ] {
                    assert_eq!(
                        filter.would_enable(target, &each),
                        each <= most,
                        "{target} {each}"
                    );
                }
            }
        }
    }
}
