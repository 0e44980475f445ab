//! Tokens: what a CRI call gives a client to come back with.
//!
//! A token stands for one checked request. It is good once, for a minute, and
//! cannot be guessed, so that the streaming server needs no credentials of its
//! own (`k8s.io/cri-streaming`, `request_cache.go`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a token is good for.
pub(crate) const LIFETIME: Duration = Duration::from_mins(1);
/// Requests that may wait for their clients at the same time.
pub(crate) const PENDING_MAX: usize = 1000;
/// Random bytes in a token: a guess a nanosecond would take longer than the
/// universe has.
const RANDOM: usize = 16;

/// No token can be given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too many clients asked for a session and did not come for it.
    #[error(
        "{PENDING_MAX} sessions were asked for and are not opened yet; open them, or wait a \
         minute until they expire"
    )]
    TooMany,
    /// The kernel gave no random bytes.
    #[error("getrandom(2): {0}")]
    Random(String),
}

/// Requests that wait for their clients.
#[derive(Debug)]
pub(crate) struct Tokens<T> {
    waiting: HashMap<String, T>,
    /// Tokens in the order of their ends, those already used among them.
    ends: VecDeque<(Instant, String)>,
}

// === impl Tokens ===

impl<T> Tokens<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            ends: VecDeque::new(),
        }
    }

    /// A token for a request; `now` never goes back.
    pub(crate) fn insert(&mut self, request: T, now: Instant) -> Result<String, TokenError> {
        self.expire(now);
        if self.waiting.len() >= PENDING_MAX {
            return Err(TokenError::TooMany);
        }
        let mut bytes = [0; RANDOM];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::Random(error.to_string()))?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        self.waiting.insert(token.clone(), request);
        self.ends.push_back((now + LIFETIME, token.clone()));
        Ok(token)
    }

    /// The request of a token that was neither used nor has expired.
    pub(crate) fn take(&mut self, token: &str, now: Instant) -> Option<T> {
        self.expire(now);
        let request = self.waiting.remove(token)?;
        // Used tokens would pile up here, a minute's worth of them.
        self.ends.retain(|(_, other)| other != token);
        Some(request)
    }

    /// How many wait.
    pub(crate) fn pending(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.waiting.len()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, token)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.waiting.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LIFETIME, PENDING_MAX, TokenError, Tokens};
    use std::time::{Duration, Instant};

    #[test]
    fn a_token_is_good_once() {
        let mut tokens = Tokens::new();
        let now = Instant::now();
        let one = tokens.insert(1, now).unwrap();
        let two = tokens.insert(2, now).unwrap();
        assert_ne!(one, two);
        assert_eq!(one.len(), 22);
        assert_eq!(tokens.take(&one, now), Some(1));
        assert_eq!(tokens.take(&one, now), None);
        assert_eq!(tokens.take("", now), None);
        assert_eq!(tokens.pending(now), 1);
        assert_eq!(tokens.take(&two, now), Some(2));
        assert!(tokens.ends.is_empty());
    }

    #[test]
    fn a_token_is_good_for_a_minute() {
        let mut tokens = Tokens::new();
        let begin = Instant::now();
        let first = tokens.insert(1, begin).unwrap();
        let second = tokens.insert(2, begin + Duration::from_secs(1)).unwrap();
        let end = begin + LIFETIME;
        assert_eq!(tokens.take(&first, end), None);
        assert_eq!(tokens.pending(end), 1);
        assert_eq!(tokens.take(&second, end), Some(2));
    }

    #[test]
    fn the_number_that_waits_is_bounded() {
        let mut tokens = Tokens::new();
        let now = Instant::now();
        let some = tokens.insert((), now).unwrap();
        for _ in 1..PENDING_MAX {
            tokens.insert((), now).unwrap();
        }
        assert_eq!(tokens.insert((), now), Err(TokenError::TooMany));
        assert_eq!(tokens.take(&some, now), Some(()));
        assert!(tokens.insert((), now).is_ok());
        assert_eq!(tokens.insert((), now), Err(TokenError::TooMany));
        assert!(tokens.insert((), now + LIFETIME).is_ok());
        assert_eq!(tokens.pending(now + LIFETIME), 1);
    }
}
