//! For how long a machine has not been used. Time is monotonic, so the host's sleep is not idle time.

use std::collections::VecDeque;
use std::time::Duration;

/// Longest time over which the processor's use is averaged: a guest that does nothing has short bursts, such as timers.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Share of one processor, in percent, below which a machine does nothing. docs/reference/performance.md has the figures of idle
/// machines.
const SHARE: u32 = 5;
/// Processor time that one query of our own may cause in an emulated machine, and in another one: `status` runs some programs and
/// asks MCP, which takes 0.6 s and 0.03 s.
const QUERY: [Duration; 2] = [Duration::from_millis(1_200), Duration::from_millis(100)];
/// Share of one processor, in percent, that all queries of our own may cause, however many there are: above it, a program works
/// beside them.
const QUERIES_SHARE: [u32; 2] = [130, 50];

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// Monotonic time.
    pub now: Duration,
    /// Processor time of QEMU so far.
    pub cpu: Duration,
    /// Number of our own queries so far.
    pub queries: u64,
    /// Whether a person or a program has used the machine since the last observation.
    pub used: bool,
}

/// Measures the time since the last use.
#[derive(Debug)]
pub struct Idle {
    query: Duration,
    queries_share: u32,
    last_use: Duration,
    window: VecDeque<Observation>,
}

impl Idle {
    /// Returns a machine that is used now.
    #[must_use]
    pub fn since(now: Duration, is_emulated: bool) -> Self {
        let kind = usize::from(!is_emulated);
        Self { query: QUERY[kind], queries_share: QUERIES_SHARE[kind], last_use: now, window: VecDeque::new() }
    }

    /// Takes an observation and returns the idle time. The processor's use is averaged over the last `window`.
    pub fn observe(&mut self, seen: Observation, window: Duration) -> Duration {
        self.window.push_back(seen);
        // One observation that is as old as the window stays.
        while self.window.get(1).is_some_and(|second| second.now + window.min(WINDOW) <= seen.now) {
            self.window.pop_front();
        }
        if seen.used || self.is_busy(seen) {
            self.last_use = seen.now;
        }
        seen.now.saturating_sub(self.last_use)
    }

    fn is_busy(&self, now: Observation) -> bool {
        let Some(then) = self.window.front().filter(|then| then.now < now.now) else { return false };
        let queries = u32::try_from(now.queries.saturating_sub(then.queries)).unwrap_or(u32::MAX);
        let passed = now.now - then.now;
        let of_queries = self.query.saturating_mul(queries).min(self.query.max(passed * self.queries_share / 100));
        let allowed = passed * SHARE / 100 + of_queries;
        now.cpu.saturating_sub(then.cpu) > allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 5;

    /// A machine and its clock.
    struct World {
        idle: Idle,
        seen: Observation,
    }

    impl World {
        fn new(is_emulated: bool) -> Self {
            let start = Duration::from_secs(1_000);
            let seen = Observation { now: start, cpu: Duration::ZERO, queries: 0, used: false };
            Self { idle: Idle::since(start, is_emulated), seen }
        }

        /// Lets time pass with this share of a processor, in percent. Returns the idle time in seconds.
        fn pass(&mut self, seconds: u64, share: u32, queries: u64, used: bool) -> u64 {
            let mut idle = Duration::ZERO;
            for _ in 0..seconds / TICK {
                let tick = Duration::from_secs(TICK);
                self.seen.now += tick;
                self.seen.cpu += tick * share / 100;
                self.seen.queries += queries;
                idle = self.idle.observe(Observation { used, ..self.seen }, WINDOW);
            }
            idle.as_secs()
        }
    }

    #[test]
    fn an_idle_guests_timers_are_no_use() {
        let mut world = World::new(true);
        assert_eq!(world.pass(600, 3, 0, false), 600);
        // A burst of one second.
        world.seen.cpu += Duration::from_secs(1);
        assert_eq!(world.pass(60, 1, 0, false), 660);
    }

    #[test]
    fn work_and_uses_end_the_idle_time() {
        let mut world = World::new(true);
        assert_eq!(world.pass(300, 0, 0, false), 300);
        assert_eq!(world.pass(60, 40, 0, false), 0, "work");
        // The work is forgotten after the window.
        assert!((35..=60).contains(&world.pass(100, 0, 0, false)));
        assert_eq!(world.pass(5, 0, 0, true), 0, "a use");
        assert_eq!(world.pass(50, 0, 0, false), 50);
    }

    #[test]
    fn our_own_queries_may_cost_time_and_work_beside_them_is_still_seen() {
        let mut world = World::new(true);
        assert_eq!(world.pass(300, 20, 1, false), 300);
        assert_eq!(world.pass(300, 40, 1, false), 0);
        // Control: without queries, the same is work, and so it is in a machine that is not emulated.
        assert_eq!(World::new(true).pass(300, 20, 0, false), 0);
        assert_eq!(World::new(false).pass(300, 20, 1, false), 0);
    }

    /// Several programs may ask all the time: a processor that is fully used beside them is work.
    #[test]
    fn any_number_of_our_own_queries_hides_no_work() {
        for (is_emulated, busy) in [(true, 160), (false, 100)] {
            let mut world = World::new(is_emulated);
            assert_eq!(world.pass(300, busy, 100, false), 0, "{busy}");
        }
        // Control: what many queries cost is no use.
        assert_eq!(World::new(true).pass(300, 120, 10, false), 300);
        assert_eq!(World::new(false).pass(300, 40, 40, false), 300);
    }

    #[test]
    fn a_jump_of_the_processor_time_backwards_is_no_use() {
        let mut world = World::new(true);
        world.seen.cpu = Duration::from_secs(100);
        world.pass(10, 0, 0, false);
        world.seen.cpu = Duration::ZERO;
        assert_eq!(world.pass(10, 0, 0, false), 20);
    }
}
