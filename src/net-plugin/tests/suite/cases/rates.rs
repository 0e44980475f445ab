//! Bandwidth, within a tenth of what was asked.

use super::{Case, table};
use crate::Answer;
use crate::host::Namespace;
use crate::plugins::{Conf, World};
use crate::traffic::{Server, rate};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    table![
        towards_the_pod => "within 10 % of 40 Mbit/s",
        from_the_pod => "within 10 % of 40 Mbit/s",
        both_ways_at_once => "within 10 % of 80 Mbit/s, within 10 % of 24 Mbit/s",
    ]
}

/// How often a rate that is too low is measured.
const ATTEMPTS: usize = 5;

/// Megabits per second, with a burst that is small beside them.
fn limits(ingress: u64, egress: u64) -> Value {
    let bits = |megabits: u64| megabits * 1_000_000;
    json!({"bandwidth": {
        "ingressRate": bits(ingress), "ingressBurst": if ingress == 0 { 0 } else { 2_000_000 },
        "egressRate": bits(egress), "egressBurst": if egress == 0 { 0 } else { 2_000_000 },
    }})
}

/// What the host measures when it sends to the pod, or receives from it.
fn measure(world: &World<'_>, limits: &Value, ways: &[(bool, u32)]) -> Answer {
    world.configure(&Conf::default())?;
    let pod = Namespace::new("pod1")?;
    world.add_with(&pod, limits)?;
    let mut answers = Vec::new();
    for (to_pod, megabits) in ways {
        let _server = Server::bulk(&pod, "10.77.0.2:80", !to_pod)?;
        let wanted = f64::from(*megabits);
        // What is measured is without the headers of some 4 % that the bucket counts.
        let within = |measured: f64| (measured - wanted).abs() <= wanted / 10.0;
        let mut measured = 0.0;
        // A machine that is busy elsewhere lets less through for a while, never more.
        for _ in 0..ATTEMPTS {
            measured = rate(&world.host, "10.77.0.2:80", !to_pod)?;
            println!("{:?}: {measured:.1} of {wanted} Mbit/s", world.kind);
            if measured >= wanted * 0.9 {
                break;
            }
        }
        answers.push(match within(measured) {
            true => format!("within 10 % of {megabits} Mbit/s"),
            false => format!("{measured:.1} Mbit/s"),
        });
    }
    world.del_with(&pod, limits)?;
    Ok(answers.join(", "))
}

fn towards_the_pod(world: &World<'_>) -> Answer {
    measure(world, &limits(40, 0), &[(true, 40)])
}

fn from_the_pod(world: &World<'_>) -> Answer {
    measure(world, &limits(0, 40), &[(false, 40)])
}

fn both_ways_at_once(world: &World<'_>) -> Answer {
    measure(world, &limits(80, 24), &[(true, 80), (false, 24)])
}
