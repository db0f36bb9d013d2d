//! Failover and promotion.

use super::*;

#[test]
fn a_primary_that_neither_witness_hears_is_replaced_and_first_that_is_recorded() {
    let scene = Scene::primary_lost();
    let begun = scene.state().in_phase(Phase::Failover);
    let fence = on(TWO, Step::StopReceiver);
    assert_eq!(scene.steps(), [Step::Save(begun), fence]);
}

#[test]
fn a_primary_that_its_replica_hears_is_not_replaced() {
    for mut scene in [Scene::whole(), Scene::alone()] {
        scene.gone(ONE);
        scene.only_says(|said| matches!(said, Condition::StillHeard { .. }));
        assert_eq!(scene.decide().refusals(), [""; 0]);
    }
}

#[test]
fn a_primary_that_the_arbiter_hears_is_not_replaced() {
    let mut scene = Scene::whole();
    scene.channel().receiver = "CONNECTING".to_owned();
    scene.channel().link_age = Some(LONG);
    scene.look.primary_away = LONG;
    assert_eq!(scene.steps(), []);
}

#[test]
fn a_short_silence_is_no_death() {
    let mut scene = Scene::primary_lost();
    scene.look.primary_away = TIMING.failover_after - Duration::from_millis(1);
    assert_eq!(scene.steps(), []);
}

#[test]
fn a_server_that_is_full_is_not_dead() {
    for (alive, away) in [(true, Duration::ZERO), (false, LONG)] {
        let mut scene = Scene::whole();
        scene.gone(ONE);
        let said = scene.look.servers.get_mut(ONE).unwrap();
        said.as_mut().unwrap_err().alive = alive;
        let mut earlier = Earlier::default();
        let now = Instant::now();
        let looks = [now, now + LONG].map(|at| scene.seen(&mut earlier, at, None));
        assert_eq!(looks[1].primary_away, away);
    }
}

#[test]
fn a_replica_that_is_not_in_sync_is_not_promoted() {
    let mut scene = Scene::primary_lost();
    scene.state = Some(scene.state().alone());
    let decision = scene.decide();
    assert_eq!(decision.steps, []);
    assert!(
        decision.refusals()[0].contains("force-promote mysql-2"),
        "{decision:?}"
    );
}

#[test]
fn a_replica_in_another_boot_is_not_promoted() {
    let mut scene = Scene::primary_lost();
    scene.facts(TWO).boot = "another".to_owned();
    scene.only_says(|said| matches!(said, Condition::RestartedReplica { .. }));
}

#[test]
fn a_promotion_waits_for_the_fence_to_be_seen() {
    let scene = Scene::primary_lost().in_phase(Phase::Failover);
    assert_eq!(scene.steps(), [on(TWO, Step::StopReceiver)]);
}

/// The fenced replica of a primary that is gone.
fn fenced() -> Scene {
    let mut scene = Scene::primary_lost().in_phase(Phase::Failover);
    scene.channel().receiver = "OFF".to_owned();
    scene
}

#[test]
fn a_promotion_waits_for_all_that_was_received_to_be_applied() {
    let mut scene = fenced();
    scene.channel().received = gtids(0, "1-3");
    scene.only_says(|said| matches!(said, Condition::Draining { missing: 2, .. }));
    scene.channel().applier_on = false;
    assert_eq!(scene.steps(), [on(TWO, Step::StartApplier)]);
    scene.channel().applier_error = 1062;
    scene.only_says(|said| matches!(said, Condition::ApplierStopped { number: 1062, .. }));
}

#[test]
fn a_promotion_is_recorded_before_the_new_primary_is_opened() {
    let scene = fenced();
    let promoted = scene.state().promoted(TWO);
    assert_eq!(scene.steps()[0], Step::Save(promoted));
    let opened = ["forget_source", "allow_arbiter", "publish", "allow_writes"];
    assert_eq!(scene.names()[1..], opened);
}

#[test]
fn a_promotion_goes_on_though_the_primary_is_back_for_the_fence_has_cut_it_off() {
    let mut scene = fenced();
    let back = Scene::whole().look.servers[ONE].clone();
    scene.look.servers.insert(ONE.to_owned(), back);
    assert_eq!(scene.names()[0], "save");
    assert!(matches!(&scene.steps()[0], Step::Save(state) if state.epoch == 2));
}

#[test]
fn a_promotion_is_taken_back_when_its_replica_has_restarted_and_the_primary_is_back() {
    let mut scene = Scene::whole().in_phase(Phase::Failover);
    scene.facts(TWO).boot = "another".to_owned();
    let back = scene.state().in_phase(Phase::Steady);
    assert_eq!(scene.steps(), [Step::Save(back)]);
    scene.gone(ONE);
    scene.only_says(|said| matches!(said, Condition::RestartedReplica { .. }));
    scene.gone(TWO);
    scene.only_says(|said| matches!(said, Condition::PromotionWaits { .. }));
}

#[test]
fn a_promotion_is_taken_back_when_the_primary_is_back_and_the_replica_cannot_go_on() {
    let mut stuck = Scene::whole().in_phase(Phase::Failover);
    stuck.channel().receiver = "OFF".to_owned();
    stuck.channel().received = gtids(0, "1-3");
    stuck.channel().applier_on = false;
    stuck.channel().applier_error = 1062;
    let mut replaced = Scene::whole().in_phase(Phase::Failover);
    let new = Facts::of_a_new_server("another");
    replaced.look.servers.insert(TWO.to_owned(), Ok(new));
    let mut refuses_us = Scene::whole().in_phase(Phase::Failover);
    refuses_us.gone(TWO);
    let said = refuses_us.look.servers.get_mut(TWO).unwrap();
    said.as_mut().unwrap_err().alive = true;
    for scene in [stuck, replaced, refuses_us] {
        let back = scene.state().in_phase(Phase::Steady);
        assert_eq!(scene.steps(), [Step::Save(back)]);
    }
}

#[test]
fn a_replica_that_was_promoted_and_still_receives_is_not_opened() {
    let mut scene = Scene::whole();
    scene.state = Some(scene.state().promoted(TWO));
    scene.gone(ONE);
    scene.only_says(|said| matches!(said, Condition::PrimaryReplicates(_)));
}
