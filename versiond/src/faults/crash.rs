//! Where versiond can be made to die: before and after every effect, that is, everything it does to the world
//! outside its own memory.
//!
//! `versiond run --crash-at publish:after:2` kills the process with SIGKILL the second time it has passed that
//! point. A release has neither the option nor the code: there the calls below are empty.

/// Before an effect, or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// Every effect by its name, which is what [`before`] and [`after`] are called with. Those of a slot's steps are
/// the names of [`versiond_core::slot::Step`], by what they do to the world: one that comes back is published, one
/// that is held is withdrawn.
pub const EFFECTS: [&str; 21] = [
    "absent",
    "catalog_keep",
    "cut",
    "describe",
    "drain_child",
    "exec",
    "fetch",
    "forget",
    "fork",
    "kill",
    "ledger_write",
    "listen",
    "pre_upgrade",
    "pre_upgrade_mark",
    "publish",
    "ready",
    "start",
    "store_commit",
    "sweep",
    "terminate",
    "withdraw",
];

/// Dies here if it was asked to.
#[inline]
pub fn before(effect: &'static str) {
    pass(effect, Side::Before);
}

/// Dies here if it was asked to.
#[inline]
pub fn after(effect: &'static str) {
    pass(effect, Side::After);
}

#[cfg(not(feature = "faults"))]
#[inline]
fn pass(_: &'static str, _: Side) {}

#[cfg(feature = "faults")]
use self::armed::pass;
#[cfg(feature = "faults")]
pub use self::armed::{Point, PointError, arm};

#[cfg(feature = "faults")]
mod armed {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::getpid;

    use super::{EFFECTS, Side};

    static ARMED: OnceLock<Point> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    /// Where to die, and at which passage.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Point {
        effect: &'static str,
        side: Side,
        passage: u32,
    }

    /// Why a text names no point.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    pub enum PointError {
        #[error("a point is EFFECT:before or EFFECT:after, and may end with :N, the passage that counts")]
        Shape,
        #[error("the effects are {}", EFFECTS.join(", "))]
        Effect,
    }

    impl FromStr for Point {
        type Err = PointError;

        fn from_str(text: &str) -> Result<Point, PointError> {
            let mut parts = text.split(':');
            let (Some(effect), Some(side)) = (parts.next(), parts.next()) else { return Err(PointError::Shape) };
            let effect = EFFECTS.into_iter().find(|known| *known == effect).ok_or(PointError::Effect)?;
            let side = match side {
                "before" => Side::Before,
                "after" => Side::After,
                _ => return Err(PointError::Shape),
            };
            let passage = parts.next().map_or(Ok(1), str::parse).map_err(|_| PointError::Shape)?;
            if passage == 0 || parts.next().is_some() {
                return Err(PointError::Shape);
            }
            Ok(Point { effect, side, passage })
        }
    }

    /// From now on the process dies at this point. The first call counts.
    pub fn arm(point: Point) {
        ARMED.set(point).ok();
    }

    pub(super) fn pass(effect: &'static str, side: Side) {
        debug_assert!(EFFECTS.contains(&effect), "{effect} is not in the list");
        let Some(point) = ARMED.get().filter(|point| point.effect == effect && point.side == side) else { return };
        if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == point.passage {
            // Nothing runs any more after this: no destructor, no last write.
            kill(getpid(), Signal::SIGKILL).ok();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_names_an_effect_a_side_and_a_passage() {
            let point = |text: &str| text.parse::<Point>();
            assert_eq!(point("publish:after"), Ok(Point { effect: "publish", side: Side::After, passage: 1 }));
            assert_eq!(point("fork:before:3"), Ok(Point { effect: "fork", side: Side::Before, passage: 3 }));
            assert_eq!(point("lunch:before"), Err(PointError::Effect));
            for wrong in ["", "publish", "publish:during", "publish:after:0", "publish:after:x", "publish:after:1:2"] {
                assert!(point(wrong).is_err(), "{wrong}");
            }
        }

        #[test]
        fn the_effects_are_in_order_and_named_once() {
            assert!(EFFECTS.windows(2).all(|pair| pair[0] < pair[1]), "{EFFECTS:?}");
        }
    }
}
