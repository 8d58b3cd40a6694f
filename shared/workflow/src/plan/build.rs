//! From a workflow to its graph and order, or to what is wrong with it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use petgraph::{Direction, algo::kosaraju_scc, graph::NodeIndex};

use super::{Awaited, Graph, TaskSpec, WorkflowSpec, nearest};

/// Most tasks of a cycle that are named in a message.
const CYCLE_NAMES_MAX: usize = 20;

/// Why a workflow cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A task or workflow without a name.
    #[error("a task of workflow `{workflow}` has no name: write `task(\"name\")` or `name = \"…\"`")]
    Unnamed {
        /// The workflow.
        workflow: String,
    },
    /// Two tasks of one name.
    #[error("workflow `{workflow}` has two tasks named `{task}`: give one of them another name")]
    Duplicate {
        /// The workflow.
        workflow: String,
        /// The name.
        task: String,
    },
    /// A dependency that does not exist.
    #[error("task `{task}` of workflow `{workflow}` depends on `{unknown}`, which is not one of its tasks{}", hint(nearest.as_deref()))]
    Unknown {
        /// The workflow.
        workflow: String,
        /// The task that waits.
        task: String,
        /// What it waits for.
        unknown: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A task that can never run.
    #[error("task `{task}` of workflow `{workflow}` waits for `{other}` to end well and to fail: write one of the two")]
    Never {
        /// The workflow.
        workflow: String,
        /// The task.
        task: String,
        /// What it waits for.
        other: String,
    },
    /// Tasks that wait for each other.
    #[error(
        "the tasks of workflow `{workflow}` wait for each other: `{}`; remove one of these dependencies",
        shown(cycle)
    )]
    Cycle {
        /// The workflow.
        workflow: String,
        /// The names along the cycle, each waiting for the next, the first one again at the end.
        cycle: Vec<String>,
    },
    /// More tasks than a file may have.
    #[error("workflow `{workflow}` has {tasks} tasks, and {tasks_max} is the most: split it")]
    TooMany {
        /// The workflow.
        workflow: String,
        /// How many it has.
        tasks: usize,
        /// How many it may have.
        tasks_max: usize,
    },
    /// No task could ever start.
    #[error("`max_parallel_tasks` of workflow `{workflow}` is 0: write 1 or more")]
    NoneAtATime {
        /// The workflow.
        workflow: String,
    },
}

pub(super) fn build(spec: &WorkflowSpec, tasks_max: usize) -> Result<(Graph, Vec<usize>), PlanError> {
    if let Some(first) = simple_problems(spec, tasks_max).into_iter().next() {
        return Err(first);
    }
    let graph = graph(spec);
    let order = order(spec, &graph)?;
    Ok((graph, order))
}

/// Everything that keeps a workflow of `tasks_max` tasks at most from being planned, in the order of the file. Cycles
/// are looked for only where nothing else is wrong.
#[must_use]
pub fn problems(spec: &WorkflowSpec, tasks_max: usize) -> Vec<PlanError> {
    let found = simple_problems(spec, tasks_max);
    if found.is_empty() { order(spec, &graph(spec)).err().into_iter().collect() } else { found }
}

pub(super) fn places(spec: &WorkflowSpec) -> HashMap<&str, usize> {
    spec.tasks.iter().enumerate().map(|(place, task)| (task.name.as_str(), place)).collect()
}

fn simple_problems(spec: &WorkflowSpec, tasks_max: usize) -> Vec<PlanError> {
    let mut found = Vec::new();
    let workflow = || spec.name.clone();
    if tasks_max < spec.tasks.len() {
        found.push(PlanError::TooMany { workflow: workflow(), tasks: spec.tasks.len(), tasks_max });
    }
    if spec.max_parallel_tasks == Some(0) {
        found.push(PlanError::NoneAtATime { workflow: workflow() });
    }
    let mut names = HashSet::with_capacity(spec.tasks.len());
    for task in &spec.tasks {
        if task.name.is_empty() {
            found.push(PlanError::Unnamed { workflow: workflow() });
        } else if !names.insert(task.name.as_str()) {
            found.push(PlanError::Duplicate { workflow: workflow(), task: task.name.clone() });
        }
    }
    for task in &spec.tasks {
        let missing = awaited(task).filter(|(name, _)| !names.contains(name.as_str()));
        found.extend(missing.map(|(name, _)| unknown(spec, &task.name, name)));
        if let Some(other) = task.if_failed.iter().find(|name| task.depends_on.contains(name)) {
            found.push(PlanError::Never { workflow: workflow(), task: task.name.clone(), other: other.clone() });
        }
    }
    found
}

