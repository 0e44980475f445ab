//! Many at a time, and killed at each step.

use crate::Answer;
use crate::host::Namespace;
use crate::own::{ask_here, ask_plugin, configuration, run_here, variables};
use crate::plugins::{PLUGIN, World};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many attachments there are at a time, and how many of each.
const AT_A_TIME: usize = 16;
const EACH: usize = 63;

type Run = fn(&World<'_>) -> Answer;

pub fn cases() -> Vec<(&'static str, Run)> {
    vec![
        (
            "load::a_thousand_sixteen_at_a_time",
            a_thousand_sixteen_at_a_time,
        ),
        (
            "load::killed_at_each_step_of_add",
            killed_at_each_step_of_add,
        ),
        (
            "load::killed_at_each_step_of_del",
            killed_at_each_step_of_del,
        ),
        ("load::times", times),
    ]
}

fn a_thousand_sixteen_at_a_time(world: &World<'_>) -> Answer {
    let pods: Vec<Namespace> = (0..AT_A_TIME)
        .map(|number| Namespace::new(&format!("pod{number}")))
        .collect::<Result<_, _>>()?;
    let owners: Mutex<HashMap<String, String>> = Mutex::new(HashMap::new());
    let one = |number: usize, pod: &Namespace| {
        world.host.enter()?;
        for round in 0..EACH {
            let id = format!("c{number}-{round}");
            let mut conf = configuration(world);
            let mapping =
                json!([{"hostPort": 9000 + number, "containerPort": 80, "protocol": "tcp"}]);
            conf["runtimeConfig"] = json!({"portMappings": mapping});
            let result = ask_here(&variables("ADD", &id, &pod.path()), &conf)?;
            let result: Value = serde_json::from_str(&result).map_err(|error| error.to_string())?;
            let addresses = [World::address(&result, 0), World::address(&result, 1)];
            for address in &addresses {
                let had = lock(&owners)?.insert(address.clone(), id.clone());
                if let Some(other) = had {
                    return Err(format!("{address} was given to {id} while {other} had it"));
                }
            }
            for address in &addresses {
                lock(&owners)?.remove(address);
            }
            ask_here(&variables("DEL", &id, &pod.path()), &conf)?;
        }
        Ok::<(), String>(())
    };
    let one = &one;
    std::thread::scope(|scope| {
        let threads: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(number, pod)| scope.spawn(move || one(number, pod)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(String::new())
}

fn lock<T>(mutex: &Mutex<T>) -> Result<std::sync::MutexGuard<'_, T>, String> {
    mutex
        .lock()
        .map_err(|_| "another thread panicked".to_owned())
}

/// The system calls between which what is left may differ.
const CALLS: &[&str] = &[
    "openat",
    "mkdir",
    "flock",
    "write",
    "rename",
    "unlink",
    "setns",
    "sendto",
    "recvfrom",
    "clone3",
    "exit_group",
];

fn strace(options: &[&str], variables: &[(&str, &str)], stdin: &Value) -> Answer {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq"])
        .args(options)
        .args(["--", PLUGIN])
        .envs(variables.iter().copied());
    run_here(&mut command, stdin)
}

/// Runs a verb that is killed with SIGKILL as it enters the `nth` call of this name; says whether
/// it made as many.
fn killed(
    world: &World<'_>,
    variables: &[(&str, &str)],
    stdin: &Value,
    (name, nth): (&str, usize),
) -> Result<bool, String> {
    let inject = format!("inject={name}:signal=KILL:when={nth}");
    let trace = format!("trace={name}");
    world.host.within(|| {
        let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        Ok(strace(&options, variables, stdin).is_err())
    })
}

fn everything(world: &World<'_>) -> Value {
    let mut conf = configuration(world);
    conf["runtimeConfig"] = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}],
        "bandwidth": {
            "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
            "egressRate": 8_000_000, "egressBurst": 8_000_000,
        },
    });
    conf
}

