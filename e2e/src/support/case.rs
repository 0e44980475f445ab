//! A test of the suite.

use super::node::Node;
use super::outcome::{Outcome, Stop};
use super::world::World;
use libtest_mimic::{Completion, Failed, Trial};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

type Body = Box<dyn FnOnce(&Arc<World>) -> Outcome + Send>;

/// A named test with a daemon of its own.
pub struct Case {
    name: String,
    cgroup: bool,
    body: Body,
}

/// A test; its name is its file and function.
pub fn case<T>(name: &'static str, test: T) -> Case
where
    T: AsyncFnOnce(&mut Node) -> Outcome + Send + 'static,
{
    let short = name.rsplit("::").take(2).collect::<Vec<_>>();
    let name = short.into_iter().rev().collect::<Vec<_>>().join("::");
    let title = name.clone();
    Case {
        name,
        cgroup: false,
        body: Box::new(move |world| run(world, &title, test)),
    }
}

/// Names a test by its function and makes it a [`Case`].
macro_rules! cases {
    ($($test:ident $(in $subset:ident)?),+ $(,)?) => {
        vec![$(
            $crate::support::case::case(concat!(module_path!(), "::", stringify!($test)), $test)
                $(.$subset())?
        ),+]
    };
}
pub(crate) use cases;

fn run<T>(world: &Arc<World>, name: &str, test: T) -> Outcome
where
    T: AsyncFnOnce(&mut Node) -> Outcome,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut node = Node::new(world, name)?;
    // A panic of a test is its failure, and must not keep its node from being taken down.
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            node.start().await?;
            test(&mut node).await
        })
    }))
    .unwrap_or_else(|_| Err(Stop::Failed("the test panicked, see above".into())));
    let kept = if let Err(Stop::Failed(_)) = &result {
        node.log_tail()
    } else {
        String::new()
    };
    let taken_down = runtime.block_on(node.take_down());
    match (result, taken_down) {
        (result, Ok(())) => result.map_err(|stop| explain(stop, &kept)),
        (Err(Stop::Failed(why)), Err(left)) => Err(explain(
            Stop::Failed(format!("{why}\nand afterwards: {}", left.text())),
            &kept,
        )),
        (_, Err(left)) => Err(left),
    }
}

fn explain(stop: Stop, log: &str) -> Stop {
    match stop {
        Stop::Failed(why) if !log.is_empty() => {
            Stop::Failed(format!("{why}\nthe daemon's log ends:\n{log}"))
        }
        other => other,
    }
}

// === impl Case ===

impl Case {
    /// Puts the test into the subset that covers every path of cgroup version 2.
    pub fn cgroup(mut self) -> Self {
        self.cgroup = true;
        self
    }

    /// Whether it is in that subset.
    pub fn in_cgroup_subset(&self) -> bool {
        self.cgroup
    }

    /// For `--list`: it does not run.
    pub fn listed(self) -> Trial {
        Trial::test(self.name, || Ok(()))
    }

    /// The runnable test.
    pub fn trial(self, world: Arc<World>) -> Trial {
        let Self { name, body, .. } = self;
        let title = name.clone();
        Trial::ignorable_test(name, move || match body(&world) {
            Ok(()) => Ok(Completion::Completed),
            Err(Stop::Skipped(reason)) => {
                println!("skipped {title}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
            Err(Stop::Failed(why)) => Err(Failed::from(why)),
        })
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
