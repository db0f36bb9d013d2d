//! The fault loop, a short run of it: `./stack drill loop` has as many rounds as are wanted.

use anyhow::Result;
use drills::fault_loop::{self, Options};

/// Always the same faults, so that a failure is one of the code.
#[tokio::test(flavor = "multi_thread")]
async fn six_rounds_of_faults_lose_no_acknowledged_write() -> Result<()> {
    let options = Options {
        rounds: 6,
        seed: 1,
        from: 1,
    };
    println!("{}", fault_loop::run(options).await?);
    Ok(())
}
