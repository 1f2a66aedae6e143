//! Breadth first, so that what is found is reached by as few acts as can be. A state is known by a hash of all of
//! it; two that are taken for one would have to share 128 bits.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use crate::acts::Act;
use crate::scope::Scope;
use crate::world::World;

/// What an exploration saw.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) acts: usize,
    /// Acts from the beginning to the farthest state.
    pub(crate) depth: usize,
    /// States in which nothing more can happen.
    pub(crate) ends: usize,
    /// The kinds of steps that were carried out on the way.
    pub(crate) steps: BTreeSet<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { states, acts, depth, ends, .. } = self;
        write!(f, "{states} states, {acts} acts between them, {depth} deep, {ends} ends")
    }
}

/// A promise that was broken, and the way there.
pub(crate) struct Broken {
    pub(crate) what: String,
    path: Vec<Act>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after", self.what)?;
        for act in &self.path {
            write!(f, "\n    {act:?}")?;
        }
        Ok(())
    }
}

/// Goes through every state of a scope.
pub(crate) fn explore(scope: &Scope) -> Result<Found, Broken> {
    let first = World::begin(scope);
    let (mut seen, mut frontier) = (BTreeSet::from([first.hash()]), VecDeque::from([(first, 0, 0)]));
    // Of every state, where it came from.
    let mut origins: Vec<Option<(usize, Act)>> = vec![None];
    let mut found = Found { states: 1, acts: 0, depth: 0, ends: 0, steps: BTreeSet::new() };
    while let Some((world, origin, depth)) = frontier.pop_front() {
        found.depth = found.depth.max(depth);
        let acts = world.acts(scope);
        if acts.is_empty() {
            found.ends += 1;
        }
        for act in acts {
            found.acts += 1;
            found.steps.extend(act.step());
            let mut next = world.clone();
            if let Err(what) = next.act(scope, &act).and_then(|()| next.check(scope)) {
                return Err(Broken { what, path: path(&origins, origin, act) });
            }
            if seen.insert(next.hash()) {
                origins.push(Some((origin, act)));
                frontier.push_back((next, origins.len() - 1, depth + 1));
            }
        }
    }
    found.states = seen.len();
    Ok(found)
}

fn path(origins: &[Option<(usize, Act)>], mut at: usize, last: Act) -> Vec<Act> {
    let mut path = vec![last];
    while let Some((origin, act)) = &origins[at] {
        path.push(act.clone());
        at = *origin;
    }
    path.reverse();
    path
}
