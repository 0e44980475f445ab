//! Programs that tests run inside containers, written in C and linked statically.
//!
//! They need calls that Rust cannot make without `unsafe` (ptrace, ioctl), and must run in an image
//! without libraries. They lie beside the binaries under test, so that a machine without a
//! compiler, such as a virtual one, can use what another has built.

use super::outcome::Outcome;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &[(&str, &str)] = &[
    ("agent", include_str!("../programs/agent.c")),
    ("racer", include_str!("../programs/racer.c")),
    ("memory", include_str!("../programs/memory.c")),
    ("refused", include_str!("../programs/refused.c")),
];

/// Builds what is not there yet and gives back the directory.
pub fn build(binaries: &Path) -> Outcome<PathBuf> {
    let directory = binaries.join("e2e-programs");
    std::fs::create_dir_all(&directory)?;
    for (name, source) in SOURCES {
        let (file, program) = (directory.join(format!("{name}.c")), directory.join(name));
        if program.exists() && std::fs::read_to_string(&file).is_ok_and(|built| built == *source) {
            continue;
        }
        std::fs::write(&file, source)?;
        let built = Command::new("gcc")
            .args(["-static", "-O1", "-Wall", "-Werror", "-o"])
            .args([&program, &file])
            .output()
            .map_err(|error| format!("gcc: {error}: run hack/packages"))?;
        if !built.status.success() {
            // Else the next run would take an older program for this one.
            std::fs::remove_file(&file)?;
            return Err(format!("gcc {name}.c: {}", String::from_utf8_lossy(&built.stderr)).into());
        }
    }
    Ok(directory)
}
