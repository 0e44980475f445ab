use super::super::{CdiError, DeviceName};
use super::Directories;
use std::fs;
use std::path::Path;

/// A file that describes one device, which sets a variable, and sets one for all.
fn describe(directory: &Path, file: &str, device: &str, value: &str) {
    let text = format!(
        r#"{{"cdiVersion": "0.7.0", "kind": "v.com/c",
            "devices": [
              {{"name": "{device}", "containerEdits": {{"env": ["DEVICE={value}"]}}}},
              {{"name": "{device}-rdt", "containerEdits": {{"intelRdt": {{}}}}}}
            ],
            "containerEdits": {{"env": ["COMMON={value}"]}}}}"#
    );
    fs::write(directory.join(file), text).unwrap();
}

fn names(list: &[&str]) -> Vec<DeviceName> {
    list.iter().map(|name| name.parse().unwrap()).collect()
}

fn env(directories: &Directories, list: &[&str]) -> Vec<String> {
    let edits = directories.find(&names(list)).unwrap();
    edits
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect()
}

#[test]
fn later_directories_win_and_common_edits_come_once_and_first() {
    let (low, high) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    describe(low.path(), "a.json", "0", "low");
    describe(low.path(), "b.json", "1", "other");
    describe(high.path(), "a.json", "0", "high");
    let missing = low.path().join("missing");
    let directories =
        Directories::new(vec![missing, low.path().to_owned(), high.path().to_owned()]);
    assert_eq!(env(&directories, &[]), Vec::<String>::new());
    assert_eq!(
        env(&directories, &["v.com/c=0"]),
        ["COMMON=high", "DEVICE=high"]
    );
    assert_eq!(
        env(&directories, &["v.com/c=1", "v.com/c=0"]),
        ["COMMON=other", "DEVICE=other", "COMMON=high", "DEVICE=high"]
    );
    // A file that comes later is seen at once.
    describe(high.path(), "c.json", "2", "new");
    assert_eq!(
        env(&directories, &["v.com/c=2"]),
        ["COMMON=new", "DEVICE=new"]
    );
}

#[test]
fn errors_name_the_device_and_the_files() {
    let place = tempfile::tempdir().unwrap();
    describe(place.path(), "a.json", "0", "a");
    describe(place.path(), "b.json", "0", "b");
    fs::write(place.path().join("c.yaml"), "kind: [").unwrap();
    fs::write(place.path().join("d.txt"), "kind: [").unwrap();
    fs::create_dir(place.path().join("e.json")).unwrap();
    let directories = Directories::new(vec![place.path().to_owned()]);
    match directories.find(&names(&["v.com/c=0"])).unwrap_err() {
        CdiError::Conflict { first, second, .. } => {
            assert_eq!(first, place.path().join("a.json"));
            assert_eq!(second, place.path().join("b.json"));
        }
        other => panic!("{other}"),
    }
    let unknown = directories.find(&names(&["v.com/c=9"])).unwrap_err();
    let text = unknown.to_string();
    for part in [
        "v.com/c=9 is not known",
        place.path().to_str().unwrap(),
        "c.yaml",
        "e.json\": is no regular file",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("d.txt"), "{text}");
    fs::remove_file(place.path().join("b.json")).unwrap();
    let unsupported = directories.find(&names(&["v.com/c=0-rdt"])).unwrap_err();
    assert!(
        unsupported
            .to_string()
            .contains("v.com/c=0-rdt needs Intel RDT, which is not supported"),
        "{unsupported}"
    );
}
