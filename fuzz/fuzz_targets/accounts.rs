//! The image's `/etc/passwd` and `/etc/group`, and its `USER`.
#![no_main]

use insula_isolators::accounts::MAX_ID;
use insula_isolators::spec::SecurityContext;
use insula_isolators::users::resolve;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, Vec<u8>, Vec<u8>)| {
    let (user, passwd, group) = input;
    if let Ok(found) = resolve(&SecurityContext::default(), &user, &passwd, &group) {
        assert!(found.user.uid <= MAX_ID && found.user.gid <= MAX_ID);
        assert!(found.user.supplementary_groups.contains(&found.user.gid));
        assert!(found.home.as_bytes().starts_with(b"/"));
        if let Ok(number) = user.parse::<u32>() {
            assert_eq!(found.user.uid, number);
        }
    }
});
