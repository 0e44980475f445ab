//! SELinux levels of pods: each has two categories of its own.

use crate::error::{Error, Result};
use insula_isolators::selinux::level_of;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Draws before it is said that no level is free; there are half a million.
const DRAWS: usize = 10_000;

/// The levels in use, with how many pods use each: one that a client asks for
/// may be asked for twice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels(Arc<Mutex<BTreeMap<String, usize>>>);

/// A level in use until this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    level: String,
    levels: Levels,
}

// === impl Levels ===

impl Levels {
    /// A level that no pod has, from random numbers.
    pub(crate) fn draw(&self, mut random: impl FnMut() -> Result<[u32; 2]>) -> Result<Reserved> {
        for _ in 0..DRAWS {
            let [first, second] = random()?;
            let Some(level) = level_of(first, second) else {
                continue;
            };
            let mut used = self.used();
            if !used.contains_key(&level) {
                used.insert(level.clone(), 1);
                drop(used);
                return Ok(self.reserved(level));
            }
        }
        Err(Error::ResourceExhausted(
            "no pair of SELinux categories is free: remove pods".to_owned(),
        ))
    }

    /// A level that is on record, or that a client asked for.
    pub(crate) fn keep(&self, level: &str) -> Reserved {
        *self.used().entry(level.to_owned()).or_default() += 1;
        self.reserved(level.to_owned())
    }

    fn reserved(&self, level: String) -> Reserved {
        Reserved {
            level,
            levels: self.clone(),
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Reserved ===

impl Reserved {
    pub(crate) fn as_str(&self) -> &str {
        &self.level
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut used = self.levels.used();
        if let Some(count) = used.get_mut(&self.level) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Levels;

    #[test]
    fn a_level_is_free_again_when_its_last_pod_is_gone() {
        let levels = Levels::default();
        let kept = levels.keep("s0:c1,c2");
        let again = levels.keep("s0:c1,c2");
        let mut draws = vec![[5, 6], [2, 1], [3, 3]];
        let mut random = || Ok(draws.pop().unwrap());
        assert_eq!(levels.draw(&mut random).unwrap().as_str(), "s0:c5,c6");
        drop(kept);
        assert!(levels.used().contains_key("s0:c1,c2"));
        drop(again);
        assert!(levels.used().is_empty());
        let first = levels.draw(|| Ok([1, 2])).unwrap();
        let error = levels.draw(|| Ok([2, 1])).unwrap_err();
        assert!(error.to_string().contains("no pair"), "{error}");
        drop(first);
        levels.draw(|| Ok([2, 1])).unwrap();
    }
}
