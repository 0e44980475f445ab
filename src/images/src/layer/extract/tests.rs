//! The replay table of unpacking flaws, and GNU tar as oracle.

use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::layer::untar::{TarStream, run};

#[path = "../../../tests/support/tar.rs"]
mod tar;
use tar::Tar;

/// Unpacks below `<scratch>/tree`, with a canary beside it.
fn unpack(archive: &[u8]) -> (tempfile::TempDir, Result<Accounting>) {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("tree")).unwrap();
    std::fs::create_dir(scratch.path().join("host")).unwrap();
    std::fs::write(scratch.path().join("host/canary"), b"canary").unwrap();
    std::fs::set_permissions(
        scratch.path().join("host/canary"),
        PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let root = rustix::fs::open(scratch.path().join("tree"), DIRECTORY, Mode::empty()).unwrap();
    let mut extractor = Extractor::new(root);
    let mut reader = archive;
    let result = run(&mut TarStream::new(&mut reader), &mut extractor, "layer x");
    let result = result.and_then(|()| extractor.finish());
    let host: Vec<_> = std::fs::read_dir(scratch.path().join("host"))
        .unwrap()
        .collect();
    assert_eq!(host.len(), 1, "something was written beside the tree");
    assert_eq!(
        std::fs::read(scratch.path().join("host/canary")).unwrap(),
        b"canary"
    );
    let canary = std::fs::metadata(scratch.path().join("host/canary")).unwrap();
    assert_eq!((canary.mode() & 0o7777, canary.nlink()), (0o600, 1));
    (scratch, result)
}

fn good(archive: Tar) -> tempfile::TempDir {
    let (scratch, result) = unpack(&archive.finish());
    result.unwrap();
    scratch
}

