//! The replica: growing, being closed, being made anew.

use super::*;

/// Commits wait for a replica that is not yet in sync and has all that is needed to be.
fn growing() -> Scene {
    let mut scene = Scene::alone();
    scene.facts(ONE).semi_sync.source_enabled = true;
    scene.look.executed_before = Some(gtids(0, "1"));
    scene
}

#[test]
fn a_replica_that_has_applied_everything_grows() {
    let scene = growing();
    let boot = scene.look.facts(TWO).unwrap().boot.clone();
    assert_eq!(scene.steps()[0], Step::Save(scene.state().grown(&boot)));
}

#[test]
fn a_replica_does_not_grow_without_any_one_part_of_the_proof() {
    type Flaw = fn(&mut Scene);
    let flaws: [(&str, Flaw); 5] = [
        ("not lossless", |scene| {
            scene.facts(ONE).semi_sync.source_lossless = false;
        }),
        ("no heartbeat", |scene| scene.look.heart = Heart::Unknown),
        ("no look before", |scene| scene.look.executed_before = None),
        ("received, not applied", |scene| {
            scene.look.executed_before = Some(gtids(0, "1-2"));
            scene.channel().received = gtids(0, "1-2");
        }),
        ("its disk is not waited for", |scene| {
            scene.facts(TWO).semi_sync.relay_log_synced = false;
        }),
    ];
    for (flaw, make) in flaws {
        let mut scene = growing();
        make(&mut scene);
        assert!(
            !scene.names().contains(&"save"),
            "{flaw}: {:?}",
            scene.steps()
        );
    }
}

/// A commit that began before semi-sync was on is acknowledged by the primary alone. A heartbeat that began after it is behind it.
#[test]
fn a_heartbeat_that_began_before_semi_sync_was_seen_proves_nothing() {
    let scene = growing();
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    for (begun, proves) in [(50, false), (150, true)] {
        let mut earlier = Earlier::default();
        let looks = [0, 100, 200, 300].map(|now| {
            let beat = Beaten {
                begun: at(begun),
                at: at(160),
            };
            scene.seen(&mut earlier, at(now), (now > 160).then_some(beat))
        });
        let known = looks.map(|look| look.executed_before.is_some());
        assert_eq!(known, [false, false, false, proves]);
    }
}

#[test]
fn a_look_at_another_boot_of_either_server_proves_nothing() {
    for name in NAMES {
        let mut scene = growing();
        let start = Instant::now();
        let mut earlier = Earlier::default();
        let at = |ms| start + Duration::from_millis(ms);
        let mut look = |scene: &Scene, ms| {
            let beat = Beaten {
                begun: at(150),
                at: at(160),
            };
            scene.seen(&mut earlier, at(ms), (ms > 150).then_some(beat))
        };
        for ms in [0, 100, 200] {
            look(&scene, ms);
        }
        scene.facts(name).boot = "another".to_owned();
        assert_eq!(look(&scene, 300).executed_before, None);
    }
}

#[test]
fn a_replica_that_is_far_behind_does_not_wait_for_its_disk_until_it_has_caught_up() {
    let mut scene = Scene::alone();
    scene.facts(ONE).server.executed = gtids(0, "1-5000");
    assert_eq!(scene.names(), ["relax_relay_log"]);
    scene.facts(TWO).semi_sync.relay_log_synced = false;
    assert_eq!(scene.names(), [""; 0]);
    scene.facts(ONE).server.executed = gtids(0, "1-50");
    assert_eq!(scene.names(), ["sync_relay_log", "enable_semi_sync"]);
}

#[test]
fn a_primary_whose_own_commits_hang_waits_for_nobody_more() {
    for heart in [Heart::Silent, Heart::Unknown] {
        let mut scene = Scene::alone();
        scene.look.heart = heart;
        assert_eq!(scene.names(), [""; 0]);
        scene.look.heart = Heart::Beats;
        assert_eq!(scene.names(), ["enable_semi_sync"]);
    }
}

#[test]
fn a_primary_that_commits_nothing_though_it_waits_for_nobody_is_said_to_be_stuck() {
    let mut scene = Scene::alone();
    scene.look.heart = Heart::Silent;
    let is_stuck = |said: &Condition| matches!(said, Condition::CommitsNothing(_));
    assert!(!scene.decide().conditions.iter().any(is_stuck));
    scene.look.commits_nothing = LONG;
    scene.only_says(is_stuck);
}

#[test]
fn a_replica_that_does_not_acknowledge_while_it_grows_is_waited_for_no_more() {
    let mut scene = growing();
    scene.look.heart = Heart::Silent;
    assert_eq!(scene.names()[0], "disable_semi_sync");
}

#[test]
fn a_replica_that_restarted_is_in_sync_again_only_when_it_has_everything() {
    let mut scene = Scene::whole();
    scene.facts(TWO).boot = "another".to_owned();
    scene.look.executed_before = None;
    scene.only_says(|said| matches!(said, Condition::GrowingBack(_)));
    scene.look.executed_before = Some(gtids(0, "1"));
    assert_eq!(scene.steps(), [Step::Save(scene.state().grown("another"))]);
}

#[test]
fn a_deposed_primary_is_cut_off_then_restarted_if_commits_wait_else_made_read_only() {
    let mut scene = Scene::alone();
    let replica = scene.facts(TWO);
    (replica.server.read_only, replica.server.super_read_only) = (false, false);
    replica.semi_sync.source_enabled = true;
    replica.semi_sync.waiting_sessions = 1;
    let first = |scene: &Scene| scene.steps()[0].clone();
    assert_eq!(first(&scene), on(TWO, Step::TakeOffline));
    assert!(
        !scene.names().contains(&"disable_semi_sync"),
        "it would tell OK to who waits"
    );
    scene.facts(TWO).server.offline_mode = true;
    assert_eq!(first(&scene), on(TWO, Step::Restart));
    scene.facts(TWO).semi_sync.waiting_sessions = 0;
    assert_eq!(first(&scene), on(TWO, Step::ForbidWrites));
    scene.look.writable_replica = LONG;
    assert_eq!(first(&scene), on(TWO, Step::Restart));
}

