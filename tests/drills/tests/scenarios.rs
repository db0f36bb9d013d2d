//! The named drills, one test each: `./stack drill list`. The arbiter is a process, the servers are real, and clients write all the time.

use anyhow::{Context, Result};

/// Of the places around the steps of a change; `./stack drill NAME` has them all.
const DEATHS_MAX: usize = 4;

async fn play(name: &str) -> Result<()> {
    let scenario = drills::scenario::named(name).context("there is no such drill")?;
    let outcome = scenario.play_with(Some(DEATHS_MAX)).await?;
    println!("{name}: {outcome}");
    Ok(())
}

/// A test for each, and one that none is left out.
macro_rules! drills {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() -> Result<()> {
                play($name).await
            }
        )*

        #[test]
        fn every_drill_is_a_test() {
            let tested = [$($name),*];
            let all: Vec<&str> = drills::scenario::ALL.iter().map(|scenario| scenario.name).collect();
            assert_eq!(all, tested);
        }
    };
}

drills! {
    a_primary_that_is_killed_is_replaced_and_comes_back: "primary-killed",
    a_primary_that_is_frozen_and_thawed_has_acknowledged_nothing_of_its_own: "primary-frozen",
    a_replica_that_is_killed_is_left_out_and_comes_back: "replica-killed",
    after_both_were_killed_everything_acknowledged_is_there: "both-killed",
    after_both_were_restarted_everything_acknowledged_is_there: "both-restarted",
    a_primary_cut_off_from_its_replica_goes_on_alone: "cut-off-from-the-replica",
    a_primary_cut_off_from_the_arbiter_stays_primary: "cut-off-from-the-arbiter",
    a_primary_cut_off_from_both_is_replaced: "cut-off-from-both",
    a_primary_in_a_silent_network_is_replaced: "silent-to-both",
    a_stale_replica_is_not_promoted: "stale-replica",
    a_forced_promotion_loses_what_it_says_and_no_more: "forced-promotion",
    an_errant_transaction_is_saved_readably_and_the_server_cloned: "errant-transaction",
    an_arbiter_that_dies_at_any_step_of_a_failover_is_no_end: "arbiter-dies-in-failover",
    an_arbiter_that_dies_at_any_step_of_growing_is_no_end: "arbiter-dies-in-grow",
    an_arbiter_that_dies_at_any_step_of_shrinking_is_no_end: "arbiter-dies-in-shrink",
    an_arbiter_that_dies_at_any_step_of_a_switchover_is_no_end: "arbiter-dies-in-switchover",
    a_primary_whose_disk_is_full_loses_nothing: "disk-full",
    a_replica_in_maintenance_holds_nobody_up: "maintenance",
    a_switchover_under_load_fails_no_write_of_who_holds_back: "switchover",
}

/// Who never says no says nothing: one row is taken away behind everybody's back.
#[tokio::test(flavor = "multi_thread")]
async fn the_judge_finds_an_acknowledged_row_that_was_removed_by_hand() -> Result<()> {
    let stage = drills::Stage::set(drills::stage::Kind::Usual).await?;
    stage.judge().await.context("with nothing removed")?;
    stage.whole().await?;
    let primary = stage.primary().await?;
    let mut app = stage.server(primary).connect(harness::Account::App).await?;
    let removed = sqlx::query("DELETE FROM ledger.drill ORDER BY id LIMIT 1")
        .execute(&mut app)
        .await?;
    anyhow::ensure!(removed.rows_affected() == 1);
    let verdict = stage
        .judge()
        .await
        .err()
        .context("the judge does not miss it")?;
    let said = format!("{verdict:#}");
    anyhow::ensure!(
        said.contains(" 1 lost") && said.contains("acknowledged, and lost"),
        "{said}"
    );
    println!("{said}");
    Ok(())
}
