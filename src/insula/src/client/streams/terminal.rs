//! The terminal that this command was started on.

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;

use insula_streaming::Size;

/// The terminal passes every key on, Ctrl-C too, until this is dropped.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

// === impl Raw ===

impl Raw {
    /// `None` if standard input is no terminal, so that there is nothing to set.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let input = io::stdin();
        if !isatty(&input) {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Drained first, so that what the command wrote last is shown as it was meant. Nothing
        // can be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The size of the terminal that standard output is on, if it is on one.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    Some(Size {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}
