use super::allocate::candidates;
use super::{Record, Store};
use crate::config::{Config, Identity, RangeSet};
use crate::error::Code;
use crate::request::AttachmentId;
use insula_cni::Cidr;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

fn config(dir: &Path, ranges: &Value) -> Config {
    let conf = json!({
        "cniVersion": "1.0.0", "name": "n", "type": "insula-net",
        "ipam": {"dataDir": dir, "ranges": ranges},
    });
    Config::parse(conf.to_string().as_bytes()).unwrap()
}

fn sets(ranges: &Value) -> Vec<RangeSet> {
    config(Path::new("/nowhere"), ranges).ranges
}

fn id(container: &str) -> AttachmentId {
    AttachmentId::parse(container, "eth0").unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A store of a network with these ranges, in a directory that goes with the test.
struct Fixture {
    dir: tempfile::TempDir,
    config: Config,
}

impl Fixture {
    fn new(ranges: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), ranges);
        Self { dir, config }
    }

    fn store(&self) -> Store {
        Store::open(&self.config.identity).unwrap()
    }

    fn allocate(&self, owner: &str, requested: &[&str]) -> Result<Vec<String>, Code> {
        let requested: Vec<_> = requested.iter().map(|text| ip(text)).collect();
        let exclude: Vec<Cidr> = Vec::new();
        self.store()
            .lock()
            .unwrap()
            .allocate(&id(owner), &self.config.ranges, &requested, &exclude)
            .map(|given| given.iter().map(|ip| ip.address.to_string()).collect())
            .map_err(|failure| failure.code)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("n").join(name)
    }
}

#[test]
fn candidates_go_round_from_the_last_one() {
    let two = json!([[
        {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.1", "rangeEnd": "10.0.0.3"},
        {"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.9", "rangeEnd": "10.0.1.10"},
    ]]);
    // The address that was given last, and those to be tried. The gateway is the first address.
    let table = [
        (None, "2 3 9 10"),
        (Some("10.0.0.2"), "3 9 10 2"),
        (Some("10.0.0.3"), "9 10 2 3"),
        (Some("10.0.1.9"), "10 2 3 9"),
        (Some("10.0.1.10"), "2 3 9 10"),
        (Some("192.0.2.1"), "2 3 9 10"),
    ];
    for (last, expected) in table {
        let found: Vec<_> = candidates(&sets(&two)[0], last.map(ip))
            .map(|(address, _)| address.to_string().rsplit('.').next().unwrap().to_owned())
            .collect();
        assert_eq!(found.join(" "), expected, "after {last:?}");
    }
}

#[test]
fn an_address_that_was_given_back_rests_for_a_round() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/64"}]]));
    let first = fixture.allocate("a", &[]).unwrap();
    assert_eq!(first, ["10.0.0.2/29", "fd00::2/64"]);
    let store = fixture.store();
    store
        .lock()
        .unwrap()
        .give_back(&[ip("10.0.0.2"), ip("fd00::2")], &id("a"))
        .unwrap();
    for last in [
        "10.0.0.3/29",
        "10.0.0.4/29",
        "10.0.0.5/29",
        "10.0.0.6/29",
        "10.0.0.2/29",
    ] {
        assert_eq!(
            fixture.allocate(&format!("b{}", last.len()), &[]).unwrap()[0],
            last
        );
    }
    assert_eq!(fixture.allocate("c", &[]), Err(Code::NoAddress));
    // What the other set gave before the failure is free again.
    assert_eq!(
        store.lock().unwrap().addresses_of(&id("c")).unwrap(),
        Vec::<IpAddr>::new()
    );
}

