//! What happens once or now and then: rejected promises, deoptimisations, and what ends a process.

use std::{sync::Arc, time::SystemTime};

use super::{ProcessId, Stack};

/// Rejected promises that nobody handled in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// For each of these Node emitted `unhandledRejection`.
    pub unhandled: u64,
    /// Of promises that had been rejected in an earlier turn: they got a handler after all.
    pub handled_late: u64,
}

/// Optimised code that was thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deopts {
    /// It met what it was not compiled for.
    pub eager: u64,
    /// Something it relied on had changed elsewhere.
    pub lazy: u64,
}

/// Answers to HTTP requests by a callback that came after the one that had read the request, by what became of the request's async
/// context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncContext {
    /// The callback has one.
    pub kept: u64,
    /// The request had one, or could have had, and the callback has none of it.
    pub lost: u64,
    /// None was seen, neither then nor before.
    pub none: u64,
}

impl AsyncContext {
    pub fn answers(self) -> u64 {
        self.kept + self.lost + self.none
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            kept: self.kept.saturating_sub(earlier.kept),
            lost: self.lost.saturating_sub(earlier.lost),
            none: self.none.saturating_sub(earlier.none),
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.kept += other.kept;
        self.lost += other.lost;
        self.none += other.none;
    }
}

impl Rejections {
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            unhandled: self.unhandled.saturating_sub(earlier.unhandled),
            handled_late: self.handled_late.saturating_sub(earlier.handled_late),
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.unhandled += other.unhandled;
        self.handled_late += other.handled_late;
    }
}

impl Deopts {
    pub fn total(self) -> u64 {
        self.eager + self.lazy
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { eager: self.eager.saturating_sub(earlier.eager), lazy: self.lazy.saturating_sub(earlier.lazy) }
    }

    pub fn merge(&mut self, other: Self) {
        self.eager += other.eager;
        self.lazy += other.lazy;
    }
}

/// What a stack was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Occasion {
    /// A promise was rejected that nobody handled.
    Rejection,
    /// The innermost function of a script lost its optimised code.
    Deopt,
    /// It lost code that V8 had made to be entered in a running loop, and which knows nothing of what comes after the loop.
    LoopExit,
    /// The young generation was full: what the stack allocates filled it.
    Allocation,
    /// Work was handed to libuv's pool of threads while work had to wait there.
    PoolWork,
    /// A request was answered without its async context.
    LostContext,
    /// A request that may have had no async context was answered by a callback without.
    NoContext,
}

impl Occasion {
    pub const ALL: [Self; 7] = [
        Self::Rejection,
        Self::Deopt,
        Self::LoopExit,
        Self::Allocation,
        Self::PoolWork,
        Self::LostContext,
        Self::NoContext,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejection => "rejection",
            Self::Deopt => "deopt",
            Self::LoopExit => "loop_exit",
            Self::Allocation => "allocation",
            Self::PoolWork => "pool_work",
            Self::LostContext => "lost_context",
            Self::NoContext => "no_context",
        }
    }
}

/// A stack, and how often it was taken since the previous snapshot; of allocations, for how many pages of the young generation it
/// stands. Stacks are bounded in number per second, so these are
/// samples; counts are in [`Rejections`] and [`Deopts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccasionStack {
    pub process: ProcessId,
    pub tid: u32,
    pub occasion: Occasion,
    pub stack: Arc<Stack>,
    pub count: u64,
}

/// What is worth telling of a process at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// An exception that nobody caught; unless the application handles `uncaughtException`, it ends the process.
    UncaughtException,
    /// The same with the reason of a rejected promise.
    UncaughtRejection,
    /// V8 asked to be allowed more heap than its limit.
    NearHeapLimit,
    /// V8 gave up; the process ends.
    OutOfMemory,
    /// A server began to listen.
    Listening,
}

impl NoticeKind {
    pub const ALL: [Self; 5] = [
        Self::UncaughtException,
        Self::UncaughtRejection,
        Self::NearHeapLimit,
        Self::OutOfMemory,
        Self::Listening,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::UncaughtException => "uncaught_exception",
            Self::UncaughtRejection => "uncaught_rejection",
            Self::NearHeapLimit => "near_heap_limit",
            Self::OutOfMemory => "out_of_memory",
            Self::Listening => "listening",
        }
    }
}

/// When it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub process: ProcessId,
    pub tid: u32,
    pub kind: NoticeKind,
    pub time: SystemTime,
}
