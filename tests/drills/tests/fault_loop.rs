//! The fault loop, a short run of it: `./stack drill loop` has as many rounds as are wanted.

use anyhow::Result;
use drills::fault_loop::{self, Options};

/// Always the same faults, so that a failure is one of the code.
#[tokio::test(flavor = "multi_thread")]
async fn six_rounds_of_faults_lose_no_acknowledged_write() -> Result<()> {
    // It draws, one a round but for the fifth: the arbiter dies before stop_receiver once the primary is killed; the replica's link is cut
    // for 4.1 s; the primary is killed for 5.8 s; a switchover; the primary is frozen for 3.5 s and for 5.9 s while the applier is held up
    // for 4.3 s; the arbiter's links are silent for 4.6 s.
    let options = Options {
        rounds: 6,
        seed: 5503,
        from: 1,
    };
    println!("{}", fault_loop::run(options).await?);
    Ok(())
}
