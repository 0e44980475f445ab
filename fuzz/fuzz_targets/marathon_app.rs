//! No text makes the app parser panic, and what it accepts can be made into configurations.
#![no_main]

use insula_apps::{Instance, InstanceId, PortWish, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok((app, _)) = parse(text) else { return };
    let Ok(networking) = app.networking(None) else {
        return;
    };
    let free = |wish: PortWish<'_>| Some(wish.port.unwrap_or(31000));
    let Ok(ports) = networking.assign(0, free) else {
        return;
    };
    let id = InstanceId {
        index: 0,
        of: app.instances,
        uid: "u".into(),
    };
    let instance = Instance {
        id: &id,
        network: networking.mode,
        ports: &ports,
        host: "h",
        version: "v",
    };
    let _ = instance.sandbox(&app);
    let _ = instance.container(&app, "sha256:0");
});