#[test]
fn refuses_with_the_entrys_name() {
    let entry = |name: &str| Tar::new().file(name, 0o644, b"x");
    let typed =
        |name: &str, kind: u8| Tar::new().raw(name.as_bytes(), kind, 0o777, b"/host", 0, b"");
    let cases = [
        (entry("../host/canary"), "../host/canary"),
        (entry("a/../../host/canary"), "a/../../host/canary"),
        (entry(".."), ".."),
        (typed("..", b'5'), ".."),
        (typed(".", b'2'), "root can only be a directory"),
        (typed("./", b'2'), "root can only be a directory"),
        (typed("/", b'2'), "root can only be a directory"),
        (typed("./", b'1'), "root can only be a directory"),
        (typed("", b'2'), "empty path"),
        (entry(".wh."), "malformed whiteout"),
        (entry("a/.wh..."), "malformed whiteout"),
        (entry(".wh.a/b"), "malformed whiteout"),
        (
            Tar::new().hard_link("a", "../host/canary"),
            "target: it leaves",
        ),
        (Tar::new().hard_link("a", "missing"), "not in this layer"),
        (
            Tar::new().file("a", 0o644, b"").file("a/b", 0o644, b""),
            "no directory",
        ),
        (
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/c", 0o644, b""),
            "loop",
        ),
        (typed("a", b'Z'), "unknown entry type"),
        (
            Tar::new().raw(b"a", b'0', 0o644, b"", 1 << 20, b"short"),
            "ends within",
        ),
        (
            Tar::new().pax(&[("size", b"x")]).file("a", 0o644, b""),
            "no number",
        ),
        (
            Tar::new()
                .pax(&[("uid", b"4294967295")])
                .file("a", 0o644, b""),
            "out of range",
        ),
        (
            Tar::new()
                .pax(&[
                    ("GNU.sparse.map", b"0,4,2,4"),
                    ("GNU.sparse.size", b"99999999"),
                ])
                .file("a", 0o644, b"12345678"),
            "out of order",
        ),
        (
            Tar::new()
                .pax(&[
                    ("GNU.sparse.map", b"0,8"),
                    ("GNU.sparse.size", b"18446744073709551615"),
                ])
                .file("a", 0o644, b"12345678"),
            "apparent size",
        ),
    ];
    for (archive, expected) in cases {
        let (_scratch, result) = unpack(&archive.finish());
        let error = result.expect_err(expected);
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

/// Links to the host in every form: what is written through them stays in the tree.
#[test]
fn links_lead_nowhere_else() {
    let host = "/host";
    for target in [
        host,
        "../host",
        "../../../../../../host",
        "/proc/self/root/host",
        "/proc/self/cwd",
    ] {
        let link = || Tar::new().directory("a", 0o755).symlink("x", target);
        let archives = [
            link().file("x/canary", 0o777, b"evil"),
            link()
                .directory("x", 0o777)
                .file("x/canary", 0o777, b"evil"),
            link().symlink("x/canary", "evil"),
            link().raw(b"x/canary", b'6', 0o777, b"", 0, b""),
            link().hard_link("b", "x/canary"),
            link().file("x/.wh.canary", 0o644, b""),
            link().file("x/.wh..wh..opq", 0o644, b""),
            Tar::new()
                .symlink("x", "/host/canary")
                .file("x", 0o777, b"evil"),
            Tar::new()
                .symlink("x", "/host/canary")
                .raw(b"x", b'3', 0o777, b"", 0, b""),
            Tar::new()
                .symlink("x", "/host/canary")
                .hard_link("y", "x")
                .file("y", 0o777, b"evil"),
            // A directory that becomes a link between two writes (CVE-2025-47290).
            Tar::new()
                .file("d/f", 0o644, b"1")
                .symlink("d", target)
                .file("d/canary", 0o777, b"evil"),
            Tar::new()
                .directory("d", 0o755)
                .symlink("d", target)
                .directory("d", 0o777)
                .file("d/canary", 0o777, b"evil"),
        ];
        for archive in archives {
            // Whether it is refused or stays inside is the kernel's to say; the canary decides.
            let _ = unpack(&archive.finish());
        }
    }
    // A link within the layer works as it would for a process whose root the layer is.
    let scratch = good(
        Tar::new()
            .directory("usr/lib", 0o755)
            .symlink("lib", "/usr/lib")
            .file("lib/f", 0o640, b"in"),
    );
    assert_eq!(
        std::fs::read(scratch.path().join("tree/usr/lib/f")).unwrap(),
        b"in"
    );
}

#[test]
fn replacing_and_repeating() {
    let scratch = good(
        Tar::new()
            .file("a", 0o644, b"one")
            .file("a", 0o600, b"second")
            .directory("d", 0o700)
            .file("d/x/y", 0o644, b"")
            .file("d", 0o644, b"file now")
            .file("e", 0o644, b"")
            .directory("e", 0o751)
            .file("h", 0o644, b"h")
            .hard_link("h", "h")
            .hard_link("i", "./h")
            .hard_link("i", "/h"),
    );
    let tree = scratch.path().join("tree");
    assert_eq!(std::fs::read(tree.join("a")).unwrap(), b"second");
    assert_eq!(
        std::fs::metadata(tree.join("a")).unwrap().mode() & 0o7777,
        0o600
    );
    assert_eq!(std::fs::read(tree.join("d")).unwrap(), b"file now");
    assert_eq!(
        std::fs::metadata(tree.join("e")).unwrap().mode() & 0o7777,
        0o751
    );
    assert_eq!(std::fs::metadata(tree.join("h")).unwrap().nlink(), 2);
    assert_eq!(std::fs::read(tree.join("i")).unwrap(), b"h");
}

fn opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, OPAQUE, &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}

#[test]
fn whiteouts_in_any_order() {
    let scratch = good(
        Tar::new()
            .file("a/.wh.gone", 0o644, b"")
            .file("b/.wh..wh..opq", 0o644, b"")
            .file("b/new", 0o644, b"")
            // Hidden, then new; new, then hidden: what the layer has stays.
            .file(".wh.c", 0o644, b"")
            .file("c/in", 0o644, b"")
            .file("d/in", 0o644, b"")
            .file(".wh.d", 0o644, b"")
            .file(".wh.e", 0o644, b"")
            .directory("e", 0o755)
            .file("f", 0o644, b"f")
            .file(".wh.f", 0o644, b"")
            .file(".wh..wh.plnk/1", 0o644, b""),
    );
    let tree = scratch.path().join("tree");
    let gone = std::fs::symlink_metadata(tree.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(
        ["a", "b", "c", "d", "e"].map(|name| opaque(&tree.join(name))),
        [false, true, true, true, true]
    );
    assert!(tree.join("c/in").exists() && tree.join("d/in").exists());
    assert_eq!(std::fs::read(tree.join("f")).unwrap(), b"f");
    assert!(!tree.join(".wh..wh.plnk").exists());
    let (_scratch, result) = unpack(&Tar::new().file(".wh..wh..opq", 0o644, b"").finish());
    assert!(result.unwrap().root_opaque);
}

#[test]
fn attributes() {
    let capability = [
        1u8, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let records: [(&str, &[u8]); 5] = [
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"x\0y\n"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("mtime", b"-1.25"),
    ];
    let scratch = good(
        Tar::new()
            .directory("./", 0o1777)
            .pax(&records)
            .file("ping", 0o4755, b"x")
            .pax(&records)
            .directory("dir", 0o2755)
            .file("dir/inside", 0o644, b"")
            .raw(b"fifo", b'6', 0o622, b"", 0, b"")
            .raw(b"null", b'3', 0o666, b"", 0, b""),
    );
    let tree = scratch.path().join("tree");
    let mode = |name: &str| std::fs::symlink_metadata(tree.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        ["", "ping", "dir", "dir/inside", "fifo", "null"].map(mode),
        [0o1777, 0o4755, 0o2755, 0o644, 0o622, 0o666]
    );
    let attribute = |file: &str, name: &str| {
        let mut value = [0; 64];
        rustix::fs::lgetxattr(tree.join(file), name, &mut value[..])
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(
        attribute("ping", "security.capability").unwrap(),
        capability
    );
    assert_eq!(attribute("ping", "user.note").unwrap(), b"x\0y\n");
    assert!(attribute("ping", "trusted.overlay.redirect").is_err());
    assert!(!opaque(&tree.join("dir")));
    for name in ["ping", "dir"] {
        let found = std::fs::metadata(tree.join(name)).unwrap();
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (-2, 750_000_000),
            "{name}"
        );
    }
}

/// The published shapes in which parsers lost their place, as GNU tar reads them.
#[test]
fn desynchronisation() {
    let inner = Tar::new().file("smuggled", 0o644, b"").finish();
    let inner = &inner[..512];
    let size = inner.len().to_string();
    let archives = [
        Tar::new()
            .pax(&[("size", size.as_bytes())])
            .raw(b"a", b'0', 0o644, b"", 0, inner)
            .file("end", 0o644, b""),
        Tar::new()
            .pax(&[("size", size.as_bytes())])
            .raw(b"a", b'0', 0o644, b"", 1, inner)
            .file("end", 0o644, b""),
        Tar::new()
            .pax(&[("size", size.as_bytes())])
            .raw(b"././@LongLink", b'L', 0o644, b"", 2, b"a\0")
            .raw(b"x", b'0', 0o644, b"", 0, inner)
            .file("end", 0o644, b""),
    ];
    for archive in archives {
        let scratch = good(archive);
        let tree = scratch.path().join("tree");
        assert!(tree.join("end").exists() && !tree.join("smuggled").exists());
        assert_eq!(std::fs::metadata(tree.join("a")).unwrap().len(), 512);
    }
}

/// A tree as deep as names can be, made for several files and then replaced by a link.
#[test]
fn deep_trees_and_many_parents() {
    let deep = "d/".repeat(1500);
    let mut archive = Tar::new();
    for n in 0..20 {
        let name = format!("{deep}{n}");
        archive = archive
            .pax(&[("path", name.as_bytes())])
            .file("x", 0o644, b"");
    }
    archive = archive.symlink("d", "gone");
    let scratch = good(archive);
    assert!(
        std::fs::symlink_metadata(scratch.path().join("tree/d"))
            .unwrap()
            .file_type()
            .is_symlink()
    );
}

fn gnu_tar(arguments: &[&str], directory: &Path, input: Option<&Path>) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(arguments).current_dir(directory);
    if let Some(input) = input {
        command.stdin(std::fs::File::open(input).unwrap());
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The same archive through GNU tar and through us, compared by archiving both trees again.
#[test]
fn agrees_with_gnu_tar() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    std::fs::create_dir_all(at("a/very/deep/directory/with/a/name/that/is/longer/than/a/hundred/bytes/so/that/it/needs/another/header")).unwrap();
    std::fs::write(at("a/file"), vec![7; 300_000]).unwrap();
    std::fs::write(at("a/empty"), b"").unwrap();
    std::fs::write(at("a/söme näme\n"), b"x").unwrap();
    std::fs::hard_link(at("a/file"), at("hard")).unwrap();
    symlink("a/file", at("soft")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    std::fs::set_permissions(at("a/empty"), PermissionsExt::from_mode(0o6711)).unwrap();
    std::os::unix::fs::chown(at("a/empty"), Some(1234), Some(70_000)).unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 5 << 20).unwrap();
    drop(sparse);
    for format in [
        "gnu",
        "pax",
        "posix --sparse",
        "gnu --sparse",
        "posix --sparse --sparse-version=0.1",
        "posix --sparse --sparse-version=0.0",
        "ustar",
    ] {
        let mut arguments = vec!["--format"];
        arguments.extend(format.split(' '));
        arguments.extend(["-c", "."]);
        let archive = gnu_tar(&arguments, source.path(), None);
        let (scratch, result) = unpack(&archive);
        result.unwrap();
        let theirs = tempfile::tempdir_in(scratch.path()).unwrap();
        let file = scratch.path().join("archive");
        std::fs::write(&file, &archive).unwrap();
        gnu_tar(&["-xp", "--same-owner"], theirs.path(), Some(&file));
        let list = [
            "--format=pax",
            "--sort=name",
            "--numeric-owner",
            "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/%f",
            "-c",
            ".",
        ];
        let ours = gnu_tar(&list, &scratch.path().join("tree"), None);
        assert!(ours == gnu_tar(&list, theirs.path(), None), "{format}");
        let mut read = Vec::new();
        std::fs::File::open(scratch.path().join("tree/sparse"))
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(
            (read.len(), &read[5 << 20..(5 << 20) + 6]),
            (10 << 20, &b"middle"[..])
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Damaged archives end in an error or a tree, never in a panic or outside of it.
    #[test]
    fn damage(at in 0usize..4096, byte in proptest::prelude::any::<u8>(), cut in 0usize..8192) {
        let archive = Tar::new().pax(&[("path", b"a/b")]).file("x", 0o644, b"content").symlink("l", "/host").file("l/x", 0o644, b"1").finish();
        let mut damaged = archive.clone();
        if let Some(target) = damaged.get_mut(at) {
            *target = byte;
        }
        damaged.truncate(cut);
        let _ = unpack(&damaged);
    }
}
