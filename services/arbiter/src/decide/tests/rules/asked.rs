//! What a person may ask for: switchover, maintenance, a forced promotion, adoption.

use replication::CloneState;

use super::*;

#[test]
fn a_switchover_is_announced_before_the_primary_is_closed_and_waits_for_what_has_begun() {
    let scene = Scene::whole();
    let granted = scene.ask(&Ask::Switchover).unwrap();
    assert_eq!(granted.phase, Phase::Switchover);
    let mut scene = scene.in_phase(Phase::Switchover);
    assert_eq!(scene.names(), ["publish"]);
    scene.facts(ONE).row.as_mut().unwrap().phase = "switchover".to_owned();
    scene.facts(ONE).open_transactions = Some(1);
    scene.only_says(|said| matches!(said, Condition::SwitchingOver(_)));
    scene.look.phase_age = TIMING.switchover_limit * 2 / 3;
    assert_eq!(scene.names(), ["forbid_writes"]);
    scene.look.phase_age = Duration::ZERO;
    scene.facts(ONE).open_transactions = Some(0);
    assert_eq!(scene.names(), ["forbid_writes"]);
}

#[test]
fn a_switchover_fences_and_promotes_only_when_the_replica_has_everything() {
    let mut scene = Scene::whole().in_phase(Phase::Switchover);
    scene.facts(ONE).server.super_read_only = true;
    scene.facts(ONE).server.executed = gtids(0, "1-3");
    scene.only_says(|said| matches!(said, Condition::Draining { missing: 2, .. }));
    scene.facts(TWO).server.executed = gtids(0, "1-3");
    assert_eq!(scene.names(), ["stop_receiver"]);
    scene.channel().receiver = "OFF".to_owned();
    assert_eq!(scene.steps()[0], Step::Save(scene.state().promoted(TWO)));
}

#[test]
fn a_switchover_is_given_up_at_its_limit_and_when_either_server_is_lost() {
    let mut late = Scene::whole().in_phase(Phase::Switchover);
    late.look.phase_age = LONG;
    let mut without_primary = Scene::whole().in_phase(Phase::Switchover);
    without_primary.gone(ONE);
    let mut without_replica = Scene::whole().in_phase(Phase::Switchover);
    without_replica.gone(TWO);
    let mut restarted = Scene::whole().in_phase(Phase::Switchover);
    restarted.facts(TWO).boot = "another".to_owned();
    for scene in [late, without_primary, without_replica, restarted] {
        let given_up = scene.state().in_phase(Phase::Steady);
        assert_eq!(scene.steps(), [Step::Save(given_up)]);
    }
}

#[test]
fn a_switchover_is_refused_where_it_would_lose_or_take_long() {
    let mut silent = Scene::whole();
    silent.look.heart = Heart::Silent;
    silent.refuses(&Ask::Switchover, "acknowledged nothing");
    let mut opening = Scene::whole();
    opening.facts(ONE).server.read_only = true;
    opening.refuses(&Ask::Switchover, "not open yet");
    let mut restarted = Scene::whole();
    restarted.facts(TWO).boot = "another".to_owned();
    restarted.refuses(&Ask::Switchover, "not in sync");
    Scene::alone().refuses(&Ask::Switchover, "not in sync");
    let mut behind = Scene::whole();
    behind.facts(ONE).server.executed = gtids(0, "1-5000");
    behind.refuses(&Ask::Switchover, "transactions to apply");
    let mut gone = Scene::whole();
    gone.gone(TWO);
    gone.refuses(&Ask::Switchover, "both servers are needed");
    let changing = Scene::whole().in_phase(Phase::Failover);
    changing.refuses(&Ask::Switchover, "under way");
    Scene::new().refuses(&Ask::Switchover, "no state yet");
}

#[test]
fn a_server_in_maintenance_is_out_of_sync_until_it_ends() {
    let mut scene = Scene::whole();
    let begin = Ask::BeginMaintenance(TWO.to_owned());
    let granted = scene.ask(&begin).unwrap();
    let expected = scene.state().alone();
    assert_eq!(
        granted,
        expected.in_phase(Phase::Maintenance(TWO.to_owned()))
    );
    scene.state = Some(granted);
    let steps = scene.names();
    assert!(
        steps.contains(&"disable_semi_sync") && !steps.contains(&"save"),
        "{steps:?}"
    );
    scene.facts(ONE).semi_sync.source_enabled = false;
    assert!(
        !scene.names().contains(&"enable_semi_sync"),
        "it does not grow"
    );
    scene.refuses(&Ask::Switchover, "in maintenance");
    scene.refuses(&Ask::EndMaintenance(ONE.to_owned()), "not in maintenance");
    let ended = scene.ask(&Ask::EndMaintenance(TWO.to_owned())).unwrap();
    assert_eq!(ended, expected);
}

#[test]
fn maintenance_of_the_primary_or_without_an_open_one_is_refused() {
    let scene = Scene::whole();
    scene.refuses(&Ask::BeginMaintenance(ONE.to_owned()), "switchover");
    scene.refuses(&Ask::BeginMaintenance("x".to_owned()), "no server x");
    let mut scene = Scene::whole();
    scene.gone(ONE);
    scene.refuses(&Ask::BeginMaintenance(TWO.to_owned()), "not open");
}