#[test]
fn files_are_those_of_host_local() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/24"}]]));
    fixture.allocate("c1", &[]).unwrap();
    let read = |name| std::fs::read_to_string(fixture.file(name)).unwrap();
    assert_eq!(read("10.0.0.2"), "c1\r\neth0");
    assert_eq!(read("last_reserved_ip.0"), "10.0.0.2");
    // What host-local gave out is not given again, and is found and freed by its owner.
    std::fs::write(fixture.file("10.0.0.3"), "old\r\neth0").unwrap();
    std::fs::write(fixture.file("10.0.0.4"), "older").unwrap();
    assert_eq!(fixture.allocate("c2", &[]).unwrap(), ["10.0.0.5/24"]);
    let store = fixture.store();
    let locked = store.lock().unwrap();
    assert_eq!(locked.addresses_of(&id("older")).unwrap(), [ip("10.0.0.4")]);
    let known = locked.attachments().unwrap();
    assert_eq!(known.len(), 4, "{known:?}");
    locked
        .give_back(&[ip("10.0.0.3"), ip("10.0.0.4")], &id("old"))
        .unwrap();
    assert!(!fixture.file("10.0.0.3").exists() && fixture.file("10.0.0.4").exists());
}

#[test]
fn requested_addresses_are_given_or_refused() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]));
    let given = fixture.allocate("a", &["fd00::7", "10.0.0.9"]).unwrap();
    assert_eq!(given, ["10.0.0.9/24", "fd00::7/64"]);
    for (requested, code) in [
        (&["10.0.0.9"][..], Code::Taken),
        (&["10.0.0.1"], Code::Taken),
        (&["192.0.2.1"], Code::NoAddress),
        (&["10.0.0.20", "10.0.0.21"], Code::NoAddress),
    ] {
        assert_eq!(fixture.allocate("b", requested), Err(code), "{requested:?}");
        let store = fixture.store();
        assert_eq!(
            store.lock().unwrap().addresses_of(&id("b")).unwrap(),
            Vec::<IpAddr>::new()
        );
    }
}

#[test]
fn excluded_addresses_are_passed_over() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/24"}]]));
    let store = fixture.store();
    let exclude = ["10.0.0.0/29".parse().unwrap()];
    let given = store
        .lock()
        .unwrap()
        .allocate(&id("a"), &fixture.config.ranges, &[], &exclude);
    assert_eq!(given.unwrap()[0].address.to_string(), "10.0.0.8/24");
}

#[test]
fn a_file_without_a_name_is_nobodys() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/24"}]]));
    fixture.allocate("a", &[]).unwrap();
    // Killed before the name was written, and a power cut.
    std::fs::write(fixture.file("10.0.0.3"), "").unwrap();
    std::fs::write(fixture.file("10.0.0.4"), "\0\0\0").unwrap();
    assert_eq!(fixture.allocate("b", &[]).unwrap(), ["10.0.0.3/24"]);
    // Whoever looks at all of them takes the file away.
    let store = fixture.store();
    let known = store.lock().unwrap().attachments().unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [id("a"), id("b")]);
    assert!(!fixture.file("10.0.0.4").exists());
}

#[test]
fn records_come_back_as_they_were() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/24"}]]));
    let store = fixture.store();
    let record = Record {
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        links: vec!["veth0".to_owned()],
        entries: Vec::new(),
    };
    let locked = store.lock().unwrap();
    assert_eq!(store.record(&id("a")).unwrap(), None);
    locked.write_record(&id("a"), &record).unwrap();
    assert_eq!(store.record(&id("a")).unwrap(), Some(record));
    // Of a write that was cut short there is a hidden file, by which GC finds it.
    std::fs::write(fixture.file("attachments/.b@eth0"), "{").unwrap();
    assert_eq!(store.record(&id("b")).unwrap(), None);
    let mut recorded = store.recorded().unwrap();
    recorded.sort();
    assert_eq!(recorded, [id("a"), id("b")]);
    std::fs::write(fixture.file("attachments/c@eth0"), "\0\0\0").unwrap();
    assert_eq!(store.record(&id("c")).unwrap(), None);
    std::fs::write(fixture.file("attachments/d@eth0"), "{").unwrap();
    assert_eq!(store.record(&id("d")).unwrap_err().code, Code::Decoding);
    for gone in ["a", "b", "c", "d", "a"] {
        locked.remove_record(&id(gone)).unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(fixture.file("attachments"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_network_that_was_never_used_has_no_store() {
    let fixture = Fixture::new(&json!([[{"subnet": "10.0.0.0/24"}]]));
    assert!(Store::open_existing(&fixture.config.identity).is_none());
    let identity: &Identity = &fixture.config.identity;
    Store::open(identity).unwrap();
    assert!(Store::open_existing(identity).is_some());
}
