//! Waiting for a condition instead of sleeping.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Between two looks: short beside anything a test waits for, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` is true, and fails with `what` when it is not after `within`.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// let mut looks = 0;
/// let counted = harness::wait_until("three looks", std::time::Duration::from_secs(1), async || {
///     looks += 1;
///     looks == 3
/// });
/// counted.await.unwrap();
/// # });
/// ```
pub async fn wait_until(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<()> {
    wait_for(what, within, async || condition().await.then_some(())).await
}

/// Like [`wait_until`], for a condition that has a value once it is met.
pub async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("not within {within:?}: {what}");
        }
        sleep(PAUSE).await;
    }
}
