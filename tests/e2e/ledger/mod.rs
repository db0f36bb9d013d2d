//! Everything that moves money: calls that only call, and calls while things break.

pub(crate) mod browser;
pub(crate) mod calls;
pub(crate) mod client;
pub(crate) mod faults;
pub(crate) mod pages;
pub(crate) mod telemetry;