fn awaited(task: &TaskSpec) -> impl Iterator<Item = (&String, Awaited)> {
    let well = task.depends_on.iter().map(|name| (name, Awaited::Success));
    well.chain(task.if_failed.iter().map(|name| (name, Awaited::Failure)))
}

/// The graph of a workflow whose names are all known.
fn graph(spec: &WorkflowSpec) -> Graph {
    let places = places(spec);
    let mut graph = Graph::with_capacity(spec.tasks.len(), spec.tasks.iter().map(|task| task.depends_on.len()).sum());
    for _ in &spec.tasks {
        graph.add_node(());
    }
    for (place, task) in spec.tasks.iter().enumerate() {
        let find = |(name, what): (&String, Awaited)| Some((places.get(name.as_str()).copied()?, what));
        let mut dependencies: Vec<_> = awaited(task).filter_map(find).collect();
        dependencies.sort_unstable();
        dependencies.dedup();
        for (dependency, what) in dependencies {
            graph.add_edge(NodeIndex::new(dependency), NodeIndex::new(place), what);
        }
    }
    graph
}

fn unknown(spec: &WorkflowSpec, task: &str, unknown: &str) -> PlanError {
    let known = spec.tasks.iter().map(|other| other.name.as_str()).filter(|name| *name != task);
    PlanError::Unknown {
        workflow: spec.name.clone(),
        task: task.to_owned(),
        unknown: unknown.to_owned(),
        nearest: nearest(unknown, known).map(str::to_owned),
    }
}

/// The order of the file as far as the dependencies allow it: petgraph's own order says nothing of independent tasks.
fn order(spec: &WorkflowSpec, graph: &Graph) -> Result<Vec<usize>, PlanError> {
    let dependencies = |node| graph.neighbors_directed(node, Direction::Incoming).count();
    let mut missing: Vec<usize> = graph.node_indices().map(dependencies).collect();
    let mut ready: BinaryHeap<_> =
        missing.iter().enumerate().filter(|(_, missing)| **missing == 0).map(|(place, _)| Reverse(place)).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(Reverse(place)) = ready.pop() {
        order.push(place);
        for dependent in graph.neighbors(NodeIndex::new(place)).map(NodeIndex::index) {
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                ready.push(Reverse(dependent));
            }
        }
    }
    if order.len() == missing.len() { Ok(order) } else { Err(cycle(spec, graph)) }
}

/// The cycle of the first task in the file that is on one. Within a strongly connected component, walking from a task
/// to what it waits for must come back to where it was.
fn cycle(spec: &WorkflowSpec, graph: &Graph) -> PlanError {
    let waits_for_itself = |node| graph.contains_edge(node, node);
    // Iterative, other than Tarjan's: a file may hold a chain of ten thousand tasks.
    let components = kosaraju_scc(graph).into_iter().filter(|nodes| 1 < nodes.len() || waits_for_itself(nodes[0]));
    let component = components.min_by_key(|nodes| nodes.iter().min().copied()).unwrap_or_default();
    let inside: HashSet<_> = component.iter().copied().collect();
    let (mut walk, mut seen_at) = (Vec::new(), HashMap::new());
    let mut node = component.iter().min().copied().unwrap_or_default();
    while !seen_at.contains_key(&node) {
        seen_at.insert(node, walk.len());
        walk.push(node.index());
        let waited_for = graph.neighbors_directed(node, Direction::Incoming).filter(|next| inside.contains(next));
        node = waited_for.min().unwrap_or(node);
    }
    let mut cycle = walk.split_off(seen_at[&node]);
    // The walk may enter the cycle anywhere; the message begins with its first task in the file.
    let first = cycle.iter().enumerate().min_by_key(|(_, place)| **place).map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    cycle.extend(cycle.first().copied());
    PlanError::Cycle {
        workflow: spec.name.clone(),
        cycle: cycle.into_iter().map(|place| spec.tasks[place].name.clone()).collect(),
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn shown(cycle: &[String]) -> String {
    if cycle.len() <= CYCLE_NAMES_MAX {
        return cycle.join(" → ");
    }
    let (head, tail) = (&cycle[..CYCLE_NAMES_MAX - 1], &cycle[cycle.len() - 1..]);
    format!("{} → … {} more … → {}", head.join(" → "), cycle.len() - CYCLE_NAMES_MAX, tail.join(""))
}
