use std::sync::Arc;

use super::*;
use crate::digest::Digest;
use crate::layer::Accounting;
use crate::reference::Reference;

fn config(diff_ids: &[&Digest]) -> Vec<u8> {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
    .into_bytes()
}

/// A store with one image of one layer; its id.
fn with_image(root: &Path, tag: &str) -> (Arc<Store>, ImageId) {
    let store = Arc::new(Store::open(root).unwrap());
    let diff_id = Digest::sha256(b"layer");
    let staging = Staging::create(&store, std::slice::from_ref(&diff_id)).unwrap();
    staging.layer_directory(&diff_id).unwrap();
    let accounting = Accounting {
        bytes: 4096,
        inodes: 1,
        ..Accounting::default()
    };
    store.publish_layer(&staging, &diff_id, accounting).unwrap();
    let config = config(&[&diff_id]);
    let id = ImageId::new(Digest::sha256(&config));
    let reference: Reference = tag.parse().unwrap();
    let commit = Commit {
        id: &id,
        config: &config,
        reference: &reference,
        manifest: &diff_id,
        size: 5,
    };
    let lock = store.lock().unwrap();
    store.commit(&lock, &commit).unwrap();
    drop((lock, staging));
    (store, id)
}

fn count(root: &Path, directory: &str) -> usize {
    std::fs::read_dir(root.join(directory)).unwrap().count()
}

#[test]
fn survives_a_restart_and_shows_other_processes_changes() {
    let root = tempfile::tempdir().unwrap();
    let (store, id) = with_image(root.path(), "redis");
    let other = Store::open(root.path()).unwrap();
    assert_eq!(other.images().unwrap().len(), 1);
    assert_eq!(other.usage().unwrap(), (4096, 1));
    let lock = store.lock().unwrap();
    store.forget(&lock, &id).unwrap();
    store.collect(&lock).unwrap();
    drop(lock);
    assert!(other.images().unwrap().is_empty());
    assert_eq!(other.usage().unwrap(), (0, 0));
    store.empty_trash();
    assert_eq!(
        (count(root.path(), "layers"), count(root.path(), "staging")),
        (0, 0)
    );
}

#[test]
fn a_power_cut_costs_what_was_not_flushed() {
    let root = tempfile::tempdir().unwrap();
    for (synced, kept) in [(false, 0), (true, 1)] {
        let (store, _) = with_image(root.path(), "redis");
        if synced {
            store.sync_layers().unwrap();
        }
        drop(store);
        // What the next boot would find.
        for entry in std::fs::read_dir(root.path().join("layers")).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let mut info: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                info["boot_id"] = "another".into();
                std::fs::write(&path, info.to_string()).unwrap();
            }
        }
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.images().unwrap().len(), kept, "synced: {synced}");
        assert_eq!(count(root.path(), "layers"), kept * 2);
    }
}

#[test]
fn records_that_do_not_parse_are_set_aside() {
    for damage in ["", "{", "null", "{\"version\":9}", "\u{0}"] {
        let root = tempfile::tempdir().unwrap();
        let (store, id) = with_image(root.path(), "redis");
        let record = root
            .path()
            .join("images")
            .join(format!("{}.json", id.digest().hex()));
        std::fs::write(&record, damage).unwrap();
        assert!(store.images().unwrap().is_empty(), "{damage:?}");
        assert!(record.with_extension("json.corrupt").exists());
        // Pulling again brings it back.
        drop(store);
        let (store, _) = with_image(root.path(), "redis");
        assert_eq!(store.images().unwrap().len(), 1);
    }
}

#[test]
fn only_dead_pulls_are_cleaned_up() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let diff_id = Digest::sha256(b"x");
    let alive = Staging::create(&store, std::slice::from_ref(&diff_id)).unwrap();
    std::fs::create_dir_all(root.path().join("staging/pull-dead/x")).unwrap();
    std::fs::write(root.path().join("staging/pull-dead/lock"), b"").unwrap();
    let other = Store::open(root.path()).unwrap();
    assert_eq!(count(root.path(), "staging"), 1);
    // A layer that a living pull counts on stays, though no image needs it.
    alive.layer_directory(&diff_id).unwrap();
    store
        .publish_layer(&alive, &diff_id, Accounting::default())
        .unwrap();
    other.collect(&other.lock().unwrap()).unwrap();
    assert!(other.layer(&diff_id).unwrap().is_some());
    drop(alive);
    other.collect(&other.lock().unwrap()).unwrap();
    assert!(other.layer(&diff_id).unwrap().is_none());
    other.empty_trash();
    assert_eq!(count(root.path(), "staging"), 0);
}

#[test]
fn short_ids() {
    let root = tempfile::tempdir().unwrap();
    let (store, id) = with_image(root.path(), "abcd");
    let hex = id.digest().hex();
    assert_eq!(store.find(&hex[..4]).unwrap().unwrap().id, id);
    assert_eq!(store.find(&hex[..3]).unwrap(), None);
    assert_eq!(
        store.find("abcd").unwrap().unwrap().id,
        id,
        "a name comes before an id"
    );
    assert_eq!(store.find("abcd:other").unwrap(), None);
}

/// Trees of this many files in the trash; as a container's root file system leaves.
fn fill_trash(store: &Store, root: &Path, trees: usize) {
    for tree in 0..trees {
        let path = root.join(format!("rw/c{tree}"));
        for directory in 0..40 {
            let directory = path.join(format!("upper/{directory}/x"));
            std::fs::create_dir_all(&directory).unwrap();
            for file in 0..8 {
                std::fs::write(directory.join(file.to_string()), b"").unwrap();
            }
        }
        store.trash(store.rw(), &format!("c{tree}")).unwrap();
    }
}

/// Each removal of a container empties the trash, so several do at the same time.
#[test]
fn several_may_empty_the_trash() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for _ in 0..5 {
        fill_trash(&store, root.path(), 3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| store.empty_trash());
            }
        });
        assert_eq!(count(root.path(), "staging"), 0);
    }
}

#[tokio::test]
async fn settling_waits_for_the_trash_and_for_pulls() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    fill_trash(&store, root.path(), 3);
    store.empty_trash_later();
    let staging = Staging::create(&store, &[]).unwrap();
    staging.layer_directory(&Digest::sha256(b"x")).unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(staging);
    });
    store.settled().await;
    assert_eq!(count(root.path(), "staging"), 0);
}

#[test]
fn opening_empties_the_trash() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    fill_trash(&store, root.path(), 2);
    drop(store);
    std::fs::write(root.path().join("staging/trash-file"), b"").unwrap();
    Store::open(root.path()).unwrap();
    assert_eq!(count(root.path(), "staging"), 0);
}