/// Nothing may be left. What the kernel is removing may take a moment.
fn nothing_left(world: &World<'_>, after: &str) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = world.left()?;
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(5) {
            return Err(format!("{after}: left behind: {left:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Kills `command` at each of its steps, `before` having been asked, and looks at what is left
/// after `then`.
fn killed_at_each_step(
    world: &World<'_>,
    command: &str,
    before: Option<&str>,
    then: impl Fn(usize) -> (&'static str, Value),
) -> Answer {
    if Command::new("strace").arg("-V").output().is_err() {
        return Err("strace is missing: run hack/packages".to_owned());
    }
    let conf = everything(world);
    let path = "/run/netns/pod1";
    let asked = variables(command, "c1", path);
    let round = |step: usize, at: (&str, usize)| {
        let _pod = Namespace::new("pod1")?;
        if let Some(before) = before {
            ask_plugin(world, &variables(before, "c1", path), &conf)?;
        }
        let was_killed = killed(world, &asked, &conf, at)?;
        let (verb, stdin) = then(step);
        ask_plugin(world, &variables(verb, "c1", path), &stdin)?;
        nothing_left(world, &format!("{command}, killed at {at:?}, then {verb}"))?;
        Ok::<bool, String>(was_killed)
    };
    let mut step = 0;
    for name in CALLS {
        let mut nth = 1;
        while round(step, (name, nth))? {
            nth += 1;
            step += 1;
        }
    }
    println!("{command} was killed at {step} system calls");
    match step {
        0..20 => Err(format!(
            "{command} makes more than {step} system calls: nothing was shown"
        )),
        _ => Ok(String::new()),
    }
}

fn killed_at_each_step_of_add(world: &World<'_>) -> Answer {
    let conf = everything(world);
    // A runtime asks for DEL; one that was killed too leaves it to GC.
    killed_at_each_step(world, "ADD", None, |step| match step % 4 {
        0 => ("GC", conf.clone()),
        _ => ("DEL", conf.clone()),
    })
}

fn killed_at_each_step_of_del(world: &World<'_>) -> Answer {
    let conf = everything(world);
    killed_at_each_step(world, "DEL", Some("ADD"), |_| ("DEL", conf.clone()))
}

/// Shown, not judged: the median of fifty with a mapped port, and the processor time of a pair,
/// asked as a runtime asks; INSULA_NET is another build of the plugin.
fn times(world: &World<'_>) -> Answer {
    let directory = world.peers.directory.display().to_string();
    let plugin = std::env::var("INSULA_NET").unwrap_or_else(|_| PLUGIN.to_owned());
    let ours = {
        let mut conf = configuration(world);
        conf["runtimeConfig"] = mapped_port();
        vec![(plugin, conf)]
    };
    let reference = {
        let mut bridge = configuration(world);
        bridge["type"] = json!("bridge");
        bridge["ipam"]["type"] = json!("host-local");
        bridge["ipam"]["dataDir"] = json!(world.directory.path().join("reference"));
        let mut portmap = json!({"cniVersion": "1.1.0", "name": "suite", "type": "portmap"});
        portmap["runtimeConfig"] = mapped_port();
        let at = |name: &str| format!("{directory}/{name}");
        vec![(at("bridge"), bridge), (at("portmap"), portmap)]
    };
    for (name, chain) in [
        ("insula-net", ours),
        ("bridge, host-local, portmap", reference),
    ] {
        let pod = Namespace::new("pod1")?;
        let mut took: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
        let before = children_ticks()?;
        world.host.within(|| {
            for _ in 0..50 {
                let begun = Instant::now();
                let mut previous = Value::Null;
                for (program, conf) in &chain {
                    let answer = ask_program(program, &directory, "ADD", &pod, conf, &previous)?;
                    previous = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
                }
                took[0].push(begun.elapsed());
                let begun = Instant::now();
                for (program, conf) in chain.iter().rev() {
                    ask_program(program, &directory, "DEL", &pod, conf, &previous)?;
                }
                took[1].push(begun.elapsed());
                // The kernel is not done with what was removed; the next ADD would wait for it.
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        })?;
        let ticks = children_ticks()? - before;
        for (verb, took) in ["ADD", "DEL"].iter().zip(&mut took) {
            took.sort();
            let milliseconds = |at: usize| took[at].as_secs_f64() * 1e3;
            println!(
                "{name}: {verb} median {:.2} ms, p90 {:.2} ms",
                milliseconds(25),
                milliseconds(45)
            );
        }
        // A tick is 10 ms, and there were 50 pairs.
        println!(
            "{name}: {:.1} ms of processor time for ADD and DEL",
            f64::from(ticks) / 5.0
        );
    }
    Ok(String::new())
}

fn mapped_port() -> Value {
    json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]})
}

fn ask_program(
    program: &str,
    path: &str,
    verb: &str,
    pod: &Namespace,
    conf: &Value,
    previous: &Value,
) -> Answer {
    let mut conf = conf.clone();
    // The first plugin of a chain gets none, but at DEL.
    if !previous.is_null() {
        conf["prevResult"] = previous.clone();
    }
    let netns = pod.path();
    let mut command = Command::new(program);
    command
        .env("CNI_PATH", path)
        .envs(variables(verb, "c1", &netns));
    run_here(&mut command, &conf)
}

/// Processor time of all children that have ended, in ticks of the clock: proc_pid_stat(5).
fn children_ticks() -> Result<u32, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u32> = behind_name
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Ok(fields.iter().sum())
}