/// A replica with a transaction that nobody else has.
fn errant(mut scene: Scene) -> Scene {
    let executed = scene.facts(TWO).server.executed.union(&gtids(1, "7"));
    scene.facts(TWO).server.executed = executed;
    scene
}

#[test]
fn a_replica_with_transactions_of_its_own_is_made_anew_and_they_are_saved_first() {
    let scene = errant(Scene::alone());
    let steps = ["take_offline", "forget_source", "save_discarded", "clone"];
    assert_eq!(scene.names()[..4], steps);
    let saved = Step::SaveDiscarded {
        server: TWO.to_owned(),
        errant: gtids(1, "7"),
    };
    assert_eq!(scene.steps()[2], saved);
    assert_eq!(scene.decide().refusals(), [""; 0]);
}

#[test]
fn a_person_is_told_when_what_a_replica_has_alone_cannot_be_saved() {
    let mut scene = errant(Scene::alone());
    scene.look.not_saved = Some("no space left on device".to_owned());
    let said = scene.decide().refusals();
    assert!(said[0].contains("no space left on device"), "{said:?}");
    assert!(
        scene.names().contains(&"save_discarded"),
        "it is tried again"
    );
}

#[test]
fn a_replica_that_is_in_sync_or_waited_for_is_not_made_anew() {
    let scene = errant(Scene::whole());
    assert!(!scene.names().contains(&"clone"), "{:?}", scene.steps());
    assert_eq!(scene.steps()[0], Step::Save(scene.state().alone()));
    let scene = errant(growing());
    assert!(!scene.names().contains(&"clone"), "{:?}", scene.steps());
}

#[test]
fn a_replica_that_is_broken_or_empty_or_lacks_what_was_purged_is_made_anew() {
    let mut broken = Scene::alone();
    broken.facts(TWO).clone = replication::CloneState::Broken;
    let mut purged = Scene::alone();
    purged.facts(ONE).server.purged = gtids(0, "1-9");
    purged.facts(ONE).server.executed = gtids(0, "1-9");
    let mut empty = Scene::alone();
    empty.facts(TWO).server.executed = GtidSet::default();
    for scene in [broken, purged, empty] {
        assert!(scene.names().contains(&"clone"), "{:?}", scene.steps());
        assert!(
            !scene.names().contains(&"save_discarded"),
            "{:?}",
            scene.steps()
        );
    }
}

#[test]
fn a_replica_that_is_being_made_anew_is_left_alone() {
    let mut scene = errant(Scene::alone());
    scene.look.cloning = Some(TWO.to_owned());
    scene.only_says(|said| matches!(said, Condition::Cloning { .. }));
    scene.look.cloning = None;
    scene.facts(TWO).clone = replication::CloneState::Running;
    scene.only_says(|said| matches!(said, Condition::Cloning { .. }));
}

#[test]
fn an_empty_replica_with_a_new_identity_is_taken_for_a_new_server_once_the_primary_is_alone() {
    let new = "3e11fa47-71ca-11e1-9e33-c80aa9429569";
    let mut scene = Scene::alone();
    *scene.facts(TWO) = Facts::of_a_new_server(new);
    let decision = scene.decide();
    assert!(matches!(&decision.steps[..], [Step::Save(state)] if state.uuids[TWO] == new));
    let mut scene = Scene::whole();
    *scene.facts(TWO) = Facts::of_a_new_server(new);
    assert_eq!(scene.names(), [""; 0]);
}

#[test]
fn a_channel_that_leads_elsewhere_is_emptied_before_it_is_wired_anew() {
    let mut scene = Scene::alone();
    scene.channel().source_host = "elsewhere".to_owned();
    assert_eq!(scene.names()[0], "stop_receiver");
    scene.channel().receiver = "OFF".to_owned();
    scene.channel().received = gtids(0, "1-3");
    assert!(!scene.names().contains(&"wire"));
    scene.channel().received = GtidSet::default();
    assert_eq!(scene.names()[0], "wire");
}

#[test]
fn a_receiver_that_does_not_acknowledge_is_restarted_after_a_while() {
    let mut scene = Scene::whole();
    scene.facts(TWO).semi_sync.replica_active = false;
    assert_eq!(scene.names(), [""; 0]);
    scene.look.receiving_only = LONG;
    assert_eq!(scene.names(), ["stop_receiver", "start_receiver"]);
    scene.facts(TWO).semi_sync.replica_enabled = false;
    assert_eq!(scene.names(), ["enable_acknowledging", "stop_receiver"]);
}

#[test]
fn a_replica_without_its_primary_serves_reads_and_is_not_attached_unseen() {
    let mut scene = Scene::whole();
    scene.gone(ONE);
    scene.look.primary_away = Duration::ZERO;
    scene.channel().receiver = "OFF".to_owned();
    scene.channel().applier_on = false;
    scene.facts(TWO).server.offline_mode = true;
    assert_eq!(scene.names(), ["start_applier", "lift_offline_mode"]);
}

#[test]
fn an_applier_that_met_an_error_is_left_to_a_person() {
    let mut scene = Scene::whole();
    scene.channel().applier_on = false;
    scene.channel().applier_error = 1062;
    scene.only_says(|said| matches!(said, Condition::ApplierStopped { .. }) && !said.passes());
}
