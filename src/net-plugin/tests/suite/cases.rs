//! What both sets of plugins must answer alike.

mod addresses;
mod life;
mod ports;
mod rates;
mod reach;

use crate::Answer;
use crate::plugins::World;

/// A case, and the answer that both sets of plugins give.
pub struct Case {
    pub name: &'static str,
    pub run: fn(&World<'_>) -> Answer,
    pub answer: &'static str,
    /// Why it cannot be run here, if so.
    pub needs: fn() -> Option<&'static str>,
}

/// A case by its function, with the answer.
pub fn case(name: &'static str, run: fn(&World<'_>) -> Answer, answer: &'static str) -> Case {
    Case {
        name,
        run,
        answer,
        needs: || None,
    }
}

/// Names a case by its function.
macro_rules! table {
    ($($run:ident => $answer:expr),+ $(,)?) => {
        vec![$(
            $crate::cases::case(
                concat!(module_path!(), "::", stringify!($run)), $run, $answer,
            )
        ),+]
    };
}
use table;

pub fn cases() -> Vec<Case> {
    let mut cases = addresses::cases();
    cases.extend(reach::cases());
    cases.extend(ports::cases());
    cases.extend(rates::cases());
    cases.extend(life::cases());
    for case in &mut cases {
        case.name = case.name.trim_start_matches("suite::cases::");
    }
    cases
}