fn force(accept_loss: bool) -> Ask {
    Ask::ForcePromote {
        server: TWO.to_owned(),
        accept_loss,
    }
}

#[test]
fn a_promotion_is_forced_only_with_the_loss_accepted_and_only_if_the_primary_is_silent() {
    let mut scene = Scene::alone();
    scene.refuses(&force(true), "answers");
    scene.gone(ONE);
    scene.refuses(&force(true), "mysql-2 hears from mysql-1");
    scene.channel().receiver = "CONNECTING".to_owned();
    scene.look.primary_away = Duration::from_millis(1);
    scene.refuses(&force(true), "ask again");
    scene.look.primary_away = LONG;
    scene.look.primary_executed = None;
    scene.refuses(&force(false), "not known");
    scene.look.primary_executed = Some(gtids(0, "1-3"));
    scene.refuses(&force(false), "2 transactions");
    let granted = scene.ask(&force(true)).unwrap();
    assert_eq!(granted, scene.state().in_phase(Phase::ForcedPromotion));
    let said = scene.look.servers.get_mut(ONE).unwrap();
    said.as_mut().unwrap_err().alive = true;
    scene.refuses(&force(true), "answers");
    scene.gone(TWO);
    scene.gone(ONE);
    scene.refuses(&force(true), "does not answer either");
    let primary = Ask::ForcePromote {
        server: ONE.to_owned(),
        accept_loss: true,
    };
    scene.refuses(&primary, "only mysql-2");
}

#[test]
fn nobody_promotes_a_server_whose_data_is_nobodys() {
    type Spoil = fn(&mut Scene);
    let spoils: [Spoil; 5] = [
        |scene| scene.look.cloning = Some(TWO.to_owned()),
        |scene| scene.facts(TWO).clone = CloneState::Running,
        |scene| scene.facts(TWO).clone = CloneState::Broken,
        |scene| scene.facts(TWO).server.executed = GtidSet::default(),
        |scene| scene.facts(TWO).server.super_read_only = false,
    ];
    for spoil in spoils {
        let mut scene = Scene::alone();
        scene.gone(ONE);
        scene.channel().receiver = "OFF".to_owned();
        spoil(&mut scene);
        scene.refuses(&force(true), "cannot be promoted");
        let scene = scene.in_phase(Phase::ForcedPromotion);
        let back = scene.state().in_phase(Phase::Steady);
        assert_eq!(scene.steps(), [Step::Save(back)]);
    }
    let mut scene = Scene::alone().in_phase(Phase::ForcedPromotion);
    scene.gone(ONE);
    let new = Facts::of_a_new_server("another");
    scene.look.servers.insert(TWO.to_owned(), Ok(new));
    let back = scene.state().in_phase(Phase::Steady);
    assert_eq!(
        scene.steps(),
        [Step::Save(back)],
        "it is not taken for the one of the state"
    );
}

#[test]
fn a_forced_promotion_applies_what_was_received_and_is_taken_back_if_the_primary_is_back() {
    let mut scene = Scene::alone().in_phase(Phase::ForcedPromotion);
    let back = scene.state().in_phase(Phase::Steady);
    assert_eq!(scene.steps(), [Step::Save(back)]);
    scene.gone(ONE);
    scene.facts(TWO).boot = "another".to_owned();
    assert_eq!(scene.names(), ["stop_receiver"]);
    scene.channel().receiver = "OFF".to_owned();
    scene.channel().received = gtids(0, "1-3");
    assert_eq!(scene.names(), [""; 0]);
    scene.channel().received = gtids(0, "1");
    assert_eq!(scene.steps()[0], Step::Save(scene.state().promoted(TWO)));
}

/// A pair that somebody had set up, before there was an arbiter.
fn running() -> Scene {
    let mut scene = Scene::whole();
    scene.state = None;
    scene
}

fn adopt(server: &str) -> Ask {
    Ask::Adopt(server.to_owned())
}

#[test]
fn a_running_pair_is_adopted_with_the_primarys_data_alone_and_an_epoch_of_its_own() {
    let mut scene = running();
    scene.facts(ONE).row.as_mut().unwrap().epoch = 7;
    let state = scene.ask(&adopt(ONE)).unwrap();
    assert_eq!((state.epoch, state.primary.as_str()), (8, ONE));
    assert!(!state.is_redundant() && state.phase == Phase::Steady);
}

#[test]
fn an_adoption_that_would_throw_something_away_or_that_is_not_clear_is_refused() {
    Scene::whole().refuses(&adopt(ONE), "a state already");
    running().refuses(&adopt("x"), "no server x");
    running().refuses(&adopt(TWO), "replicates from mysql-1");
    let mut scene = running();
    scene.facts(TWO).server.executed = gtids(1, "1-3");
    scene.refuses(&adopt(ONE), "throw them away");
    let mut scene = running();
    scene.channel().source_uuid = "another".to_owned();
    scene.refuses(&adopt(ONE), "from another server");
    let mut scene = running();
    scene.facts(TWO).server.uuid = UUIDS[0].to_owned();
    scene.refuses(&adopt(ONE), "same server_uuid");
    let mut scene = running();
    scene.gone(TWO);
    scene.refuses(&adopt(ONE), "both servers have to answer");
}
