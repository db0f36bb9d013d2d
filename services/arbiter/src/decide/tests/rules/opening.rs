//! Opening the primary, and going on alone.

use super::*;

/// A primary that has just booted.
fn booted() -> Scene {
    let mut scene = Scene::whole();
    let primary = scene.facts(ONE);
    let server = &mut primary.server;
    (
        server.read_only,
        server.super_read_only,
        server.offline_mode,
    ) = (true, true, true);
    (
        primary.semi_sync.source_enabled,
        primary.semi_sync.source_active,
    ) = (false, false);
    scene.look.heart = Heart::Unknown;
    scene
}

#[test]
fn the_first_door_lets_the_replica_in_and_nobody_writes() {
    assert_eq!(booted().names(), ["enable_semi_sync", "lift_offline_mode"]);
}

#[test]
fn the_second_door_stays_shut_while_the_replica_lacks_what_the_primary_has() {
    let mut scene = booted();
    scene.facts(ONE).server.offline_mode = false;
    scene.facts(ONE).semi_sync.source_enabled = true;
    scene.facts(ONE).semi_sync.source_active = true;
    assert_eq!(scene.names(), ["allow_arbiter"]);
    scene.facts(ONE).server.executed = gtids(0, "1-3");
    scene.only_says(|said| matches!(said, Condition::Receiving { missing: 2, .. }));
}

#[test]
fn the_third_door_stays_shut_until_a_heartbeat_is_acknowledged() {
    let mut scene = Scene::whole();
    scene.facts(ONE).server.read_only = true;
    scene.look.heart = Heart::Unknown;
    scene.only_says(|said| matches!(said, Condition::FirstHeartbeat { .. }));
    scene.look.heart = Heart::Beats;
    assert_eq!(scene.names(), ["allow_writes"]);
}

#[test]
fn a_primary_that_was_restarted_stays_closed_without_its_replica_until_that_is_given_up() {
    let mut scene = booted();
    scene.gone(TWO);
    scene.only_says(|said| matches!(said, Condition::ClosedWithoutReplica { .. }));
    scene.look.closed_alone = LONG;
    assert_eq!(scene.steps(), [Step::Save(scene.state().alone())]);
}

#[test]
fn a_primary_that_lost_what_its_replica_has_is_not_opened_however_long_it_takes() {
    let mut scene = booted();
    scene.channel().received = gtids(0, "1-3");
    scene.look.closed_alone = LONG;
    scene.only_says(|said| matches!(said, Condition::PrimaryLost { .. }));
    scene.state = Some(scene.state().alone());
    scene.only_says(|said| matches!(said, Condition::PrimaryLost { .. }));
    // Nor is its replica made anew from it, whatever else that one has.
    scene.facts(TWO).server.executed = gtids(1, "1");
    scene.only_says(|said| matches!(said, Condition::PrimaryLost { .. }));
}

#[test]
fn a_primary_that_its_entrypoint_took_offline_is_not_let_in_again() {
    for mut scene in [Scene::whole(), Scene::alone()] {
        scene.facts(ONE).server.offline_mode = true;
        scene.only_says(|said| matches!(said, Condition::TakenOffline(_)));
    }
}

#[test]
fn a_primary_that_replicates_or_is_not_lossless_is_not_opened() {
    let mut scene = booted();
    scene.facts(ONE).replica = Scene::whole().facts(TWO).replica.clone();
    scene.only_says(|said| matches!(said, Condition::PrimaryReplicates(_)));
    let mut scene = booted();
    scene.facts(ONE).semi_sync.source_lossless = false;
    scene.only_says(|said| matches!(said, Condition::Lossy(_)));
}

#[test]
fn semi_sync_that_was_off_is_switched_on_and_a_person_is_told() {
    let mut scene = Scene::whole();
    scene.facts(ONE).semi_sync.source_enabled = false;
    assert_eq!(scene.names(), ["enable_semi_sync"]);
    assert!(!scene.decide().refusals().is_empty());
}

#[test]
fn a_primary_goes_on_alone_once_it_is_recorded_and_only_then_commits_wait_for_nobody() {
    let mut scene = Scene::whole();
    scene.look.heart = Heart::Silent;
    let state = scene.state().alone();
    let publish = Step::Publish {
        on: ONE.to_owned(),
        state: state.clone(),
    };
    assert_eq!(
        scene.steps(),
        [Step::Save(state), on(ONE, Step::DisableSemiSync), publish]
    );
}

#[test]
fn a_primary_whose_publication_would_wait_is_not_opened_before_it() {
    let mut scene = Scene::alone();
    let primary = scene.facts(ONE);
    primary.server.read_only = true;
    primary.semi_sync.source_enabled = true;
    scene.look.executed_before = None;
    assert!(!scene.names().contains(&"publish"), "{:?}", scene.steps());
    assert!(scene.names().contains(&"allow_writes"));
    scene.facts(ONE).row.as_mut().unwrap().epoch = 0;
    assert!(!scene.names().contains(&"publish"), "{:?}", scene.steps());
    assert!(!scene.names().contains(&"allow_writes"));
}

#[test]
fn a_primary_that_is_alone_is_opened_at_once() {
    let mut scene = booted();
    scene.state = Some(scene.state().alone());
    scene.gone(TWO);
    let opened = [
        "lift_offline_mode",
        "allow_arbiter",
        "publish",
        "allow_writes",
    ];
    assert_eq!(scene.names(), opened);
}

#[test]
fn a_round_changes_the_state_at_most_once() {
    let mut scene = Scene::whole().in_phase(Phase::Bootstrap);
    scene.facts(TWO).boot = "another".to_owned();
    scene.look.executed_before = Some(gtids(0, "1"));
    let saves = scene.names().iter().filter(|name| **name == "save").count();
    assert_eq!(saves, 1, "{:?}", scene.steps());
}
