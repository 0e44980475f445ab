//! Hostile passwd and group files.

use crate::accounts::{MAX_FILE, MAX_ID, accounts, groups};
use crate::spec::SecurityContext;
use crate::users::resolve;
use proptest::prelude::*;

#[test]
fn lines_that_are_not_well_formed_do_not_exist() {
    let passwd = b"\
# comment:x:1:1\n\
+nis:x:1:1\n\
-nis:x:1:1\n\
:x:0:0::/\n\
short:x:1\n\
sign:x:+1:1::/\n\
space:x: 1:1::/\n\
large:x:2147483648:0::/\n\
wraps:x:4294967296:0::/\n\
long:x:00000000000000000000000000000000000001:1::/\n\
\xff\xfe:x:5:6::/\xff\n\
  indented:x:7:8:g:/home:/bin/sh\r\n\
least:x:9:10\n\
nonewline:x:11:12::/h";
    let found: Vec<_> = accounts(passwd)
        .map(|account| (account.name, account.uid, account.gid, account.home))
        .collect();
    let expected: Vec<(&[u8], u32, u32, &[u8])> = vec![
        (b"long", 1, 1, b"/"),
        (b"\xff\xfe", 5, 6, b"/\xff"),
        (b"indented", 7, 8, b"/home"),
        (b"least", 9, 10, b""),
        (b"nonewline", 11, 12, b"/h"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn members_are_whole_names() {
    let line = groups(b"g:x:7:ann, bob ,,carol\n").next().unwrap();
    for (name, expected) in [
        ("ann", true),
        ("bob", true),
        ("carol", true),
        ("an", false),
        ("", false),
        ("ann,", false),
    ] {
        assert_eq!(line.has_member(name.as_bytes()), expected, "{name:?}");
    }
    assert!(!groups(b"g:x:7\n").next().unwrap().has_member(b"ann"));
    assert_eq!(groups(b"g:x:-7:a\ng:x::a\ng:x\n").count(), 0);
}

#[test]
fn a_file_of_any_size_is_bounded() {
    let huge = vec![b'a'; MAX_FILE + 1];
    let security = SecurityContext::default();
    assert!(resolve(&security, "1", &huge, b"").is_err());
    assert!(resolve(&security, "1", b"", &huge).is_err());
    let full = vec![b'\n'; MAX_FILE];
    assert!(resolve(&security, "1", &full, &full).is_ok());
}

#[test]
fn a_user_in_too_many_groups_is_refused() {
    let lines: Vec<String> = (1..=70_000).map(|id| format!("g{id}:x:{id}:app")).collect();
    let group = lines.join("\n");
    let passwd = b"app:x:1:1::/\n";
    let error = resolve(&SecurityContext::default(), "app", passwd, group.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("65536"), "{error}");
}

/// Text that looks like an account file more often than bytes do.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let field = "[a-c0-9:/,\\-+# \n]{0,12}|[0-9]{1,20}|[ab]";
    proptest::collection::vec(proptest::collection::vec(field, 0..8), 0..8).prop_map(|lines| {
        let lines: Vec<String> = lines.iter().map(|fields| fields.join(":")).collect();
        lines.join("\n").into_bytes()
    })
}

proptest! {
    /// Whatever an image holds, ids are in range, the primary group is among
    /// the supplementary ones, these are ascending, and home is a path.
    #[test]
    fn what_is_resolved_is_sound(user in "[a-c0-9:+\\-]{0,12}", passwd in file(), group in file()) {
        if let Ok(found) = resolve(&SecurityContext::default(), &user, &passwd, &group) {
            prop_assert!(found.user.uid <= MAX_ID && found.user.gid <= MAX_ID);
            let groups = &found.user.supplementary_groups;
            prop_assert!(groups.contains(&found.user.gid));
            prop_assert!(groups.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(groups.iter().all(|id| *id <= MAX_ID));
            let home = found.home.as_bytes();
            prop_assert!(home.starts_with(b"/") && !home.contains(&b':') && !home.contains(&b'\n'));
        }
    }

    /// A number is that number, whatever the files say.
    #[test]
    fn a_number_is_never_a_name(uid in 0..=MAX_ID, gid in 0..=MAX_ID, passwd in file(), group in file()) {
        let mut hostile = format!("{uid}:x:0:0::/:\n{gid}:x:0:0::/:\n").into_bytes();
        hostile.extend_from_slice(&passwd);
        let found = resolve(&SecurityContext::default(), &format!("{uid}:{gid}"), &hostile, &group).unwrap();
        prop_assert_eq!((found.user.uid, found.user.gid), (uid, gid));
    }

    /// What is out of range is refused, never wrapped.
    #[test]
    fn a_number_out_of_range_is_refused(id in u64::from(MAX_ID) + 1..) {
        for user in [format!("{id}"), format!("1:{id}"), format!("-{id}")] {
            prop_assert!(resolve(&SecurityContext::default(), &user, b"", b"").is_err());
        }
    }

    /// What is well-formed is found again.
    #[test]
    fn well_formed_lines_are_read(name in "[a-z][a-z0-9]{0,8}", uid in 0..=MAX_ID, gid in 0..=MAX_ID, home in "/[a-z/]{0,10}") {
        let passwd = format!("other:x:1:1::/:\n{name}:x:{uid}:{gid}:Full Name,,:{home}:/bin/sh\n");
        let found = accounts(passwd.as_bytes()).find(|account| account.name == name.as_bytes());
        if name != "other" {
            let found = found.unwrap();
            prop_assert_eq!((found.uid, found.gid, found.home), (uid, gid, home.as_bytes()));
        }
    }

    #[test]
    fn bytes_never_panic(passwd in proptest::collection::vec(any::<u8>(), 0..200), user in ".{0,20}") {
        let _result = resolve(&SecurityContext::default(), &user, &passwd, &passwd);
    }
}
